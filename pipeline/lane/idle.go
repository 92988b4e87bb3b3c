package lane

import (
	"context"
	"time"
)

// A lane that nothing moves must not hold windows open, and one that is behind must not be left out. So a lane is idle
// when nothing it has read for idle_timeout could move its watermark, and when it has read everything below an end that
// it asked the broker for after that time. What could move the watermark is every record that is not refused: a
// partition that gets heartbeats and no events is idle, although its end never stands still.
//
// The claim is committed as idle_end and stands, also over a restart, until a record comes that could move the
// watermark. The closer compares the committed offset with ends that it asked for itself: see package survey.

// endAsked is the end of the lane's log, and when the broker was asked for it.
type endAsked struct {
	end int64
	at  time.Time
}

var noEnd = endAsked{end: -1}

// endTrust is how long an answer about the log's end may wait until the lane has read up to it. Records that came after
// the question may become late by a seal that is adopted there.
const endTrust = 5 * time.Second

// still reports whether nothing has come for idle_timeout that could move the watermark.
func (r *loop) still() bool {
	timeout := r.program.Spec.Watermark.IdleTimeout.Std()
	return timeout > 0 && time.Since(r.lastMove) >= timeout
}

// askEnd asks the broker for the log's end when the lane may be idle, on a goroutine of its own. An answer that the lane
// has not read up to yet is waited for.
func (r *loop) askEnd() {
	if r.proof.end >= 0 && time.Since(r.proof.at) > endTrust {
		r.proof = noEnd
	}
	if r.asked || r.ended || r.proof.end >= 0 || !r.still() {
		return
	}
	r.asked = true
	topicID := r.state.TopicID()
	go func() {
		asked := endAsked{end: -1, at: time.Now()}
		ctx, cancel := context.WithTimeout(r.ctx, endTrust)
		defer cancel()
		if at, err := r.standing(ctx); err == nil && sameTopic(at.topicID, topicID) {
			asked.end = at.ends.HighWatermark
		}
		r.answers <- asked
	}()
}

// endNamed takes the broker's answer.
func (r *loop) endNamed(asked endAsked) {
	r.asked = false
	r.now.End = max(r.now.End, asked.end)
	r.proof = asked
	r.claimIdle()
}

// claimIdle commits the proof of idleness once everything below the end that the broker named was read, if it still
// holds. A claim that stands is made again only where it brings something: a seal to adopt, or an end that is the log's.
func (r *loop) claimIdle() {
	switch {
	case r.proof.end < 0:
		return
	case r.ended || !r.still():
		r.proof = noEnd
		return
	case r.state.Offset() < r.proof.end:
		return
	}
	end := r.proof.end
	r.proof = noEnd
	if r.state.IdleEnd() < 0 || r.asks.Seal > r.state.Sealed() || r.state.IdleEnd() != end && !r.state.Dirty() {
		r.commit(end)
	}
}
