// Package shadow counts final windows of a pipeline again, beside the pipeline, and keeps what differs from what is
// published.
//
// A shadow is a pipeline of its own in the namespace <name>@<id>: lanes with the same folding, the same commits and the same
// merge, which read fixed ranges of offsets that a plan says (package plan) and decide under the control values that the
// plan prescribes. It has no consumer group, sends no late and no dead-letter records, journals nothing, and its memory is
// bounded by itself. Nothing of it is published; what differs (package diff) stands in Redis until the shadow is ended.
//
// Prepare makes the plan and changes nothing. Begin keeps the plan in Redis and makes the lanes. Run reads, compares window
// by window, and may be called again by anybody after it has died: it goes on from the lanes' own commits. End fences
// whoever still runs and deletes everything.
//
// Two rules make that safe. Nobody but Begin creates a key that others write to, so that after End there is nothing left to
// write to; and every write names its owner: a lane's that of the lane, every other that of the shadow's guard.
package shadow
