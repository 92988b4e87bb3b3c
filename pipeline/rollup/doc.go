// Package rollup makes coarser windows out of final ones: the periods of a calendar, each merged from the states of the
// windows that lie in it. It decides from the ledger alone what is to be done, so a run that was skipped, cut off or repeated
// needs no memory of its own: the next one does what is missing, and nothing twice. Nothing here depends on Redis having
// kept anything.
//
// Non-obvious, and the cause of wrong results when forgotten:
//
//   - A window without a row is empty only at or below the floor of its family. Above it, it may still get a row.
//   - A roll-up window is done when its row names the revisions and checksums that its children have now. The same number of
//     the same children says nothing.
//   - A period that had no row when a floor passed it may get one: a replay counts events where there were none. What tells it
//     from one whose row was given up is how old its children's rows are.
//   - Roll-ups are taken in the order of the spec, so that one made from another sees what this run has published.
package rollup
