// Package lane owns one (pipeline, topic, partition): it acquires the lane, reads records, has package fold decide and fold
// them, and hands the commits to package deliver, which brings them to Redis in one unbroken chain.
//
// Lane is the goroutine around a fold.State, with a reader in front and a committer behind. Here are acquisition, parking,
// the operator's decisions, and the loop that selects among batches, ticks, answers and orders.
//
// Non-obvious, and the cause of bugs when forgotten:
//
//   - The state goes back only by an operator's decision, in one call (Rebuild).
//   - A retry of an acquisition keeps its token; the next acquisition takes another.
//   - What follows from a commit (the group's offset, dropping slices, the committed offset people see) follows from Redis
//     having it, never from the journal having it.
//   - A lane that parks holds its claim and goes on committing signs of life: its state is not lost while it waits.
package lane
