package page

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrCorrupt means that a page, or the name of one, is not what a lane wrote.
	ErrCorrupt = errors.New("corrupt state page")

	// ErrNewer means that a page has a newer format than this release reads.
	ErrNewer = errors.New("state page of a newer format")
)

// Place is the place of a call in a lane's chain: number of the commit and call within the commit.
type Place struct{ Seq, Chunk int64 }

// Less reports whether p comes before o.
func (p Place) Less(o Place) bool { return p.Seq < o.Seq || p.Seq == o.Seq && p.Chunk < o.Chunk }

// Name identifies a page within its slice generation.
type Name struct {
	Place
	Offset int64  // the entries hold every event of the lane below it
	First  uint64 // hash of the first key
	Last   uint64 // hash of the last key
	Bytes  int    // of the value
}

// String returns <seq>:<chunk>:<offset>:<first>-<last>:<bytes>, the hashes as 16 hex digits.
func (n Name) String() string { return string(n.Append(nil)) }

// Append appends the name's text to dst.
func (n Name) Append(dst []byte) []byte {
	dst = append(strconv.AppendInt(dst, n.Seq, 10), ':')
	dst = append(strconv.AppendInt(dst, n.Chunk, 10), ':')
	dst = append(strconv.AppendInt(dst, n.Offset, 10), ':')
	dst = append(appendHash(dst, n.First), '-')
	dst = append(appendHash(dst, n.Last), ':')
	return strconv.AppendInt(dst, int64(n.Bytes), 10)
}

// Overlaps reports whether the page may hold keys whose hashes lie between first and last, both
// included.
func (n Name) Overlaps(first, last uint64) bool { return n.First <= last && n.Last >= first }

const hexDigits = "0123456789abcdef"

func appendHash(dst []byte, hash uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[hash>>shift&15])
	}
	return dst
}

// ParseName is the inverse of Name.String. Errors wrap ErrCorrupt.
func ParseName(text string) (n Name, err error) {
	var numbers [4]int64 // seq, chunk, offset, bytes
	rest, hashes := text, ""
	for i := range numbers {
		var part string
		if i == 3 {
			hashes, rest, _ = strings.Cut(rest, ":")
		}
		part, rest, _ = strings.Cut(rest, ":")
		if numbers[i], err = strconv.ParseInt(part, 10, 64); err != nil || numbers[i] < 0 {
			return Name{}, fmt.Errorf("%w: name %q", ErrCorrupt, text)
		}
	}
	n = Name{Place: Place{numbers[0], numbers[1]}, Offset: numbers[2], Bytes: int(numbers[3])}
	first, last, _ := strings.Cut(hashes, "-")
	if n.First, err = strconv.ParseUint(first, 16, 64); err == nil {
		n.Last, err = strconv.ParseUint(last, 16, 64)
	}
	if err != nil || n.First > n.Last || n.String() != text {
		return Name{}, fmt.Errorf("%w: name %q", ErrCorrupt, text)
	}
	return n, nil
}
