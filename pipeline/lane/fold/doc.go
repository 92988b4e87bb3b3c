// Package fold is the deterministic part of a lane: it decides records, folds events into slices, snapshots what changed
// into commits, and builds the state again from what those commits left in Redis.
//
// State never blocks, reads no clock and talks to nobody, so what it decides about a record follows from the record, the
// order of the lane and committed control values alone. Nothing here has a context, a lock or a goroutine: an import rule
// holds that. What needs I/O reads and hands in plain values: a batch to Fold, entries to a Loader, the stored meta to a
// Rewriting. One goroutine at a time may use a State, and with it its Program.
//
// Non-obvious, and the cause of bugs when forgotten:
//
//   - An entry's stamp says up to which offset it includes everything. After a restore the lane reads again from the
//     committed offset, and an event below an entry's stamp changes nothing there, yet dirties the entry: every commit
//     holds all entries touched in its range, so that state rebuilt from any prefix of commits is a valid state.
//   - Counters and folded counts of slices move with the offset in the commit's last call. They are counted again on
//     a re-read; entries are not.
//   - A control value (seal, pause) is adopted at a snapshot, written by that commit and used for later events only.
//   - Records below the decided offset are read again as they were decided: seals where they were, no side record twice,
//     nothing new adopted.
//   - An event lives in its decoder's memory until its group is folded, so each of the group has a decoder of its own.
//   - The fields of a commit's calls point into its arena. The arena is complete before the first of them is made.
//   - A restored slice may rest: its table has no rows, and its pages hold the content. wake comes before whatever reads or
//     changes rows. What rests was checked as if it had been made rows of, so that waking cannot fail.
//   - The lane's watermark only ever lags what was folded: it is the largest event time minus the allowed disorder.
package fold
