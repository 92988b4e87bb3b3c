package app

import (
	"context"
	"maps"
	"slices"
	"time"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/breaker"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/spec"
)

// briefly is for how long the breaker of a pipeline without a journal stays open: its lanes go on trying, and wait no longer than
// Redis is away.
const briefly = 5 * time.Second

// guard is the state machine of one hot path for Redis.
type guard struct{ *breaker.Machine }

// newGuard makes the machine for a hot path. It does nothing before it is run.
func (e *engines) newGuard(s *spec.Spec, number int) (guard, error) {
	cfg := breaker.Config{
		Pipeline: s.Name, Replica: number, Dependency: contract.DependencyRedis, Prober: e.prober,
		Thresholds: e.thresholds, Log: e.log.With("pipeline", s.Name, "replica", number),
	}
	if e.disk != nil && s.Lane.Overflow == spec.OverflowJournal {
		cfg.Storage = func() breaker.Storage { return e.disk.storage(s.Name) }
	} else {
		cfg.Thresholds.OpenFor = briefly
	}
	m, err := breaker.New(cfg)
	return guard{m}, err
}

// route is the guard as lanes see it. Without a journal they try Redis whatever the breaker says: there is nowhere else to go.
func (g guard) route(s *spec.Spec) lane.Route {
	if s.Lane.Overflow == spec.OverflowJournal {
		return g.Machine
	}
	return witness{g.Machine}
}

// witness only listens.
type witness struct{ m *breaker.Machine }

func (w witness) Direct() bool            { return true }
func (w witness) Report(err error)        { w.m.Report(err) }
func (w witness) Admit(int) time.Duration { return 0 }

// watch runs the machine as long as the hot path, and tells it how that fares.
func (g guard) watch(e *engine.Engine) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go g.Run(ctx)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-e.Done():
			return
		case <-tick.C:
		}
		if read, lag, paused := progressOf(e.Status().Lanes); !paused {
			g.Progress(read, lag)
		}
	}
}

// progressOf sums up what lanes have read and what waits for them; paused reports whether an operator has paused one.
func progressOf(lanes []lane.Status) (read, lag int64, paused bool) {
	for i := range lanes {
		read += lanes[i].Counters.Read
		lag += max(0, lanes[i].End-lanes[i].Offset)
		paused = paused || lanes[i].State == lane.StatePaused
	}
	return read, lag, paused
}

// assigned tells the machine how long the slowest lane of a batch took to become ours. How long its state took to read is not
// the dependency's failure, and is left out.
func (g guard) assigned(r engine.BatchReport) {
	slowest := 0.0
	for _, row := range r.Rows {
		slowest = max(slowest, row.Steps[lane.StepAcquire]+row.Steps[lane.StepVerify])
	}
	if slowest > 0 {
		g.Assigned(time.Duration(slowest * float64(time.Millisecond)))
	}
}

// Level implements activities.Levels.
func (e *engines) Level(pipeline string, number int, dependency string) (activities.Level, bool) {
	if dependency == contract.DependencyResults && number == 0 {
		return e.outlets.level(pipeline)
	}
	h, err := e.find(pipeline, number)
	if err != nil || dependency != contract.DependencyRedis {
		return nil, false
	}
	return level{h.guard.Machine}, true
}

// level shows a machine as the control plane sees it.
type level struct{ m *breaker.Machine }

var _ activities.Level = level{}

// Status implements activities.Level.
func (l level) Status() contract.LevelStatus {
	s := l.m.Status()
	out := contract.LevelStatus{Level: s.Level.String(), Since: s.Since, Seq: s.Changes, Reason: s.Reason, Breaker: s.Breaker}
	if s.Override != nil {
		out.Override = string(s.Override.Override)
	}
	return out
}

// dependencyStatus is where a machine stands; nil at normal without an override.
func dependencyStatus(m *breaker.Machine, worker string) *contract.DependencyStatus {
	s := m.Status()
	if s.Level == breaker.Normal && s.Override == nil {
		return nil
	}
	out := &contract.DependencyStatus{Dependency: s.Dependency, Level: s.Level.String(), Since: s.Since, Reason: s.Reason, Worker: worker}
	if o := s.Override; o != nil {
		out.Override, out.Since, out.Reason = string(o.Override), o.At, o.Reason
		switch {
		case o.Reason == "":
			out.Reason = o.By
		case o.By != "":
			out.Reason += " (" + o.By + ")"
		}
	}
	return out
}

// Changes implements activities.Level.
func (l level) Changes(after int64) []contract.LevelChange {
	var out []contract.LevelChange
	replica := l.m.Status().Replica
	for _, c := range l.m.Changes(after) {
		change := contract.LevelChange{
			Seq: c.Seq, At: c.At, Replica: replica, Dependency: c.Dependency, From: c.From.String(), To: c.To.String(),
			Reason: c.Reason, Override: string(c.Override),
		}
		for _, name := range slices.Sorted(maps.Keys(c.Numbers)) {
			change.Numbers = append(change.Numbers, contract.LevelNumber{Name: name, Value: c.Numbers[name]})
		}
		out = append(out, change)
	}
	return out
}

// Await implements activities.Level.
func (l level) Await(ctx context.Context, after int64) error {
	_, err := l.m.Await(ctx, after)
	return err
}

// Override implements activities.Level.
func (l level) Override(override, by, reason string) error {
	o, err := breaker.ParseOverride(override)
	if err != nil {
		return err
	}
	l.m.Override(o, by, reason)
	return nil
}
