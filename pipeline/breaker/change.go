package breaker

import (
	"context"
	"sort"
	"sync"

	"millrace/pipeline/report"
)

// kept is how many changes a machine remembers.
const kept = 1000

// history keeps the last changes and wakes those who wait for the next.
type history struct {
	mu   sync.Mutex
	all  []report.LevelChange // oldest first
	seq  int64
	news chan struct{} // closed by the next change
}

func (h *history) add(c report.LevelChange) report.LevelChange {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	c.Seq = h.seq
	if len(h.all) == kept {
		copy(h.all, h.all[1:])
		h.all = h.all[:kept-1]
	}
	h.all = append(h.all, c)
	close(h.news)
	h.news = make(chan struct{})
	return c
}

// after returns the changes after seq, and a channel that is closed by the next change.
func (h *history) after(seq int64) ([]report.LevelChange, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq > h.seq {
		seq = 0
	}
	from := sort.Search(len(h.all), func(i int) bool { return h.all[i].Seq > seq })
	return append([]report.LevelChange(nil), h.all[from:]...), h.news
}

func (h *history) last() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seq
}

// Changes returns the changes after seq, oldest first; 0 asks for all that are kept, which are the last 1000. A seq that is not
// reached yet is one of an earlier process, and asks for all too. The numbers in them are shared: read only.
func (m *Machine) Changes(after int64) []report.LevelChange {
	changes, _ := m.history.after(after)
	return changes
}

// Await returns the changes after seq as soon as there is one, or ctx's error. Seqs mean what they mean to Changes.
func (m *Machine) Await(ctx context.Context, after int64) ([]report.LevelChange, error) {
	for {
		changes, news := m.history.after(after)
		if len(changes) > 0 {
			return changes, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
