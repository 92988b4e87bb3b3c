package app

import (
	"context"
	"time"

	"millrace/activities"
	"millrace/pipeline/breaker"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/report"
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
		Pipeline: s.Name, Replica: number, Dependency: report.DependencyRedis, Prober: e.prober,
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
func (g guard) route(s *spec.Spec) deliver.Route {
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
func (g guard) assigned(lanes []report.RecoveredLane) {
	var slowest time.Duration
	for i := range lanes {
		var took time.Duration
		for _, s := range lanes[i].Steps {
			if s.Step == report.StepAcquire || s.Step == report.StepVerify {
				took += time.Duration(s.Took) * time.Microsecond
			}
		}
		slowest = max(slowest, took)
	}
	if slowest > 0 {
		g.Assigned(slowest)
	}
}

// Level implements activities.Levels.
func (e *engines) Level(pipeline string, number int, dependency string) (activities.Level, bool) {
	if dependency == report.DependencyResults && number == 0 {
		return e.outlets.level(pipeline)
	}
	h, err := e.find(pipeline, number)
	if err != nil || dependency != report.DependencyRedis {
		return nil, false
	}
	return h.guard.Machine, true
}
