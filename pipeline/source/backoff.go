package source

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff grows the pause between tries, with jitter so that many lanes do not come back in step.
type backoff struct {
	first, max, next time.Duration
}

func newBackoff(first, limit time.Duration) backoff {
	return backoff{first: first, max: limit, next: first}
}

func (b *backoff) reset() { b.next = b.first }

// wait pauses; false means ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
