package activities

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const specJSON = `{"name":"orders","source":{"topics":["orders"],"format":"json"},
"event":{"key":["shop"],"time":{"field":"at","unit":"ms"}},
"aggregates":[{"name":"n","func":"count"}],"windows":[{"name":"secondly","size":"1s"},{"name":"hourly","size":"1h"}],
"watermark":{"out_of_orderness":"5s"},"allowed_lateness":"0s",
"results":{"kafka":{"topic":"orders.windows"}},"late":{},"dead_letter":{},"replicas":2}`

func orders(t *testing.T) *spec.Spec {
	s, err := parse([]byte(specJSON))
	require.NoError(t, err)
	return s
}

var quiet = slog.New(slog.DiscardHandler)

// fakeTemporal answers heartbeats and says which workflows are open.
type fakeTemporal struct {
	mu     sync.Mutex
	answer error // of heartbeats
	beats  int
	closed map[string]bool
	away   error // of looks
	last   any

	hotPath contract.EngineStatus
}

func (f *fakeTemporal) set(answer error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeTemporal) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.beats
}

func (f *fakeTemporal) setClosed(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = map[string]bool{id: true}
}

func (f *fakeTemporal) setAway(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.away = err, err
}

func (f *fakeTemporal) RecordActivityHeartbeat(_ context.Context, _ []byte, details ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beats++
	if len(details) > 0 {
		f.last = details[0]
	}
	return f.answer
}

func (f *fakeTemporal) Open(_ context.Context, id string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed[id], f.away
}

// HotPath answers with what was said of the hot path, a moment ago.
func (f *fakeTemporal) HotPath(context.Context, string, int) (contract.EngineStatus, time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hotPath, time.Now(), f.hotPath.Pipeline != ""
}

// fakeRedis keeps leases.
type fakeRedis struct {
	mu     sync.Mutex
	leases map[tenantKey]Lease
	until  map[tenantKey]time.Time
	away   error
}

func newFakeRedis() *fakeRedis {
	return &fakeRedis{leases: make(map[tenantKey]Lease), until: make(map[tenantKey]time.Time)}
}

func (f *fakeRedis) AcquireLease(_ context.Context, pipeline string, replica int, lease Lease, ttl time.Duration) (Lease, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := tenantKey{pipeline, replica}
	if f.away != nil {
		return Lease{}, false, f.away
	}
	if holder, ok := f.leases[key]; ok && holder.Token != lease.Token && time.Now().Before(f.until[key]) {
		return holder, false, nil
	}
	f.leases[key], f.until[key] = lease, time.Now().Add(ttl)
	return lease, true, nil
}

func (f *fakeRedis) ReadLease(_ context.Context, pipeline string, replica int) (Lease, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := tenantKey{pipeline, replica}
	lease, ok := f.leases[key]
	return lease, ok && time.Now().Before(f.until[key]), f.away
}

func (f *fakeRedis) ReleaseLease(_ context.Context, pipeline string, replica int, token string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if key := (tenantKey{pipeline, replica}); f.leases[key].Token == token {
		delete(f.leases, key)
	}
	return f.away
}

func (f *fakeRedis) setAway(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = err
}

// fakeEngine is a hot path.
type fakeEngine struct {
	done    chan struct{}
	once    sync.Once
	err     error
	stopped bool
	slow    time.Duration
	mu      sync.Mutex
	nudges  int
}

func (e *fakeEngine) Status() contract.EngineStatus {
	return contract.EngineStatus{Pipeline: "orders", State: contract.StateRunning}
}

func (e *fakeEngine) Stop(ctx context.Context) error {
	select {
	case <-time.After(e.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	e.once.Do(func() {
		e.stopped = true
		close(e.done)
	})
	return nil
}

func (e *fakeEngine) fail(err error) {
	e.once.Do(func() {
		e.err = err
		close(e.done)
	})
}

func (e *fakeEngine) running() bool {
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}

func (e *fakeEngine) Done() <-chan struct{} { return e.done }
func (e *fakeEngine) Err() error            { return e.err }
func (e *fakeEngine) Nudge() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nudges++
}

// fakeEngines starts them.
type fakeEngines struct {
	mu      sync.Mutex
	started []*fakeEngine
	err     error
	slow    time.Duration // of a start
	slowEnd time.Duration // of a stop

	incapable error
}

func (f *fakeEngines) Capable(*spec.Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.incapable
}

func (f *fakeEngines) Start(ctx context.Context, _ *spec.Spec, _ int) (Engine, error) {
	select {
	case <-time.After(f.slow):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	e := &fakeEngine{done: make(chan struct{}), slow: f.slowEnd}
	f.started = append(f.started, e)
	return e, nil
}

func (f *fakeEngines) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.started)
}

func (f *fakeEngines) get(n int) *fakeEngine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started[n]
}

var errUnavailable = errors.New("connection refused")
