package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"millrace/activities"
	"millrace/internal/build"
	"millrace/internal/contract"
	"millrace/pipeline/measure"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/rollup"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// closers hands out one closer per spec and workflow run, while somebody uses it and a little longer: its producers hold
// connections. A closer remembers which windows it has published, and a removal makes that void. Removals begin when all
// workflows of the pipeline are closed, so no run sees what came before one and after it.
type closers struct {
	kafka   source.Config
	cluster *source.Cluster
	store   *store.Store
	measure *measure.Process
	outlets *outlets
	merged  *merge.Cache // slices that are merged into several windows
	by      string
	log     *slog.Logger
	shared  func(ctx context.Context, dir string) error // see result.Archives
	create  func(*spec.Spec) (*closer, error)
	tracing *result.Tracing // nil: no record's trace is continued

	keepsWhole func() string // why corrections and roll-ups publish all rows, see result.Config

	mu       sync.Mutex
	made     map[closerKey]*closer
	upToDate map[string]time.Time // by pipeline, when a round last left nothing due
	stop     context.CancelFunc
	work     sync.WaitGroup
}

// closerKey is who shares a closer.
type closerKey struct {
	spec string // its JSON
	run  string
}

// idleFor is how long a closer is kept for its next user; between two activities of one pipeline it is seconds.
const (
	idleFor    = 10 * time.Second
	sweepEvery = 2 * time.Second
)

func newClosers(kafka source.Config, cluster *source.Cluster, state *store.Store, of *measure.Process, out *outlets,
	merged *merge.Cache, by string,
	shared func(ctx context.Context, dir string) error, log *slog.Logger) *closers {
	c := &closers{
		kafka: kafka, cluster: cluster, store: state, measure: of, outlets: out, merged: merged, by: by, shared: shared, log: log,
		made: make(map[closerKey]*closer), upToDate: make(map[string]time.Time),
	}
	c.create = c.newCloser
	c.start()
	return c
}

func (c *closers) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.work.Go(func() {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				c.sweep(now)
			}
		}
	})
}

func (c *closers) newCloser(s *spec.Spec) (*closer, error) {
	log := c.log.With("pipeline", s.Name)
	inner, err := result.NewCloser(result.Config{
		Spec: s, State: newCloserStore(c.store), Kafka: publish.NewClient(c.kafka, c.cluster, s.Name),
		By: c.by, Build: build.Version(), Log: log, Jobs: c.jobs(s), Measure: c.measure.Pipeline(s.Name), Tracing: c.tracing,
		Cache: c.merged, KeepsWhole: c.keepsWhole,
	})
	if err != nil {
		return nil, permanent(err)
	}
	made := &closer{windows: inner, spec: s, by: c.by, log: log, skipped: make(map[window.Ref]struct{})}
	if c.tracing != nil {
		made.tracer = c.tracing.Tracer
	}
	return made, nil
}

// lateEvents reads the pipeline's late topic; nil without one.
func (c *closers) lateEvents(s *spec.Spec) rollup.LateReader {
	if s.Late.Kafka == nil {
		return nil
	}
	return rollup.LateTopic(c.cluster, s.Late.Kafka.Topic)
}

// Closer implements activities.Closers.
func (c *closers) Closer(_ context.Context, s *spec.Spec, run string) (activities.Closer, func(), error) {
	text, err := s.JSON()
	if err != nil {
		return nil, nil, err
	}
	key := closerKey{string(text), run}
	c.mu.Lock()
	defer c.mu.Unlock()
	made, ok := c.made[key]
	if !ok {
		if made, err = c.create(s); err != nil {
			return nil, nil, err
		}
		if made.outlet, err = c.outlets.of(s.Name); err != nil {
			return nil, nil, err
		}
		made.upToDate = func() { c.noteUpToDate(s.Name) }
		c.made[key] = made
	}
	if _, known := c.upToDate[s.Name]; !known {
		c.upToDate[s.Name] = time.Now()
	}
	made.users++
	return made, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		made.users--
		made.left = time.Now()
	}, nil
}

// inUse reports whether a closer is in use, or waits for its next user. One that could not look is tried again after a longer
// pause. The mutex of closers is held.
func (c *closer) inUse(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := idleFor
	if c.last.Problem != "" {
		pause += contract.CloseDueOptions().RetryPolicy.MaximumInterval
	}
	return c.users > 0 || now.Sub(c.left) < pause
}

// sweep gives up the closers that nobody has used for a while, and the state machines of pipelines that have none left. Without
// any closer, merged slices have no use.
func (c *closers) sweep(now time.Time) {
	c.mu.Lock()
	var idle []*closer
	wanted := make(map[string]bool)
	for key, made := range c.made {
		if made.inUse(now) {
			wanted[made.spec.Name] = true
			continue
		}
		idle = append(idle, made)
		delete(c.made, key)
	}
	maps.DeleteFunc(c.upToDate, func(name string, _ time.Time) bool { return !wanted[name] })
	c.outlets.retain(now, wanted)
	if len(wanted) == 0 {
		c.merged.Clear()
	}
	c.mu.Unlock()
	for _, made := range idle {
		if err := made.windows.Close(); err != nil {
			made.log.Warn("a closer that is not used any more did not close cleanly", "error", err)
		}
	}
}

// mergeMemory is what merged slices may take, 0 while no window was merged that they are kept for.
func (c *closers) mergeMemory() int64 {
	s := c.merged.Stats()
	if s.Hits+s.Misses == 0 {
		return 0
	}
	return s.Limit
}

// kept says by pipeline what is still there of its windows, for those that are closed here now.
func (c *closers) kept() map[string]report.Kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]report.Kept)
	for _, made := range c.made {
		made.mu.Lock()
		if made.users > 0 && made.kept != nil {
			all[made.spec.Name] = *made.kept
		}
		made.mu.Unlock()
	}
	return all
}

// times says by pipeline where the time of the closer's rounds has gone, for those that are closed here now.
func (c *closers) times() map[string]stage.Spent {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]stage.Spent)
	for _, made := range c.made {
		if made.users > 0 {
			all[made.spec.Name] = made.windows.Times().Total
		}
	}
	return all
}

// hindered says by pipeline what hinders the closer that has looked for windows last, if it is at work here or waits for its next
// user. One that closes a single window, as a window's own workflow asks it to, does not look and knows nothing of the others.
// The transaction is the one that any of them has open for longest.
func (c *closers) hindered() map[string]contract.CloseDueDetails {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, latest := make(map[string]contract.CloseDueDetails), make(map[string]time.Time)
	open := make(map[string]*report.OpenTransaction)
	for _, made := range c.made {
		if !made.inUse(time.Now()) {
			continue
		}
		name := made.spec.Name
		if t := made.windows.OpenTransaction(); t != nil && (open[name] == nil || t.Since < open[name].Since) {
			open[name] = t
		}
		made.mu.Lock()
		if made.looked.After(latest[name]) {
			all[name], latest[name] = made.last, made.looked
		}
		made.mu.Unlock()
	}
	for name, t := range open {
		now := all[name]
		now.Open = t
		all[name] = now
	}
	return all
}

func (c *closers) close() error {
	c.stop()
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, made := range c.made {
		errs = append(errs, made.windows.Close())
	}
	clear(c.made)
	c.outlets.close()
	return errors.Join(errs...)
}
