package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/store"
	"millrace/tests/rig"
)

// oldWorker is what a worker of a release before state pages says of itself in Redis, until leave.
func (w *world) oldWorker(name string) (leave func()) {
	w.T.Helper()
	fleet := ""
	for _, variable := range w.Env() {
		if value, found := strings.CutPrefix(variable, "TEMPORAL_NAMESPACE="); found {
			fleet = value
		}
	}
	require.NotEmpty(w.T, fleet)
	ctx, cancel := context.WithCancel(context.Background())
	var beating sync.WaitGroup
	beat := func(n int64) {
		body := fmt.Appendf(nil, `{"worker":%q,"ready":true}`, name)
		if _, err := w.Store.Beat(ctx, fleet, store.Present{ID: "millrace:p:" + name, Beat: n, Version: 1}, body); err != nil && ctx.Err() == nil {
			w.T.Errorf("beat: %v", err)
		}
	}
	beat(1)
	beating.Go(func() {
		tick := time.NewTicker(contract.PresenceEvery)
		defer tick.Stop()
		for n := int64(2); ; n++ {
			select {
			case <-tick.C:
				beat(n)
			case <-ctx.Done():
				return
			}
		}
	})
	leave = sync.OnceFunc(func() {
		cancel()
		beating.Wait()
	})
	w.T.Cleanup(leave)
	return leave
}

// While a worker of an older release is in the fleet, lanes keep their entries in fields, and status says because of whom. When it is
// gone they turn to pages under way, and what is published is exact.
func TestLanesTurnToPagesWhenTheOldWorkerIsGone(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 40_000)
	w := newWorld(t, rig.Servers{})
	leave := w.oldWorker("old-1")
	p := w.newPipeline(yaml, 4)
	w.Ready(w.Worker(), w.Worker())
	p.Start()
	feed := p.Trickle(lines, len(lines)/70)
	p.Reach(int64(len(lines) / 10))
	p.Commits(3)
	for n := range p.Parts {
		m, _ := p.Meta(n)
		require.Equal(t, store.FieldFormat, m.Format)
	}
	const why = "worker old-1 reads state format 1, and pages are format 2"
	rig.Eventually(t, "status says why", patience, func() bool {
		return strings.Contains(p.Must("status", p.Spec.Name, "--once").Out, why) // of heartbeats, once a second
	})

	leave()
	began := time.Now()
	rig.Eventually(t, "all lanes are in pages", patience, func() bool {
		for n := range p.Parts {
			if m, _ := p.Meta(n); m.Format != store.PageFormat || m.Done == store.NoCommit {
				return false
			}
		}
		return true
	})
	t.Logf("in pages %s after the old worker's last sign of life", time.Since(began).Round(time.Second))
	require.Greater(t, time.Since(began), contract.FormatSettles)
	require.True(t, feed.Going(), "the lanes turned while records came")
	feed.Finish()
	p.Drain()
	p.RequireExact()
}
