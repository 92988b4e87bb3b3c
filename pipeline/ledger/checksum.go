package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// ChecksumAlgorithm names what Checksum computes, in ledger rows.
const ChecksumAlgorithm = "sha256-sum128"

// Checksum identifies the content of a revision: the set of its keys with their values, flags included, revision number
// and window excluded. It is a sum, modulo 2^128, of truncated SHA-256 hashes of the rows, so it does not depend on the
// order in which rows are added: whoever reads the result topic's partitions in any order can compute it in one pass.
// The zero value is the checksum of no rows. It is not safe for concurrent use.
type Checksum struct {
	hi, lo uint64
	rows   int64
	buf    []byte
}

// AddContent counts one row in, unless it says that its key has left the window.
func (c *Checksum) AddContent(row Content) {
	if row.Deleted {
		return
	}
	c.buf = binary.AppendUvarint(c.buf[:0], uint64(len(row.Key)))
	c.buf = append(c.buf, row.Key...)
	c.buf = append(c.buf, row.Values...)
	flags := byte(0)
	if row.Overflow {
		flags |= 1
	}
	sum := sha256.Sum256(append(c.buf, flags))
	var carry uint64
	c.lo, carry = bits.Add64(c.lo, binary.BigEndian.Uint64(sum[8:]), 0)
	c.hi, _ = bits.Add64(c.hi, binary.BigEndian.Uint64(sum[:]), carry)
	c.rows++
}

// Add counts one published row in.
func (c *Checksum) Add(r ResultRow) { c.AddContent(r.content()) }

// Rows is how many rows were added, without those of keys that have left.
func (c *Checksum) Rows() int64 { return c.rows }

// String is the sum in hex, 32 digits.
func (c *Checksum) String() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], c.hi)
	binary.BigEndian.PutUint64(b[8:], c.lo)
	return hex.EncodeToString(b[:])
}
