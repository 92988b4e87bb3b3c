package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// Bounds of one look, so that a server that hangs costs seconds and is a finding like any other.
const (
	lookLimit   = 3 * time.Second
	silentAfter = 15 * time.Second // without a commit: owners commit every second, also when there is nothing to commit
)

// observer looks at one pipeline repeatedly. A server that does not answer is a finding, not an error, and the next look tries
// it again. Not safe for concurrent use.
type observer struct {
	sh       *shell
	spec     *spec.Spec
	temporal client.Client // nil while it does not answer
	data     *servers      // nil while Kafka or Redis does not answer

	asked   *survey.Asked // nil for a single look
	lanes   *lanesView    // as last read, nil before
	lanesAt time.Time
}

// Close gives all connections back.
func (o *observer) Close() {
	if o.temporal != nil {
		o.temporal.Close()
	}
	if o.data != nil {
		o.data.Close()
	}
}

// look gathers one view. An error means wrong usage, or that ctx ended.
func (o *observer) look(ctx context.Context) (statusView, error) {
	now := time.Now()
	view := statusView{Pipeline: o.spec.Name, State: "unknown", Replicas: o.spec.Replicas}
	facts := &findings{
		pipeline: o.spec.Name, journal: o.spec.Lane.Overflow == spec.OverflowJournal, phase: contract.StateRunning,
		beats: make(map[string]report.LaneStatus),
	}
	if err := o.lookAtTemporal(ctx, &view, facts); err != nil {
		return view, err
	}
	if err := o.lookAtLanes(ctx, now, facts); err != nil {
		return view, err
	}
	if o.lanes != nil {
		o.fillLanes(&view, facts, now)
		view.Removal = removalOf(ctx, o.temporal, o.spec.Name, view.Lanes)
	}
	facts.forgetRecovered()
	facts.judgeLanes(&view, now)
	if facts.blind {
		view.State, view.Note = facts.phase, "as Redis says; Temporal does not answer"
	}
	view.Standing = contract.NewStanding(view.Pipeline, facts.phase, len(view.Lanes), facts.conditions, now)
	if view.Standing.Healthy && len(view.Standing.Conditions) == 0 && quiet(&view, now) {
		view.Standing.Line += ", all sources are quiet"
	}
	return view, ctx.Err()
}

// findings collects what one look has found out.
type findings struct {
	pipeline   string
	journal    bool // its lanes overflow into a journal
	phase      string
	open       bool // the pipeline's workflow is open, or may be: Temporal does not answer
	blind      bool // Temporal does not answer
	conditions []contract.Condition
	beats      map[string]report.LaneStatus // by lane, from heartbeats
}

func (f *findings) add(conditions ...contract.Condition) {
	f.conditions = append(f.conditions, conditions...)
}

// temporalAway notes that Temporal does not answer. Lanes are judged all the same: they go on without it.
func (f *findings) temporalAway(err error) {
	f.open, f.blind = true, true
	f.add(contract.Condition{Kind: contract.ConditionTemporalAway, Reason: firstLine(err.Error())})
}

// dataAway notes that Redis or Kafka does not answer.
func (f *findings) dataAway(err error) {
	kind := contract.ConditionKafkaAway
	if errors.Is(err, errRedisAway) {
		kind = contract.ConditionRedisAway
	}
	f.add(contract.Condition{Kind: kind, Reason: firstLine(err.Error())})
}

// commanded takes over desired state as Redis holds it.
func (f *findings) commanded(paused, stopping bool) {
	switch {
	case stopping:
		f.phase, f.open = contract.StateStopped, false
	case paused:
		f.phase = contract.StatePaused
		f.add(contract.IntentConditions(f.pipeline, contract.StatePaused, "", time.Time{})...)
	}
}

// lookAtTemporal asks the pipeline's workflow, its children's heartbeats and, when there is no answer, why not.
func (o *observer) lookAtTemporal(ctx context.Context, view *statusView, facts *findings) error {
	if o.temporal == nil {
		c, err := o.sh.dialTemporal(ctx)
		if err != nil {
			var fail *Fail
			if ctx.Err() != nil || errors.As(err, &fail) && fail.Code == ExitUsage {
				return err
			}
			facts.temporalAway(err)
			return nil
		}
		o.temporal = c
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return describe(ctx, o.temporal, view, facts)
}

// describe asks how the pipeline's workflow is and, if it is open, what it and its children say.
func describe(ctx context.Context, c client.Client, view *statusView, facts *findings) error {
	answer, err := c.DescribeWorkflowExecution(ctx, contract.PipelineID(view.Pipeline), "")
	var notFound *serviceerror.NotFound
	switch {
	case errors.As(err, &notFound):
		facts.phase, view.State = contract.StateStopped, "not started"
		facts.add(contract.Condition{Kind: contract.ConditionNotStarted, Command: "millrace start FILE"})
		return nil
	case err != nil:
		facts.temporalAway(err)
		return nil
	}
	info := answer.GetWorkflowExecutionInfo()
	if state := info.GetStatus(); state != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		describeClosed(ctx, c, info.GetCloseTime().AsTime(), state, view, facts)
		return nil
	}
	facts.open = true
	if requireWorker(ctx, c) != nil {
		facts.add(contract.Condition{Kind: contract.ConditionNoWorker, Command: "bin/worker"})
		return nil
	}
	var p contract.PipelineStatus
	if err := queryWorkflow(ctx, c, contract.PipelineID(view.Pipeline), "", &p); err != nil {
		facts.add(contract.Condition{
			Kind: contract.ConditionUnanswered, Reason: "workflow " + contract.PipelineID(view.Pipeline) + ": " + firstLine(err.Error()),
			Command: "bin/worker",
		})
		return nil
	}
	view.State, view.Note, view.Replicas, view.Children = p.State, p.Note, p.Replicas, p.Children
	view.Pending = p.Pending
	if !p.Since.IsZero() {
		view.Since = &p.Since
	}
	facts.phase = p.State
	for _, intent := range contract.IntentConditions(view.Pipeline, p.State, p.Note, time.Time{}) {
		intent.Since = knownSince(p.Standing, intent.Kind)
		facts.add(intent)
	}
	facts.add(contract.OrderConditions(view.Pipeline, facts.journal, p.Orders)...)
	for _, child := range append(p.Children, p.Attached...) {
		facts.add(contract.ChildConditions(view.Pipeline, facts.journal, child)...)
	}
	describeBeats(ctx, c, p.Replicas, view, facts)
	return nil
}

// knownSince is since when a workflow's own standing has a condition of the kind; zero when it does not say.
func knownSince(s *contract.Standing, kind string) time.Time {
	if s == nil {
		return time.Time{}
	}
	i := slices.IndexFunc(s.Conditions, func(c contract.Condition) bool { return c.Kind == kind })
	if i < 0 {
		return time.Time{}
	}
	return s.Conditions[i].Since
}

// describeClosed says how the workflow ended, and whether something of the pipeline still runs.
func describeClosed(ctx context.Context, c client.Client, at time.Time, state enumspb.WorkflowExecutionStatus, view *statusView,
	facts *findings) {
	facts.phase, view.State = contract.StateStopped, contract.StateStopped
	word, note := strings.ToLower(state.String()), ""
	if ended, why, err := outcome(ctx, c, view.Pipeline); err == nil && ended != "" {
		view.State, note = ended, why
	}
	view.Note = note
	if state == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		facts.add(contract.Condition{Kind: contract.ConditionStopped, Since: at, Command: "millrace start FILE"})
		return
	}
	for n := range max(view.Replicas, 1) {
		answer, err := c.DescribeWorkflowExecution(ctx, contract.ReplicaID(view.Pipeline, n), "")
		if err == nil && answer.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			facts.add(contract.Condition{
				Kind: contract.ConditionOrphaned, Subject: word, Reason: note, Since: at, Command: "millrace start FILE",
			})
			return
		}
	}
	facts.add(contract.Condition{Kind: contract.ConditionFailed, Subject: word, Reason: note, Since: at, Command: "millrace start FILE"})
}

// describeBeats reads what hot paths and closer said last.
func describeBeats(ctx context.Context, c client.Client, replicas int, view *statusView, facts *findings) {
	for n := range replicas {
		beat := heartbeat(ctx, c, contract.ReplicaID(view.Pipeline, n))
		if beat.MemoryLimit > 0 {
			view.Memory = append(view.Memory, memoryView{n, beat.Memory, beat.MemoryLimit, beat.GoLimit, beat.GoLimitWhy})
		}
		if beat.Storm != nil {
			view.Storms = append(view.Storms, *beat.Storm)
		}
		for _, l := range beat.Lanes {
			facts.beats[fmt.Sprintf("%s/%d", l.Topic, l.Partition)] = l
		}
		facts.add(contract.EngineConditions(beat, facts.journal, time.Now())...)
	}
	closing, at := beatOf[contract.CloseDueDetails](ctx, c, contract.CloseWindowsID(view.Pipeline), contract.ActivityCloseDue)
	facts.add(contract.CloserConditions(view.Pipeline, closing, time.Now())...)
	if closing.Waiting.Lane != "" && closing.Waiting.Since > 0 {
		view.Holder = &holderView{Lane: closing.Waiting.Lane, Since: time.UnixMilli(closing.Waiting.Since).UTC(), Why: closing.Waiting.For}
	}
	view.askedKept = true
	if view.Kept, view.KeptAt = closing.Kept, at; closing.Kept == nil {
		view.Kept, view.KeptAt = keptOf(ctx, c, view.Pipeline)
	}
}

// lookAtLanes reads the lanes from Redis and Kafka. When that cannot be done the last ones stay.
func (o *observer) lookAtLanes(ctx context.Context, now time.Time, facts *findings) error {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if o.data == nil {
		srv, err := o.sh.connectData(limited)
		if err != nil {
			var fail *Fail
			if ctx.Err() != nil || errors.As(err, &fail) && fail.Code == ExitUsage {
				return err
			}
			facts.dataAway(err)
			return nil
		}
		o.data = srv
	}
	lanes, err := readLanes(limited, o.data.store, o.data.cluster, o.spec, o.asked)
	if err != nil {
		if away := o.data.pingRedis(ctx); away != nil { // what the look failed at may be either server
			err = away
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		facts.dataAway(err)
		o.data.Close()
		o.data = nil
		return nil
	}
	if facts.blind { // Redis knows what was commanded last
		if ctl, err := o.data.store.PipelineCtl(limited, o.spec.Name); err == nil {
			facts.commanded(ctl.Paused, ctl.Stopping)
		}
	}
	before, elapsed := o.lanes, now.Sub(o.lanesAt)
	lanes.rates(before, elapsed)
	o.lanes, o.lanesAt = &lanes, now
	return nil
}

// firstLine is the first line of a text.
func firstLine(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	return first
}

// fillLanes copies the lanes into the view, completed by what their hot paths said.
func (o *observer) fillLanes(view *statusView, facts *findings, now time.Time) {
	lanes := o.lanes
	view.LanesAt = &o.lanesAt
	view.Lanes = append([]laneLine(nil), lanes.Lanes...)
	for i := range view.Lanes {
		l := &view.Lanes[i]
		if beat, ok := facts.beats[l.name()]; ok && !l.Fenced {
			l.State, l.Rate, l.Choices, l.Refused = beat.State, beat.Rate, beat.Choices, beat.Refused
			l.KeepsFields, l.Pages = beat.KeepsFields, beat.Pages
			if beat.Reason != "" {
				l.Reason = beat.Reason
			}
		} else if l.State == stateCommitted && facts.open && now.Sub(time.UnixMilli(l.UpdatedAt)) < silentAfter {
			l.State = lane.StateRunning // a heartbeat names MaxStatusLanes, those in trouble first
		}
		view.Lag += l.Lag
		view.Rate += l.Rate
	}
	view.Open, view.Waiting = lanes.Open, lanes.Waiting
	if lanes.Watermark != window.NoTime {
		view.Watermark = &lanes.Watermark
	}
}

// forgetRecovered drops what a recovery on a process that is gone says of lanes that run elsewhere by now: the recovery itself
// needs up to a minute to notice.
func (f *findings) forgetRecovered() {
	f.conditions = slices.DeleteFunc(f.conditions, func(c contract.Condition) bool {
		beat, known := f.beats[c.Subject]
		return c.Kind == contract.ConditionHostGone && known && beat.State == lane.StateRunning
	})
}

// judgeLanes finds lanes that a removal has fenced and lanes that nobody commits for.
func (f *findings) judgeLanes(view *statusView, now time.Time) {
	if r := view.Removal; r != nil {
		for i := range view.Lanes {
			if view.Lanes[i].Fenced {
				f.add(contract.Condition{
					Kind: contract.ConditionFenced, Subject: view.Lanes[i].name(), Reason: r.WorkflowID + " " + r.Note, Command: r.Command,
				})
			}
		}
		return
	}
	away := view.LanesAt == nil || now.Sub(*view.LanesAt) > lookLimit
	if !f.open || away || f.phase != contract.StateRunning && f.phase != contract.StatePaused {
		return
	}
	for i := range view.Lanes {
		l := &view.Lanes[i]
		if _, known := f.beats[l.name()]; known || f.waits(l.name()) {
			continue
		}
		c := contract.Condition{
			Kind: contract.ConditionLaneUnowned, Subject: l.name(), Reason: "no hot path has taken it",
			Command: "millrace scale " + f.pipeline + " N",
		}
		switch last := time.UnixMilli(l.UpdatedAt); {
		case l.UpdatedAt > 0 && now.Sub(last) > silentAfter:
			c.Since, c.Reason = last, "no commit since "+last.UTC().Format(time.RFC3339)
		case l.UpdatedAt == 0 && view.Since != nil && now.Sub(*view.Since) > silentAfter:
			c.Since = *view.Since
		default:
			continue
		}
		f.add(c)
	}
}

// waits reports whether it is known already what a lane waits for.
func (f *findings) waits(lane string) bool {
	return slices.ContainsFunc(f.conditions, func(c contract.Condition) bool {
		return c.Subject == lane && (c.Kind == contract.ConditionLaneParked || c.Kind == contract.ConditionHostGone)
	})
}

// quiet reports whether nothing waits in the log and nothing comes. Lanes that nobody commits for say nothing about their sources.
func quiet(view *statusView, now time.Time) bool {
	if len(view.Lanes) == 0 || view.Lag > 0 || view.Rate > 0 || view.State != contract.StateRunning {
		return false
	}
	return !slices.ContainsFunc(view.Lanes, func(l laneLine) bool { return now.Sub(time.UnixMilli(l.UpdatedAt)) > silentAfter })
}
