// Package agg holds the aggregate state of one slice generation: an entry per key, in a Table that a lane folds events
// into, that a restore fills from stored entries and that the closer merges partials in. State is pointer-free: entries
// are rows of fixed width in byte chunks, keys and long strings live in arenas, the index is open addressing. The
// garbage collector finds nothing to scan, and an event costs no allocation.
//
// # Entry format, version 1
//
// An entry is one key's aggregate state as it is stored. Columns follow in the order of the spec's aggregates; what they
// are is not repeated in the entry, since the state id of the key it is stored under stands for it.
//
//	part       encoding
//	version    1 byte: 1. A higher one is ErrEntryVersion
//	stamp      uvarint: lane offset below which the entry includes every event
//	count      uvarint: events folded
//	count      no bytes: the count above
//	sum int    varint of 128 bits (zigzag, 7 bits a byte, low first, at most 19 bytes)
//	sum float  two floats: running sum, compensation. The sum +Inf with compensation 0 stands for an overflow
//	avg        uvarint: events whose field was null; then as sum
//	min, max   int: a byte 0 (no value) or 1 and a varint; float: one float, NaN for no value
//	first,     a tag byte: kind (bits 0-2: 0 no value, 1 int, 2 float, 3 string, 4 bool, 5 integer beyond int64) and
//	last       time scale (bits 3-4: ns, us, ms or s, the coarsest that is exact); unless the kind is 0 follow
//	           varint event time in that scale, uvarint offset, and the value: int and bool as varint, float as
//	           float, string and big integer as uvarint length and bytes
//
// A float is the uvarint of its IEEE 754 bits with the bytes reversed, which keeps small integers short. No bytes may
// follow the last column.
package agg
