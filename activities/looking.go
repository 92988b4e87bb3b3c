package activities

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

const (
	awaitBeat = time.Second
	awaitLook = 200 * time.Millisecond
	// troubleLook is how often the hot paths' heartbeats are asked which lanes are parked. One that is older than troubleAge
	// says nothing about now.
	troubleLook = time.Second
	troubleAge  = 5 * time.Second
)

// looking says how the lanes are looked at.
type looking struct {
	deadline int           // seconds, counted from when the activity was scheduled
	replicas int           // whose heartbeats say which lanes are parked
	blind    time.Duration // for which the lanes may be unreadable; 0 is until the deadline
}

// await reads the lanes repeatedly until none is missing, look gives up, or the deadline has passed. Its heartbeats say where the lanes
// stand.
func (a *Control) await(ctx context.Context, raw []byte, l looking,
	look func([]contract.LaneState) (got contract.Applied, giveUp bool),
) (*contract.Applied, error) {
	s, err := parse(raw)
	if err != nil {
		return nil, err
	}
	until := activity.GetInfo(ctx).ScheduledTime.Add(time.Duration(l.deadline) * time.Second)
	var got contract.Applied
	var shown atomic.Pointer[contract.AwaitDetails]
	shown.Store(new(contract.AwaitDetails))
	details := func() any { return shown.Load() }
	err = newAttempt(ctx, a.beats, awaitBeat).hold(ctx, details, func(ctx context.Context) error {
		return a.lookUntil(ctx, s, l, until, func(states []contract.LaneState, failure error) (done bool) {
			if failure != nil {
				shown.Store(&contract.AwaitDetails{Problem: failure.Error()})
				return false
			}
			var giveUp bool
			got, giveUp = look(states)
			shown.Store(standing(got))
			return giveUp || len(got.Missing) == 0
		})
	})
	return &got, err
}

// standing is the part of an answer that fits a heartbeat.
func standing(got contract.Applied) *contract.AwaitDetails {
	first := got.Missing[:min(len(got.Missing), contract.MaxAwaitMissing)]
	return &contract.AwaitDetails{Done: len(got.Lanes), Missing: first, More: len(got.Missing) - len(first)}
}

func (a *Control) lookUntil(ctx context.Context, s *spec.Spec, l looking, until time.Time,
	done func(states []contract.LaneState, failure error) bool,
) error {
	tick := time.NewTicker(awaitLook)
	defer tick.Stop()
	var failure error
	seen := time.Now() // when the lanes were read last
	parked := &troubles{watch: a.watch, pipeline: s.Name, replicas: l.replicas}
	for looked := false; ; {
		states, err := a.lanes.States(ctx, s)
		switch {
		case reasonOf(ctx) != nil:
			return ended(reasonOf(ctx))
		case errors.Is(err, ErrPermanent):
			return final(err)
		case err != nil:
			failure = err
			done(nil, err)
		case done(parked.mark(ctx, states), nil):
			return nil
		default:
			looked, seen = true, time.Now()
		}
		blind := err != nil && l.blind > 0 && time.Since(seen) >= l.blind
		if blind || time.Now().After(until) {
			if blind || !looked { // another attempt would have no time
				return temporal.NewNonRetryableApplicationError(failure.Error(), contract.ErrorPermanent, failure)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ended(reasonOf(ctx))
		}
	}
}

// troubles knows from the hot paths' heartbeats which lanes are parked, and which commit to a journal, and why. What is durable
// of a lane does not say so.
type troubles struct {
	watch    Watch
	pipeline string
	replicas int
	next     time.Time // when they are asked again; asking takes a tenth of the time at most
	parked   map[report.LaneRef]report.LaneStatus
	outages  map[report.LaneRef]string
}

// mark notes the trouble of lanes that are parked, and the outage of those whose commits do not reach Redis. A hot path that
// cannot be asked says nothing.
func (t *troubles) mark(ctx context.Context, states []contract.LaneState) []contract.LaneState {
	if began := time.Now(); !began.Before(t.next) {
		t.parked = make(map[report.LaneRef]report.LaneStatus)
		t.outages = make(map[report.LaneRef]string)
		for n := range t.replicas {
			status, at, ok := t.watch.HotPath(ctx, t.pipeline, n)
			if !ok || time.Since(at) > troubleAge {
				continue
			}
			outage := outageText(status.Dependencies)
			for _, l := range status.Lanes {
				id := report.LaneRef{Topic: l.Topic, Partition: l.Partition}
				if l.State == report.LaneParked {
					t.parked[id] = l
				}
				t.outages[id] = outage
			}
		}
		t.next = time.Now().Add(max(troubleLook, 10*time.Since(began)))
	}
	for i := range states {
		id := report.LaneRef{Topic: states[i].Topic, Partition: states[i].Partition}
		states[i].Outage = t.outages[id]
		l, ok := t.parked[id]
		if !ok {
			continue
		}
		states[i].Trouble = "parked: " + l.Reason
		if len(l.Choices) > 0 {
			states[i].Asks = true
			states[i].Trouble += fmt.Sprintf("; it waits for a decision: millrace recover ls %s", t.pipeline)
		}
	}
	return states
}

// outageText says why the commits of a hot path's lanes do not reach Redis, "" when they do. A lane adopts desired state with such
// a commit.
func outageText(dependencies []report.DependencyStatus) string {
	for _, d := range dependencies {
		if d.Dependency != report.DependencyRedis || d.Level == report.LevelNormal {
			continue
		}
		what := "its commits go to the journal"
		if d.Level == report.LevelPaused {
			what = "it is held back"
		}
		if d.Override != "" {
			what += " by order (" + string(d.Override) + ")"
		}
		return fmt.Sprintf("%s since %s: Redis: %s", what, d.Since.UTC().Format(time.RFC3339), d.Reason)
	}
	return ""
}
