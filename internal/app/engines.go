package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

type replica struct {
	pipeline string
	number   int
}

// engines starts hot paths in this process and remembers those that run.
type engines struct {
	kafka source.Config
	store *store.Store
	log   *slog.Logger

	mu      sync.Mutex
	running map[replica]*engine.Engine
}

// Start implements activities.Engines. The host never starts a replica twice at a time; different ones do not wait for
// each other.
func (e *engines) Start(ctx context.Context, s *spec.Spec, number int) (activities.Engine, error) {
	key := replica{s.Name, number}
	e.mu.Lock()
	running, ok := e.running[key]
	e.mu.Unlock()
	if ok && !ended(running) {
		return hotPath{running}, nil
	}
	started, err := engine.Start(ctx, engine.Config{
		Spec: s, Replica: number, Kafka: e.kafka, Store: e.store, Log: e.log.With("pipeline", s.Name, "replica", number),
	})
	if err != nil {
		return nil, permanent(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[key] = started
	return hotPath{started}, nil
}

func ended(e *engine.Engine) bool {
	select {
	case <-e.Done():
		return true
	default:
		return false
	}
}

// statuses returns what the running hot paths say of themselves.
func (e *engines) statuses() []engine.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []engine.Status
	for key, running := range e.running {
		if ended(running) {
			delete(e.running, key)
			continue
		}
		all = append(all, running.Status())
	}
	return all
}

// hotPath shows an engine as the control plane sees it.
type hotPath struct{ *engine.Engine }

// Status implements activities.Engine.
func (h hotPath) Status() contract.EngineStatus {
	s := h.Engine.Status()
	out := contract.EngineStatus{
		Pipeline: s.Pipeline, Replica: s.Replica, State: contract.StateRunning, Reason: s.Error,
		Memory: s.MemoryUsed, MemoryLimit: s.MemoryLimit, Owned: len(s.Lanes),
	}
	paused := len(s.Lanes) > 0
	for i := range s.Lanes {
		l := &s.Lanes[i]
		out.Rate += l.Rate
		out.Lag += l.Lag()
		paused = paused && l.State == lane.StatePaused
		out.Lanes = append(out.Lanes, laneStatus(l))
	}
	if paused {
		out.State = contract.StatePaused
	}
	slices.SortStableFunc(out.Lanes, func(a, b contract.LaneStatus) int {
		return cmp.Or(cmp.Compare(trouble(b), trouble(a)), cmp.Compare(b.Lag, a.Lag))
	})
	if len(out.Lanes) > contract.MaxStatusLanes {
		out.Lanes = out.Lanes[:contract.MaxStatusLanes]
	}
	slices.SortFunc(out.Lanes, func(a, b contract.LaneStatus) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// trouble ranks lanes for a list that has not room for all.
func trouble(l contract.LaneStatus) int {
	switch l.State {
	case lane.StateParked:
		return 2
	case lane.StateBlocked, lane.StateAcquiring:
		return 1
	}
	return 0
}

func laneStatus(l *lane.Status) contract.LaneStatus {
	out := contract.LaneStatus{
		Topic: l.Topic, Partition: l.Partition, State: l.State, Reason: l.Reason,
		Offset: l.Committed, Lag: l.Lag(), Rate: l.Rate, Epoch: l.Owner.Epoch(),
	}
	if l.Incident != nil {
		out.Reason = l.Incident.Error()
	}
	if l.Watermark != nil {
		out.Watermark = *l.Watermark
	}
	return out
}

// permanent marks errors that no retry mends.
func permanent(err error) error {
	var format *store.FormatError
	var state *store.StateIDError
	if errors.As(err, &format) || errors.As(err, &state) || errors.Is(err, store.ErrEviction) ||
		errors.Is(err, store.ErrServerVersion) || errors.Is(err, source.ErrUnknownTopic) || errors.Is(err, window.ErrPlan) {
		return fmt.Errorf("%w: %w", activities.ErrPermanent, err)
	}
	return err
}
