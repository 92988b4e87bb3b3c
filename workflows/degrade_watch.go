package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// listen takes the signals that say which state machines to follow.
func (d *degrade) listen(ctx workflow.Context) {
	for {
		var signal contract.LevelSignal
		wake := workflow.NewSelector(ctx)
		wake.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
		wake.AddReceive(d.signals, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, &signal)
			d.take(ctx, signal)
		})
		wake.Select(ctx)
		if ctx.Err() != nil {
			return
		}
	}
}

// receive takes one signal without blocking; the next run watches.
func (d *degrade) receive() bool {
	var signal contract.LevelSignal
	if !d.signals.ReceiveAsync(&signal) {
		return false
	}
	d.meet(signal)
	return true
}

func (d *degrade) take(ctx workflow.Context, signal contract.LevelSignal) {
	if i, fresh := d.meet(signal); fresh {
		d.watch(i)
	}
	d.show(ctx)
}

// meet finds the state machine of a signal or adds it. A departure that no watch has told yet counts at once, so that a run that
// is about to end stays. One that was lost sight of and speaks again is followed again, after what has been told.
func (d *degrade) meet(signal contract.LevelSignal) (i int, fresh bool) {
	i = slices.IndexFunc(d.state.Machines, func(m contract.DegradedMachine) bool {
		return m.Process == signal.Process && m.Replica == signal.Replica
	})
	switch {
	case i >= 0 && d.state.Machines[i].Ended == "":
		if m := &d.state.Machines[i]; m.Level == report.LevelNormal && signal.At.After(m.Since) {
			m.Level, m.Since = signal.Level, signal.At
		}
		return i, false
	case i >= 0:
		d.state.Machines[i].Ended = ""
		d.state.Machines[i].Level, d.state.Machines[i].Since = signal.Level, signal.At
		return i, true
	}
	if d.state.Began.IsZero() {
		d.state.Began = signal.At
	}
	met := contract.DegradedMachine{
		Replica: signal.Replica, Process: signal.Process, Queue: signal.Queue, Disk: signal.Disk, Seq: signal.After,
		Level: signal.Level, Highest: signal.Level, Since: signal.At,
	}
	if len(d.state.Machines) < contract.MaxMachines {
		d.state.Machines = append(d.state.Machines, met)
		return len(d.state.Machines) - 1, true
	}
	i = slices.IndexFunc(d.state.Machines, func(m contract.DegradedMachine) bool { return m.Ended != "" })
	if i < 0 {
		return i, false
	}
	d.state.Machines[i] = met
	return i, true
}

// watch follows a state machine until it is lost sight of or the run ends.
func (d *degrade) watch(i int) {
	if d.state.Machines[i].Ended != "" {
		return
	}
	workflow.Go(d.work, func(ctx workflow.Context) {
		failures := 0
		for ctx.Err() == nil && d.state.Machines[i].Ended == "" {
			result, err := d.look(ctx, i)
			m := &d.state.Machines[i]
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				failures = 0
				d.learn(m, result)
			case notStarted(err):
				m.Ended = contract.OutcomeWorkerGone
			default:
				// The attempt was lost: the process died, froze or builds its worker anew. The next attempt shows which.
				d.log.Info("watch lost", "replica", m.Replica, "error", err)
				if failures++; failures > 1 {
					what := fmt.Sprintf("watches replica %d again: %s", m.Replica, endText(err))
					if pause(ctx, min(time.Second<<min(failures-2, 10), pauseMost), what) != nil {
						return
					}
				}
			}
			d.show(ctx)
		}
	})
}

func (d *degrade) look(ctx workflow.Context, i int) (result contract.WatchLevelResult, err error) {
	m := d.state.Machines[i]
	options := contract.WatchLevelOptions(m.Queue)
	options.Summary = fmt.Sprintf("%s of replica %d after change %d, %s now", d.in.Dependency, m.Replica, m.Seq, m.Level)
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), d.degrading.WatchLevel, contract.WatchLevelInput{
		Pipeline: d.in.Pipeline, Replica: m.Replica, Dependency: d.in.Dependency, After: m.Seq,
		RenewSeconds: int64(contract.WatchRenew.Seconds()),
	}).Get(ctx, &result)
	return result, err
}

// learn books what a watch returned. A change that should have been told already is one of a new state machine: the hot path was
// started anew in the process, and counts from 1 again.
func (d *degrade) learn(m *contract.DegradedMachine, result contract.WatchLevelResult) {
	if len(result.Changes) > 0 && result.Changes[0].Seq <= m.Seq {
		m.Seq = 0
	}
	for _, c := range result.Changes {
		if c.Seq <= m.Seq {
			continue
		}
		m.Missed += c.Seq - m.Seq - 1
		if c.From != report.LevelNormal && m.Level == c.From && c.To != c.From {
			lasted(m, c.At)
		}
		if c.To != m.Level || c.From != c.To {
			m.Since = c.At
		}
		if c.Override != m.Override && d.asking == 0 { // set or lifted by an order to all workers
			d.state.Generation++
		}
		m.Seq, m.Level, m.Override = c.Seq, c.To, c.Override
		if c.To.Rank() > m.Highest.Rank() {
			m.Highest = c.To
		}
		c.Replica, c.Dependency = m.Replica, d.in.Dependency
		d.state.Timeline = append(d.state.Timeline, c)
		d.state.Timeline = d.state.Timeline[max(0, len(d.state.Timeline)-contract.MaxTimeline):]
		d.state.Changes++
	}
	switch {
	case result.Outcome == contract.OutcomeMoved:
		m.Ended = contract.OutcomeMoved
	case result.Status.Seq == m.Seq && result.Status.Level != "":
		m.Level, m.Override = result.Status.Level, result.Status.Override
	}
}

// lasted books how long the level of now has lasted. Normal is not counted.
func lasted(m *contract.DegradedMachine, until time.Time) {
	if m.Level == report.LevelNormal || m.Since.IsZero() || until.Before(m.Since) {
		return
	}
	took := until.Sub(m.Since).Milliseconds()
	m.Since = until
	if i := slices.IndexFunc(m.Times, func(t contract.LevelTime) bool { return t.Level == m.Level }); i >= 0 {
		m.Times[i].Took += took
		return
	}
	m.Times = append(m.Times, contract.LevelTime{Level: m.Level, Took: took})
}
