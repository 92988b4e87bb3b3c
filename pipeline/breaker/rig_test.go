package breaker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errRefused = errors.New("connection refused")

// rig is a machine that runs in a bubble of virtual time, on a dependency and a journal the test plays.
type rig struct {
	*Machine
	t *testing.T

	mu      sync.Mutex
	probe   func(ctx context.Context, n int) error // n counts the probes from 0
	probes  int
	storage Storage
	log     bytes.Buffer
}

// inBubble runs test on a machine whose dependency answers and that has no journal.
func inBubble(t *testing.T, thresholds Thresholds, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, probe: func(context.Context, int) error { return nil }}
		prober, err := NewProber(func(ctx context.Context) error {
			r.mu.Lock()
			n, probe := r.probes, r.probe
			r.probes++
			r.mu.Unlock()
			return probe(ctx, n)
		}, thresholds)
		require.NoError(t, err)
		m, err := New(Config{
			Pipeline: "orders", Replica: 1, Dependency: "redis", Thresholds: thresholds, Prober: prober,
			Storage: func() Storage {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.storage
			},
			Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		})
		require.NoError(t, err)
		r.Machine = m
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			m.Run(ctx)
		}()
		defer func() {
			cancel()
			<-ended
		}()
		test(t, r)
	})
}

// pass lets virtual time pass.
func (r *rig) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// answer says how probes are answered from now on.
func (r *rig) answer(probe func(ctx context.Context, n int) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probe = probe
}

func (r *rig) away() { r.answer(func(context.Context, int) error { return errRefused }) }
func (r *rig) back() { r.answer(func(context.Context, int) error { return nil }) }

// journal says what the journal says from now on, and lets the machine look.
func (r *rig) journal(s Storage) {
	s.Journal = true
	r.say(s)
}

func (r *rig) say(s Storage) {
	r.mu.Lock()
	r.storage = s
	r.mu.Unlock()
	r.pass(r.Machine.t.ReviewEvery)
}

// open opens the breaker by a slow assignment.
func (r *rig) open() {
	r.Assigned(time.Minute)
	synctest.Wait()
}

func (r *rig) last() report.LevelChange {
	all := r.Changes(0)
	require.NotEmpty(r.t, all, "no change")
	return all[len(all)-1]
}

// measured is the value of a change's number.
func measured(t *testing.T, c report.LevelChange, name string) float64 {
	i := slices.IndexFunc(c.Numbers, func(n report.LevelNumber) bool { return n.Name == name })
	require.GreaterOrEqual(t, i, 0, "%s is not among %+v", name, c.Numbers)
	return c.Numbers[i].Value
}

// at requires a level and whether the dependency is tried.
func (r *rig) at(level report.Level, direct bool, why ...string) {
	r.t.Helper()
	require.Equal(r.t, level, r.Level())
	require.Equal(r.t, direct, r.Direct(), "Direct at level %v", level)
	for _, text := range why {
		require.Contains(r.t, r.Status().Reason, text)
	}
}

func (r *rig) lines() int { return strings.Count(r.log.String(), "\n") }
