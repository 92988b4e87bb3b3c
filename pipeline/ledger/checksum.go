package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// ChecksumAlgorithm names what Checksum computes, in ledger rows.
const ChecksumAlgorithm = "sha256-sum128"

// Checksum identifies the content of a revision: the set of its keys with their values, flags
// included, revision number and window excluded. It is a sum, modulo 2^128, of truncated SHA-256
// hashes of the rows, so it does not depend on the order in which rows are added: whoever reads the
// result topic's partitions in any order can compute it in one pass. The zero value is the checksum
// of no rows. It is not safe for concurrent use.
type Checksum struct {
	hi, lo uint64
	rows   int64
	hasher Hasher
}

// Digest is what one row adds to a Checksum: the first 16 bytes of its SHA-256 hash.
type Digest [16]byte

// Hasher computes digests. It keeps a buffer, so that it allocates nothing once it has grown. The
// zero value is ready; it is not safe for concurrent use.
type Hasher struct{ buf []byte }

// Digest returns the digest of a row. A row that says that its key has left the window has none,
// and must not be asked for.
func (h *Hasher) Digest(row Content) Digest {
	h.buf = binary.AppendUvarint(h.buf[:0], uint64(len(row.Key)))
	h.buf = append(h.buf, row.Key...)
	h.buf = append(h.buf, row.Values...)
	flags := byte(0)
	if row.Overflow {
		flags |= 1
	}
	h.buf = append(h.buf, flags)
	sum := sha256.Sum256(h.buf)
	return Digest(sum[:len(Digest{})])
}

// NewChecksum returns the checksum of rows of which Rows and Sum are known.
func NewChecksum(rows int64, sum [16]byte) Checksum {
	return Checksum{hi: binary.BigEndian.Uint64(sum[:]), lo: binary.BigEndian.Uint64(sum[8:]), rows: rows}
}

// AddContent counts one row in, unless it says that its key has left the window.
func (c *Checksum) AddContent(row Content) {
	if !row.Deleted {
		c.AddDigest(c.hasher.Digest(row))
	}
}

// AddDigest counts the row in that has the digest.
func (c *Checksum) AddDigest(d Digest) {
	c.add(binary.BigEndian.Uint64(d[:]), binary.BigEndian.Uint64(d[8:]), 1)
}

// SubDigest takes out a row that was counted in, by its digest.
func (c *Checksum) SubDigest(d Digest) {
	var borrow uint64
	c.lo, borrow = bits.Sub64(c.lo, binary.BigEndian.Uint64(d[8:]), 0)
	c.hi, _ = bits.Sub64(c.hi, binary.BigEndian.Uint64(d[:]), borrow)
	c.rows--
}

// AddChecksum counts all rows of another checksum in.
func (c *Checksum) AddChecksum(o Checksum) { c.add(o.hi, o.lo, o.rows) }

func (c *Checksum) add(hi, lo uint64, rows int64) {
	var carry uint64
	c.lo, carry = bits.Add64(c.lo, lo, 0)
	c.hi, _ = bits.Add64(c.hi, hi, carry)
	c.rows += rows
}

// Add counts one published row in.
func (c *Checksum) Add(r ResultRow) { c.AddContent(r.content()) }

// Rows is how many rows were added, without those of keys that have left.
func (c *Checksum) Rows() int64 { return c.rows }

// Sum is the sum, in big-endian order.
func (c *Checksum) Sum() (sum [16]byte) {
	binary.BigEndian.PutUint64(sum[:], c.hi)
	binary.BigEndian.PutUint64(sum[8:], c.lo)
	return sum
}

// String is the sum in hex, 32 digits.
func (c *Checksum) String() string {
	sum := c.Sum()
	return hex.EncodeToString(sum[:])
}
