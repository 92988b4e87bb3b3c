// Package store is the only place that talks to Redis. It holds the live state of every lane, the desired state of a
// pipeline, the replica leases, and the contents of windows, shown or not.
//
// All safety is in the scripts, none in the client: every write of a lane carries its owner token and its place in the
// chain of commits, and a script applies it only where it belongs. So any call may be sent again, by us or by go-redis,
// and a server that forgot acknowledged writes (asynchronous replication, an older file, FLUSHALL) is noticed by the
// next call instead of being written over.
//
// Non-obvious, and relied upon:
//   - All keys of one lane share one hash tag, hence one replication stream. What survives a fail-over is a prefix of the
//     lane's calls, which is why comparing one cursor is enough.
//   - Keys are always passed in KEYS, also those that are only unlinked, so the same scripts run in Redis Cluster.
//   - Numbers are compared in Lua as doubles. What is compared (milliseconds, offsets, cursors) stays below 2^53; values
//     that are merely kept travel as strings.
//   - An error that is none of this package's own is one of transport. It says nothing about what was applied: send the
//     very same calls again.
package store
