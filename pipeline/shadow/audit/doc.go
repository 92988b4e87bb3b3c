// Package audit compares what was counted of a window with every place where its content stands: the ledger row, the view in
// Redis and the result topic, each by itself, and names the keys that differ. It only reads.
package audit
