// Package diff says how what a shadow has counted differs from what is published: rows in pages, a header for each window,
// and how a published content and a difference make the new content. It knows bytes and rows: no Redis, no Kafka.
package diff
