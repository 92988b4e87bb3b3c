package retention

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/parallel"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/store"
)

// TestContentsGo: whenever one looks, Redis has contents only of windows that are not final, or have been for less than
// retention and one sweep, although closers die between the ledger and Redis.
func TestContentsGo(t *testing.T) {
	const deaths = 3
	addrs, _ := brokers(t)
	w := newWorld(t, addrs, *results, *keys, nil)
	finals := &finals{at: make(map[int64]int64)}
	look := newSampler(w, finals)
	fed := make(chan struct{}, 1)
	progress := make([]chan struct{}, lanes)
	for i := range progress {
		progress[i] = make(chan struct{}, 1)
	}
	var done atomic.Bool
	began := time.Now()
	err := parallel.Do(w.ctx, lanes+2, lanes+2, func(ctx context.Context, i int) error {
		switch {
		case i < lanes:
			return w.lanes[i].feed(ctx, 0, *minutes, 5, 400, fed, progress[i])
		case i == lanes:
			return look.run(ctx, &done)
		}
		defer done.Store(true)
		return w.close(ctx, finals, look, deaths, fed, progress)
	})
	require.NoError(t, err)
	look.print()
	t.Logf("%d windows of %d keys published and gone in %s; oldest contents of a final window %s after it was final, retention %s",
		*minutes, *keys, time.Since(began).Round(time.Second), time.Duration(look.worst)*time.Millisecond, *results)
	require.GreaterOrEqual(t, look.worst, results.Milliseconds()/2, "contents were there to be seen")
	rows, err := ledger.Latest(w.ctx, w.kafka, w.spec.Name)
	require.NoError(t, err)
	require.Len(t, rows, *minutes)
	for _, row := range rows {
		require.True(t, row.Final)
		require.EqualValues(t, *keys, row.Keys, "%+v", row)
	}
}

// close closes windows until all are final and nothing is left of them in Redis. At equal distances the closer dies, and
// another takes over.
func (w *world) close(ctx context.Context, finals *finals, look *sampler, deaths int, fed chan struct{},
	progress []chan struct{}) error {
	state := &mortal{Store: w.store}
	c := w.closer(state, time.Now, 0)
	died := 0
	for {
		began := time.Now()
		r, err := c.Round(ctx)
		if err != nil {
			return err
		}
		if n := len(r.Failed) + len(r.Incidents); n > 0 {
			return fmt.Errorf("%d windows were not closed: %+v %+v", n, r.Failed, r.Incidents)
		}
		finals.add(r.Closed, began)
		look.booked(r, time.Since(began))
		for _, c := range progress {
			wake(c)
		}
		switch n := finals.count(); {
		case state.dead.Load():
			state = &mortal{Store: w.store}
			c = w.closer(state, time.Now, 0)
		case died < deaths && n > (died+1)**minutes/(deaths+1):
			died++
			state.dead.Store(true)
		case n == *minutes && look.empty.Load():
			return nil
		}
		if len(r.Closed) == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-fed:
			case <-time.After(time.Second): // as production looks when nothing is due
			}
		}
	}
}

// finals knows when each window was made final.
type finals struct {
	mu sync.Mutex
	at map[int64]int64 // ms by start; when the round began, so that no window is taken for younger than it is
}

func (f *finals) add(closed []report.ClosedWindow, began time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range closed {
		if c.Final {
			f.at[c.Start] = began.UnixMilli()
		}
	}
}

func (f *finals) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.at)
}

// mortal is the state of a closer that can die between a ledger row and what follows from it in Redis.
type mortal struct {
	*store.Store
	dead atomic.Bool
}

var errDead = errors.New("the closer is dead")

func (m *mortal) Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte, view store.View,
	fields []store.ViewField, gone []string, rows *store.Rows) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.Flip(ctx, id, v, final, row, view, fields, gone, rows)
}

func (m *mortal) ExpireWindow(ctx context.Context, id store.WindowID, v store.Version, d time.Duration) (bool, error) {
	if m.dead.Load() {
		return false, errDead
	}
	return m.Store.ExpireWindow(ctx, id, v, d)
}

// sampler looks at everything that Redis has, again and again.
type sampler struct {
	w      *world
	finals *finals
	began  time.Time
	every  time.Duration
	empty  atomic.Bool // the last sample found no contents of a final window

	mu      sync.Mutex
	longest time.Duration // of the rounds so far
	kept    *report.Kept
	line    string
	worst   int64 // ms
	samples int
}

func newSampler(w *world, f *finals) *sampler {
	return &sampler{w: w, finals: f, began: time.Now(), every: min(time.Second, *results/10)}
}

func (s *sampler) booked(r result.RoundReport, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, took)
	s.kept = r.Kept
}

func (s *sampler) run(ctx context.Context, done *atomic.Bool) error {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	printed := time.Now()
	for !done.Load() {
		if err := s.sample(ctx); err != nil {
			return err
		}
		if time.Since(printed) >= 10*time.Second {
			printed = time.Now()
			s.print()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (s *sampler) print() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.t.Log(s.line)
}

// sample fails when a window has contents that it should not have any more.
func (s *sampler) sample(ctx context.Context) error {
	now := time.Now().UnixMilli()
	prefix := fmt.Sprintf("mr:{%s/minutely/", s.w.spec.Name)
	all, with := 0, make(map[int64]bool)
	for scan := s.w.redis.Scan(ctx, 0, "*", 1000).Iterator(); ; {
		if !scan.Next(ctx) {
			if err := scan.Err(); err != nil {
				return err
			}
			break
		}
		all++
		tag, ok := strings.CutPrefix(scan.Val(), prefix)
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(tag, "}")
		start, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		with[start] = true
	}
	memory, err := s.w.redis.InfoMap(ctx, "memory").Result()
	if err != nil {
		return err
	}
	bytes, err := strconv.ParseInt(memory["Memory"]["used_memory"], 10, 64)
	if err != nil {
		return err
	}
	s.finals.mu.Lock()
	done, final, worst := len(s.finals.at), 0, int64(0)
	for start := range with {
		if at, ok := s.finals.at[start]; ok {
			final++
			worst = max(worst, now-at)
		}
	}
	s.finals.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples++
	s.worst = max(s.worst, worst)
	s.empty.Store(done == *minutes && final == 0)
	s.line = fmt.Sprintf("%5.0f s, sample %d: %d keys, %.1f MB; %d windows final, contents of %d final and %d other windows, "+
		"the oldest for %.1f s; longest round %.1f s; kept %+v", time.Since(s.began).Seconds(), s.samples, all, float64(bytes)/1e6,
		done, final, len(with)-final, float64(worst)/1000, s.longest.Seconds(), s.kept)
	// A sweep takes one round for every 64 windows of a slot, and no more than that have contents when a closer takes over.
	// It is preceded by the round in which the closer died, and the age of a window counts from when its round began.
	if sweep := 3*s.longest + time.Second; worst > (*results + sweep).Milliseconds() {
		return fmt.Errorf("contents of a window are there %d ms after it was final, retention is %s and a sweep takes %s: %s",
			worst, *results, sweep, s.line)
	}
	return nil
}
