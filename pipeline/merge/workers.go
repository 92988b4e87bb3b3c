package merge

import (
	"context"
	"millrace/pipeline/ledger"
	"sync"
	"sync/atomic"
)

// delivery is what a worker hands over: a batch of a unit, or its end.
type delivery struct {
	batch *batch
	end   bool
	err   error // with end
}

// pool is the workers of one run. Units are begun in their order, and no more than len(out) of them
// before the rows of the first have been passed on: so the first unit that was not passed on is
// always being merged or done, and each unit has a channel of its own.
type pool struct {
	*run
	out    []chan delivery // unit u has that at u modulo their number
	tokens chan struct{}   // one for each unit that may be begun
	next   atomic.Int64    // unit
	failed atomic.Bool     // no unit is begun any more
	ended  sync.WaitGroup  // of the workers

	mu      sync.Mutex // guards what follows until all workers have ended
	counted []int64
	ahead   bool
}

// inParallel merges units in n workers. Batches are passed on unit by unit, and an error counts
// when all rows before it were passed on, so equal states have equal outcomes. cancel ends ctx.
func (r *run) inParallel(ctx context.Context, cancel func(), n int, emit func(*ledger.Rows) error,
) (counted []int64, isExact bool, err error) {
	ahead := n + 1 // a worker has something to do while the rows of its last unit wait
	p := &pool{
		run: r, counted: make([]int64, len(r.parts)),
		out: make([]chan delivery, ahead), tokens: make(chan struct{}, ahead),
	}
	for i := range p.out {
		p.out[i] = make(chan delivery, batchesPerUnit)
		p.tokens <- struct{}{}
	}
	for range n {
		p.ended.Go(func() { p.work(ctx) })
	}
	for u := range r.units {
		if err = p.passOn(ctx, u, emit); err != nil {
			cancel()
			break
		}
		p.tokens <- struct{}{}
	}
	p.ended.Wait()
	return p.counted, !p.ahead, err
}

// passOn passes the batches of one unit on.
func (p *pool) passOn(ctx context.Context, u int, emit func(*ledger.Rows) error) error {
	for {
		select {
		case d := <-p.out[u%len(p.out)]:
			if d.end {
				return d.err
			}
			if err := emit(&d.batch.Rows); err != nil {
				return err
			}
			p.merger.freeBatch(d.batch)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// work merges units in one worker until there are no more.
func (p *pool) work(ctx context.Context) {
	w := p.newWorker()
	defer w.free()
	for !p.failed.Load() {
		select {
		case <-p.tokens:
		case <-ctx.Done():
			return
		}
		u := int(p.next.Add(1) - 1)
		if u >= len(p.units) {
			break
		}
		out := p.out[u%len(p.out)]
		w.pass = func(b *batch) (*batch, error) {
			if err := deliver(ctx, out, delivery{batch: b}); err != nil {
				return b, err
			}
			return p.merger.newBatch(), nil
		}
		err := w.mergeUnit(ctx, u)
		if err != nil {
			p.failed.Store(true)
		}
		if err := deliver(ctx, out, delivery{end: true, err: err}); err != nil {
			return
		}
	}
	p.merger.freeBatch(w.batch)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, events := range w.counted {
		p.counted[i] += events
	}
	p.ahead = p.ahead || w.ahead
}

func deliver(ctx context.Context, to chan<- delivery, d delivery) error {
	select {
	case to <- d:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
