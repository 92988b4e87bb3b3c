// Package result closes windows: it looks at the lanes, decides which window lacks a revision and when one is final, has it
// merged and published, and lets the lanes drop what can no longer change. How a revision is published and kept is
// the business of package publish. It never writes lane state and knows nothing of Temporal.
//
// Non-obvious, and the cause of wrong results when forgotten:
//
//   - A look at the lanes (view) is taken in a fixed order: partition lists from Kafka, then each lane's meta with its
//     slices in one read, then the broker's ends of lanes that claim to be idle. A lane is left out as idle only when the
//     broker's end, asked after the claim, still is the one it claims.
//   - What a revision covers of a lane is the offset of the meta read before its entries. An entry whose stamp lies above
//     holds events of a commit whose meta is not there yet; such a read is not exact and is done again.
//   - What was published of a window is asked of its slot, while the slot is held and after it was taken over, and decided
//     upon before the slot is let go.
//   - Windows become final in the order of their deadlines as far as dropping goes: drop_before may only be raised to a
//     deadline when every window known with a deadline at or below it is final.
package result
