package wal

import (
	"fmt"
	"time"
)

// Range is a stretch of a segment whose acknowledged records cannot be read.
type Range struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"` // 0 when the bytes are gone: a missing segment
	// First is the index of the first lost frame and Lost how many indexes are lost (0: none, or not known).
	First uint64 `json:"first"`
	Lost  uint64 `json:"lost"`
	// Reason says what was found there.
	Reason string `json:"reason"`
	// Copy is the file beside the segments that keeps the bytes, or "" when there is none (yet).
	Copy string `json:"copy,omitempty"`
}

func (r Range) String() string {
	text := fmt.Sprintf("segment %016x, %d bytes from %d: %s", r.Segment, r.Length, r.Offset, r.Reason)
	if r.Lost > 0 {
		text += fmt.Sprintf("; indexes %d to %d are lost", r.First, r.First+r.Lost-1)
	}
	return text
}

// Torn is a tail that was cut off: bytes of a write that was never acknowledged.
type Torn struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`         // bytes up to the end of the last readable frame, at least one header
	Intact  int    `json:"intact"`         // frames after the tear that could be read and were dropped
	Copy    string `json:"copy,omitempty"` // the file that keeps the bytes
}

// Recovery is what opening a log found.
type Recovery struct {
	Segments int           `json:"segments"` // with records
	Records  uint64        `json:"records"`
	Bytes    int64         `json:"bytes"` // read to find out
	First    uint64        `json:"first"` // index of the first frame kept
	Next     uint64        `json:"next"`  // index of the next frame
	Torn     *Torn         `json:"torn,omitempty"`
	Corrupt  []Range       `json:"corrupt,omitempty"`
	Headers  []Range       `json:"headers,omitempty"` // header pages that could not be read, and files cut short; no record is lost by that alone
	Removed  []string      `json:"removed,omitempty"` // unfinished files
	Took     time.Duration `json:"took"`
}

// Lost returns how many indexes the corrupt ranges cover.
func (r *Recovery) Lost() (lost uint64) {
	for _, c := range r.Corrupt {
		lost += c.Lost
	}
	return lost
}
