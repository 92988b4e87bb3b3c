// Package deliver brings a lane's commits to Redis, one after the other: it is where the goroutines and the clock of a
// lane's writing side are.
//
// A commit passes senders, each of which knows the next one: the retry sender repeats it until it is durable or the chain
// is broken; the journal sender puts it into the journal while Redis cannot take it; the sides sender publishes its late
// and dead-letter records; the breaker sender tells the route what Redis said; the store sender applies its calls.
//
// Non-obvious, and the cause of bugs when forgotten:
//
//   - With a journal there still is one queue of commits. From the first commit in the journal until the journal is
//     drained all go there, in order: one that went past it would be overwritten by older values later.
//   - What follows from a commit (the group's offset, dropping slices, the committed offset people see) follows from Redis
//     having it, never from the journal having it: Result.InRedis.
//   - A part of a commit may be in the journal although Append returned an error. It bars Redis until it is drained.
//   - Side records go out before the commit's calls, so a record may be published twice and is never lost.
//   - Whoever waits for Redis never keeps commits from becoming durable: the drain has a goroutine of its own.
package deliver
