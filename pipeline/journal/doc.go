// Package journal keeps the commits of lanes that Redis could not take, in the write-ahead log of the process, and brings
// them to Redis later: the same calls, in the same order, through the same scripts.
//
// A lane's journal is a stream of the log, an owner's part of it a chain, and a call a record. A call is applied only
// where it belongs: by the owner that made it, or by the acquisition that found this owner's token and a cursor inside its
// chain. Every other chain is superseded: its events are read again from Kafka, and the chain is kept until the lane's
// offset has passed it.
//
// Non-obvious, and relied upon:
//   - A chain that ends in the middle of a commit is applied as far as it goes: any prefix of a lane's calls is a valid
//     state.
//   - The cursor in Redis decides what was applied, not what the journal thinks it has drained. So a note of a release that
//     a crash has lost, a batch that was appended twice, and a call that was under way when the connection broke, all
//     change nothing.
//   - What follows a corrupt range is applied only if it follows the cursor, that is, if nothing of this lane was lost there.
//   - Side records travel in the first call of their commit and go out when its turn comes, after the previous commit's meta.
package journal
