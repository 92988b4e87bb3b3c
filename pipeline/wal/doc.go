// Package wal is a write-ahead log on a local disk: records are appended to fixed-size segments, acknowledged only when
// durable, read back in order, and released when no longer needed.
//
// One Log owns one directory. Appenders encode records into a staging buffer; one dedicated syncer writes and syncs
// whatever has gathered (group commit), so that many appenders share one sync. Segments are fully allocated and written
// before they are used, the next one is prepared ahead, and released ones are recycled, all by one housekeeper away from
// the hot path. The bytes go through one of two backends, a memory mapping or write and fdatasync.
//
// Every record names a stream (who it belongs to) and its place in a chain of that stream's records, so that one stream's
// records can be found without reading the others'. What is inside a record is the caller's affair.
//
// Recovery tells a torn tail (a write that was never acknowledged; cut off and reported) from corruption (acknowledged
// bytes that cannot be read; copied aside, counted, reported, and shown to every reader, never skipped silently).
//
// docs/wal-format.md has the bytes, the limits and the crash argument of every operation.
package wal
