// Package contract is what workflows, activities, workers and clients agree on: names, ids, task queues, options, typed
// inputs, requests and receipts. Histories outlive releases, so everything here is append-only: names never change
// their meaning, fields are added and never re-used, and state written by a newer worker still decodes here. The
// golden files in testdata hold every name and every struct's JSON.
package contract
