package lane

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// Budget bounds the memory of all lanes of a replica. Over the limit, lanes stop reading, highest watermark first, one
// more at every batch that makes it worse and at every Review; the lane with the lowest watermark is never stopped,
// because windows close only when it moves. Idle lanes do not count: windows do not wait for them, so one of the others
// has to go on. Safe for concurrent use.
type Budget struct {
	limit int64
	total atomic.Int64 // bytes of all shares

	mu     sync.Mutex
	shares map[*Share]struct{}
	held   int // lanes that are stopped now
}

// Share is one lane's part of a budget.
type Share struct {
	budget    *Budget
	bytes     atomic.Int64
	watermark atomic.Int64
	idle      atomic.Bool
	stopped   atomic.Bool
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit, shares: make(map[*Share]struct{})}
}

// Join adds a lane.
func (b *Budget) Join() *Share {
	s := &Share{budget: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares[s] = struct{}{}
	return s
}

// Leave gives the lane's part back.
func (s *Share) Leave() {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	delete(s.budget.shares, s)
	s.budget.total.Add(-s.bytes.Swap(0))
}

// Report tells what the lane holds now, and whether it is proved idle. One that has grown over the limit is not left
// to the next Review: many lanes read a lot until then. One goroutine at a time may call it.
func (s *Share) Report(bytes, watermark int64, idle bool) {
	more := bytes - s.bytes.Swap(bytes)
	s.watermark.Store(watermark)
	s.idle.Store(idle)
	if s.budget.total.Add(more) > s.budget.limit && more > 0 {
		s.budget.Review()
	}
}

// Stopped reports whether the lane must not read on.
func (s *Share) Stopped() bool { return s.stopped.Load() }

// Limit is how many bytes all lanes may hold.
func (b *Budget) Limit() int64 { return b.limit }

// Used is the memory of all lanes in bytes.
func (b *Budget) Used() int64 { return b.total.Load() }

// Review stops one lane more when the limit is exceeded, and lets one go when a tenth of it is free. Call it several
// times a second.
func (b *Budget) Review() {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch used := b.total.Load(); {
	case used > b.limit:
		b.held++
	case used < b.limit-b.limit/10:
		b.held--
	}
	order := make([]*Share, 0, len(b.shares))
	for s := range b.shares {
		if s.idle.Load() {
			s.stopped.Store(false)
			continue
		}
		order = append(order, s)
	}
	b.held = max(0, min(b.held, len(order)-1))
	slices.SortFunc(order, func(x, y *Share) int { return cmp.Compare(y.watermark.Load(), x.watermark.Load()) })
	for i, s := range order {
		s.stopped.Store(i < b.held)
	}
}
