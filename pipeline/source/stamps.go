package source

import (
	"math/rand/v2"
	"strconv"

	"github.com/IBM/sarama"
)

// StampHeader is the header in which a producer may say when an event happened to it, in milliseconds since the epoch as decimal
// digits. It is for topics whose timestamps are the broker's.
const StampHeader = "mr-stamp"

// Stamp is when some records of a batch were stamped. Nothing is decided by it: it is for the metric of how old events are when
// they can be read.
type Stamp struct {
	At      int64 // ms
	Records int64 // how many records it stands for
}

// stampsPerFetch is how many stamps about are taken of what one fetch brings. Records that lie together were mostly stamped
// together, so a stamp for every stretch of them says nearly as much as all, and costs nearly nothing.
const stampsPerFetch = 64

// stamper takes one stamp at random of every stretch of records, which stands for the whole stretch: so every record is as likely
// to be taken as any other, and what the stamps add up to is right on average. Neighbours of one millisecond become one stamp.
type stamper struct {
	stretch int // records
	next    int // records before the one to be taken
	rest    int // records of the stretch behind it
	stamps  []Stamp
}

// newStamper returns a stamper for a fetch of n records.
func newStamper(n int, into []Stamp) stamper {
	s := stamper{stretch: 1 + n/stampsPerFetch, stamps: into[:0]}
	s.begin()
	return s
}

// begin begins another stretch.
func (s *stamper) begin() {
	taken := 0
	if s.stretch > 1 {
		taken = rand.IntN(s.stretch)
	}
	s.next, s.rest = s.rest+taken, s.stretch-1-taken
}

// pass notes a record; timestamp is its own in ms, or -1.
func (s *stamper) pass(timestamp int64, headers []*sarama.RecordHeader) {
	if s.next--; s.next < 0 {
		s.take(timestamp, headers)
	}
}

// take takes the stamp of a record.
func (s *stamper) take(timestamp int64, headers []*sarama.RecordHeader) {
	s.begin()
	for _, h := range headers {
		if string(h.Key) != StampHeader {
			continue
		}
		if ms, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil && ms > 0 {
			timestamp = ms
		}
	}
	if timestamp < 0 {
		return
	}
	if n := len(s.stamps); n > 0 && s.stamps[n-1].At == timestamp {
		s.stamps[n-1].Records += int64(s.stretch)
		return
	}
	s.stamps = append(s.stamps, Stamp{timestamp, int64(s.stretch)})
}
