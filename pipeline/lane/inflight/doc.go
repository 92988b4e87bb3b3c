// Package inflight keeps account of the commits of one lane: which buffers are at rest and which are in flight, what was
// asked of the lane with their answers, when the next commit is due, what an answer means, and what an error that breaks
// the chain of commits means.
//
// Nothing here has a goroutine, a clock or a context: the caller passes the time, hands commits to whoever delivers them,
// and brings back the results. So the lane's loop, and a model of it, do nothing but select what happens next.
//
// Non-obvious, and the cause of bugs when forgotten:
//
//   - A commit that the journal has is in flight no more, and Redis does not have it: only Result.InRedis moves on what
//     follows from Redis having a commit.
//   - Side records of commits in flight are owed after a re-seed: the lane does not read their events again. Those of
//     commits in the journal stand there, so a result that says so must be withdrawn before the re-seed.
//   - What the closer found missing under an owner is asked of that owner: a re-seed answers it.
package inflight
