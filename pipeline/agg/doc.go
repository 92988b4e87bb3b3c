// Package agg holds the aggregate state of one slice generation: an entry per key, in a Table that a lane folds events
// into, that a restore fills from stored entries and that the closer merges partials in. State is pointer-free: entries
// are rows of fixed width in byte chunks, keys and long strings live in arenas, the index is open addressing. The
// garbage collector finds nothing to scan, and an event costs no allocation.
//
// # Entry format, version 2
//
// An entry is one key's aggregate state as it is stored. Columns follow in the order of the spec's aggregates; what they
// are is not repeated in the entry, since the state id of the key it is stored under stands for it.
//
//	part       encoding
//	version    1 byte: 2. A higher one is ErrEntryVersion
//	stamp      uvarint: lane offset below which the entry includes every event
//	count      uvarint: events folded
//	count      no bytes: the count above
//	sum int    varint of 128 bits (zigzag, 7 bits a byte, low first, at most 19 bytes)
//	sum float  the exact sum as sign * odd integer * 2^exponent: uvarint of twice the number of the integer's bytes, plus 1
//	           when it is negative; varint exponent; the bytes, low first, the last of them not 0. The uvarint alone is
//	           0 for a sum of 0, and 1 for a sum that version 1 had given up as beyond float64
//	avg        uvarint: events whose field was null; then as sum
//	min, max   int: a byte 0 (no value) or 1 and a varint; float: a byte 0 (no value), 1 and a varint for an integer
//	           within int64, or 2 and a float for any other number
//	first,     a tag byte: kind (bits 0-2: 0 no value, 1 int, 2 float, 3 string, 4 bool, 5 integer beyond int64) and
//	last       time scale (bits 3-4: ns, us, ms or s, the coarsest that is exact); unless the kind is 0 follow
//	           varint event time in that scale, uvarint offset, and the value: int and bool as varint, float as
//	           float, string and big integer as uvarint length and bytes
//
// A float is the uvarint of its IEEE 754 bits with the bytes reversed, which keeps short fractions short. No bytes may
// follow the last column. Equal values give equal bytes, in whatever order they came.
//
// Version 1 is read too, and never written. It differs in two columns: sum float is two floats, a running sum and what
// rounding had taken from it, whose exact total is the sum (+Inf and 0 when it had left float64's range); min and max
// float are one float, NaN for no value.
package agg
