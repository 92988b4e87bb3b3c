package shadow

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/store"
)

// slowStore takes 2 ms for a call, and notes how many calls came at a time, and when.
type slowStore struct {
	deliver.Store
	mu    sync.Mutex
	busy  bool
	sizes []int
	times []time.Duration
	began time.Time
	fails int // the call that fails, counted from 1
}

func (s *slowStore) Apply(_ context.Context, _ store.LaneID, _ string, _ store.Token, calls []store.Call) (int, error) {
	s.mu.Lock()
	if s.busy {
		panic("two calls at once")
	}
	s.busy = true
	s.sizes = append(s.sizes, len(calls))
	s.times = append(s.times, time.Since(s.began))
	failed := len(s.sizes) == s.fails
	s.mu.Unlock()
	<-time.After(2 * time.Millisecond)
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	if failed {
		return 0, errors.New("no")
	}
	return len(calls), nil
}

func TestConsiderateCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{began: time.Now()}
		p := newPace(0, time.Now)
		c := newConsiderate(slow, p)
		apply := func(n int) (int, error) {
			return c.Apply(t.Context(), store.LaneID{}, "", "", make([]store.Call, n))
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				n, err := apply(2)
				require.NoError(t, err)
				require.Equal(t, 2, n)
			})
		}
		wg.Wait()
		require.Equal(t, []int{1, 1, 1, 1}, slow.sizes)
		step := 2 * time.Millisecond * (1 + callRest)
		require.Equal(t, []time.Duration{0, step, 2 * step, 3 * step}, slow.times, "one at a time, with rests")

		slow.sizes, slow.fails = nil, 2
		n, err := apply(3)
		require.Error(t, err)
		require.Equal(t, 1, n)

		slow.sizes, slow.fails = nil, 0
		p.setRate(1000)
		n, err = apply(3)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Equal(t, []int{3}, slow.sizes, "the rate that somebody asked for is all that bounds it")
	})
}
