package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func (r *recovery) result(ctx workflow.Context) *contract.RecoverResult {
	lanes, _ := contract.BoundLanes(r.state.Lanes)
	result := &contract.RecoverResult{
		Pipeline: r.batch.Pipeline, Replica: r.batch.Replica, Worker: r.batch.Worker, Batch: r.batch.Batch,
		Outcome: contract.OutcomeRecovered, By: r.by(), Began: r.batch.Began, Ended: workflow.Now(ctx), Steps: r.state.Steps,
		Totals: r.totals(), Lanes: lanes,
		Decisions: r.state.Receipts, Storm: r.batch.Storm,
	}
	if r.in.Report != nil && !r.batch.MidRun && len(r.state.Receipts) == 0 {
		result.Ended = r.ended
		result.Note = "done by the hot path while Temporal was away; recorded at " + stamp(workflow.Now(ctx))
	}
	givenUp := slices.ContainsFunc(r.state.Lanes, func(l report.RecoveredLane) bool { return l.State == report.LaneGivenUp })
	switch {
	case r.settled() && givenUp:
		result.Outcome = contract.OutcomeGivenUp
	case r.settled():
		result.Outcome = contract.OutcomeSuperseded
	case slices.ContainsFunc(r.state.Lanes, parked):
		result.Outcome, result.Note = contract.OutcomeParked, "lanes are parked by what no choice mends; they go on when the cause is gone"
	}
	return result
}

func (r *recovery) by() string {
	by := ""
	for _, s := range r.state.Steps {
		switch {
		case by == "":
			by = s.By
		case by != s.By:
			return report.ByMixed
		}
	}
	return by
}

func (r *recovery) totals() (t contract.RecoverTotals) {
	for _, l := range r.state.Lanes {
		t.Lanes++
		switch l.State {
		case report.LaneRunning:
			t.Running++
		case report.LaneSuperseded:
			t.Superseded++
		}
		if l.Incident != nil {
			t.Incidents++
		}
		t.Entries += l.Entries
		t.Bytes += l.Bytes
		t.Reread += l.Reread
		if l.Journal != nil && l.Journal.Outcome == report.ChainDrained {
			t.Drained += l.Journal.Commits
		}
	}
	t.Lanes += r.batch.More
	for _, s := range r.state.Steps { // their sums are over all lanes, also those that the list has no room for
		t.Running = max(t.Running, running(s))
		t.Entries, t.Bytes = max(t.Entries, s.Sums.Entries), max(t.Bytes, s.Sums.Bytes)
		t.Reread, t.Drained = max(t.Reread, s.Sums.Reread), max(t.Drained, s.Sums.Drained)
	}
	return t
}

func running(s report.StepReport) int {
	if s.Step != report.StepResume {
		return 0
	}
	return s.Sums.Done
}
