// Package result closes windows: it merges the lanes' partials of a window, freezes the content as a revision, publishes
// it in one Kafka transaction together with its ledger row, and lets the lanes drop what can no longer change. It also
// reads what was published and verifies it. It never writes lane state and knows nothing of Temporal.
//
// Non-obvious, and the cause of wrong results when forgotten:
//
//   - A look at the lanes (view) is taken in a fixed order: partition lists from Kafka, then each lane's meta with its
//     slices in one read, then the broker's ends of lanes that claim to be idle. A lane is left out as idle only when the
//     broker's end, asked after the claim, still is the one it claims.
//   - What a revision covers of a lane is the offset of the meta read before its entries. An entry whose stamp lies above
//     holds events of a commit whose meta is not there yet; such a read is not exact and is done again.
//   - The highest revision published is what the ledger topic says, read after InitProducerId on the slot's transactional
//     id. Nothing of it may be kept once a transaction of the slot's producer failed or its outcome is unknown.
//   - The content of a revision is whatever was completely prepared first under its number. A retry publishes that, never
//     what it would read now, and a newer state of the window becomes the next revision.
//   - The same content is never published twice in a row: the ledger row alone is written again, under the same revision.
//   - Windows become final in the order of their deadlines as far as dropping goes: drop_before may only be raised to a
//     deadline when every window known with a deadline at or below it is final.
package result
