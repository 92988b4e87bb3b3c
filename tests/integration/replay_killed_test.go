package integration

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"

	"millrace/internal/contract"
	"millrace/pipeline/store"
	"millrace/tests/long"
	"millrace/tests/rig"
)

// replayKill is a step of a replay in the middle of which the only worker is killed.
type replayKill struct {
	name     string
	rate     string // at which it reads, so that it can be met in the middle
	approved bool   // it comes after the approval
	// met reports whether the replay is in that step now.
	met func(m *mistake, id string) bool
}

var replayKills = []replayKill{
	{name: "planning", met: func(m *mistake, id string) bool {
		return m.runs(contract.ReplayID(m.Spec.Name, id), contract.ActivityPlanReplay)
	}},
	{name: "reading", rate: "4000", met: func(m *mistake, id string) bool {
		done, total := m.shadowProgress(id)
		return done > total/10 && done < total/2
	}},
	{name: "comparing", rate: "4000", met: func(m *mistake, id string) bool {
		n := m.comparedWindows(id)
		return n > 0 && n < 12 && m.runs(contract.ReplayID(m.Spec.Name, id), contract.ActivityReplayRange)
	}},
	{name: "asking", met: func(m *mistake, id string) bool { return m.replayed(id).State == contract.StateAsking }},
	{name: "carrying out", approved: true, met: func(m *mistake, _ string) bool {
		return m.runs(contract.CloseWindowsID(m.Spec.Name), contract.ActivityCarryOut)
	}},
	{name: "ending", approved: true, met: func(m *mistake, id string) bool {
		return m.runs(contract.ReplayID(m.Spec.Name, id), contract.ActivityEndShadow)
	}},
}

// A worker is killed with -9 in every step of a replay. The next one goes on from what the shadow has committed, the diff is the
// oracle's, and it is published once. In turns the right spec and the wrong one count, so that the same windows differ again.
func TestReplayKilledInEveryStep(t *testing.T) {
	if !long.Wanted {
		t.Skip("each kill costs the 30 s after which Temporal gives a worker up; set MILLRACE_TEST_LONG")
	}
	t.Parallel()
	yaml, lines := rig.Flights(t, replayedFlights)
	from, to := hourOf(6), hourOf(18)
	w := newWorld(t, rig.Servers{})
	m := w.newMistake(yaml)
	worker := w.Worker()
	w.Ready(worker)
	m.Start()
	m.fill(misposted(t, lines[:replayedFlights], hourOf(5), hourOf(10)), to)
	there := m.differenceOf(m.counted(m.YAML, from, to, 0), m.counted(m.fixed, from, to, 0))
	back := difference{was: there.is, is: there.was}
	revisions, n := m.revisions(), 0
	for _, kill := range replayKills {
		killed := false
		for attempt := 0; !killed; attempt++ {
			require.Less(t, attempt, 10, "the worker was never met while %s", kill.name)
			want, with, id := there, m.fixedFile, fmt.Sprintf("kill-%d", n)
			if n%2 == 1 {
				want, with = back, m.File
			}
			n++
			args := m.replayArgs(id, from, to, "--spec", with, "--detach")
			if kill.rate != "" {
				args = append(args, "--rate", kill.rate)
			}
			m.Must(args...)
			if !kill.approved {
				killed = m.killWhile(kill, id, worker)
				if killed {
					worker = w.Worker()
					w.Ready(worker)
				}
			}
			asks := m.comesTo(id, contract.StateAsking)
			m.requireSummary(asks.Summary, want)
			m.requireDiff(id, want)
			m.Must("replay", "approve", m.Spec.Name, id, asks.Summary.Checksum, "--detach")
			if kill.approved {
				killed = m.killWhile(kill, id, worker)
				if killed {
					worker = w.Worker()
					w.Ready(worker)
				}
			}
			var result contract.ReplayResult
			m.result(contract.ReplayID(m.Spec.Name, id), &result)
			require.Equal(t, contract.OutcomeCarriedOut, result.Outcome, result.Note)
			require.Empty(t, m.shadowKeys(id))
			for _, start := range want.starts(t) {
				revisions[start]++
			}
			require.Equal(t, revisions, m.revisions(), "one revision of each window that differs")
		}
	}
	m.requireClean()
}

// killWhile waits for the step and kills the worker in it. It reports false when the step was over too early: the worker lives then.
func (m *mistake) killWhile(kill replayKill, id string, worker *rig.Process) bool {
	m.T.Helper()
	over := time.Now().Add(patience)
	for !kill.met(m, id) {
		require.True(m.T, time.Now().Before(over), "the replay never came to %s", kill.name)
		if s := m.workflowStatus(contract.ReplayID(m.Spec.Name, id)); s != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return false
		}
		if !kill.approved && kill.name != "asking" && m.comparedWindows(id) == 12 {
			return false
		}
	}
	worker.Signal(syscall.SIGSTOP)
	if kill.name != "asking" && !kill.met(m, id) { // a workflow cannot be asked while its only worker is frozen
		worker.Signal(syscall.SIGCONT)
		return false
	}
	worker.Kill()
	done, total := m.shadowProgress(id)
	published := 0
	for _, row := range m.Ledger() {
		if row.Replay != nil && row.Replay.ID == id {
			published++
		}
	}
	m.T.Logf("killed while %s: %d of %d records committed, %d windows compared, %d published", kill.name, done, total, m.comparedWindows(id),
		published)
	return true
}

// runs reports whether a worker has started an activity of the workflow.
func (p *pipeline) runs(workflowID, activity string) bool {
	return p.runningOn(workflowID, activity) != ""
}

// runningOn returns the name of the worker that runs an activity of the workflow, "" when none does.
func (p *pipeline) runningOn(workflowID, activity string) (worker string) {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	about, err := p.Client.DescribeWorkflowExecution(ctx, workflowID, "")
	require.NoError(p.T, err)
	for _, a := range about.GetPendingActivities() {
		if a.GetActivityType().GetName() == activity && a.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED {
			return a.GetLastWorkerIdentity()
		}
	}
	return ""
}

func (m *mistake) workflowStatus(workflowID string) enumspb.WorkflowExecutionStatus {
	m.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	about, err := m.Client.DescribeWorkflowExecution(ctx, workflowID, "")
	require.NoError(m.T, err)
	return about.GetWorkflowExecutionInfo().GetStatus()
}

// comparedWindows is how many windows a replay's shadow has compared.
func (m *mistake) comparedWindows(id string) int {
	m.T.Helper()
	headers, err := m.Store.ShadowHeaders(context.Background(), store.ShadowID{Pipeline: m.Spec.Name, ID: id})
	require.NoError(m.T, err)
	return len(headers)
}
