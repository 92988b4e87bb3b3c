// Package lane owns one (pipeline, topic, partition): it folds records into slices, snapshots what changed into
// commits, and hands them to Redis in one unbroken chain.
//
// State is the deterministic part. One goroutine owns it; it never blocks, reads no clock and talks to nobody, so what
// it decides about a record follows from the record, the order of the lane and committed control values alone. Lane
// is the goroutine around it, with a reader in front and a committer behind.
//
// Non-obvious, and the cause of bugs when forgotten:
//
//   - An entry's stamp says up to which offset it includes everything. After a restore the lane reads again from the
//     committed offset, and an event below an entry's stamp changes nothing there, yet dirties the entry: every commit
//     holds all entries touched in its range, so that state rebuilt from any prefix of commits is a valid state.
//   - Counters and folded counts of slices move with the offset in the commit's last call. They are counted again on
//     a re-read; entries are not.
//   - A control value (seal, pause) is adopted at a snapshot, written by that commit and used for later events only.
//   - The state goes back only by an operator's decision, in one call (Rebuild). Records below meta's decided offset are read
//     again as they were decided: seals where they were, no side record twice, nothing new adopted.
//   - A retry of an acquisition keeps its token; the next acquisition takes another.
//   - With a journal there still is one queue of commits. From the first commit in the journal until the journal is drained
//     all go there, in order; what follows from a commit (the group's offset, dropping slices, the committed offset people
//     see) follows from Redis having it, never from the journal having it.
//   - The lane's watermark only ever lags what was folded: it is the largest event time minus the allowed disorder.
package lane
