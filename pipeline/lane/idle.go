package lane

import (
	"context"
	"time"

	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/store"
)

// endAsked is the end of the lane's log, -1 when it is not known, and when the broker was asked for it.
type endAsked struct {
	end int64
	at  time.Time
}

// askEnd asks the broker for the log's end when the lane may be idle, on a goroutine of its own.
func (r *loop) askEnd() {
	if r.ended || !r.idle.Ask(time.Now()) {
		return
	}
	topicID := r.state.TopicID()
	go func() {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(r.ctx, inflight.EndTrust)
		defer cancel()
		r.ends <- endAsked{end: r.EndOf(ctx, topicID), at: asked}
	}()
}

// endNamed takes the broker's answer.
func (r *loop) endNamed(asked endAsked) {
	r.idle.Named(asked.end, asked.at)
	r.now.End = max(r.now.End, asked.end)
	r.claimIdle()
}

// claimIdle commits the proof of idleness when there is one.
func (r *loop) claimIdle() {
	if end := r.idle.Claim(!r.ended, time.Now()); end != store.NotIdle {
		r.commit(end)
	}
}
