package inflight

import (
	"time"

	"millrace/pipeline/store"
)

// EndTrust is how long an answer about the log's end may wait until the lane has read up to it. Records that came after
// the question may become late by a seal that is adopted there.
const EndTrust = 5 * time.Second

// Idleness says when a lane is idle. A lane that nothing moves must not hold windows open, and one that is behind must not
// be left out. So a lane is idle when nothing it has read for idle_timeout could move its watermark, and when it has read
// everything below an end that it asked the broker for after that time. What could move the watermark is every record that
// is not refused: a partition that gets heartbeats and no events is idle, although its end never stands still.
//
// The claim is committed as idle_end and stands, also over a restart, until a record comes that could move the watermark.
// The closer compares the committed offset with ends that it asked for itself: see package survey.
//
// The goroutine that owns the lane's state calls its methods.
type Idleness struct {
	commits *Commits
	timeout time.Duration
	moved   time.Time // when a record last came that could move the watermark
	asked   bool      // a question about the log's end is on its way
	end     int64     // the broker's answer, until it is reached or too old; -1 when there is none
	endAt   time.Time // when the broker was asked for it
}

// NewIdleness returns the idleness of a lane; with a timeout of 0 it never is idle.
func NewIdleness(c *Commits, timeout time.Duration, now time.Time) *Idleness {
	return &Idleness{commits: c, timeout: timeout, moved: now, end: -1}
}

// Moved notes that a record came that could move the watermark.
func (i *Idleness) Moved(now time.Time) { i.moved = now }

// still reports whether nothing has come for the timeout that could move the watermark.
func (i *Idleness) still(now time.Time) bool { return i.timeout > 0 && now.Sub(i.moved) >= i.timeout }

// Ask reports whether the broker is to be asked for the log's end now. An answer that the lane has not read up to yet is
// waited for.
func (i *Idleness) Ask(now time.Time) bool {
	if i.end >= 0 && now.Sub(i.endAt) > EndTrust {
		i.end = -1
	}
	if i.asked || i.end >= 0 || !i.still(now) {
		return false
	}
	i.asked = true
	return true
}

// Named takes the broker's answer to a question that was asked at the time: end is -1 when it says nothing of the lane's
// log.
func (i *Idleness) Named(end int64, asked time.Time) { i.asked, i.end, i.endAt = false, end, asked }

// Waits reports whether a question was asked that has led to nothing yet.
func (i *Idleness) Waits() bool { return i.asked || i.end >= 0 }

// Claim returns the end at which the lane is idle, to be committed at once, once everything below the end that the broker
// named was read, if it still holds. It is store.NotIdle otherwise. A claim that stands is made again only where it brings
// something: a seal to adopt, or an end that is the log's. reads is false when the lane reads no further: it is not idle.
func (i *Idleness) Claim(reads bool, now time.Time) int64 {
	state := i.commits.state
	switch {
	case i.end < 0:
		return store.NotIdle
	case !reads || !i.still(now):
		i.end = -1
		return store.NotIdle
	case state.Offset() < i.end:
		return store.NotIdle
	}
	end := i.end
	i.end = -1
	if state.IdleEnd() < 0 || i.commits.requests.Seal > state.Sealed() || state.IdleEnd() != end && !state.Dirty() {
		return end
	}
	return store.NotIdle
}
