package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// look is one scripted answer of WatchLevel, given after a while.
type look struct {
	after  time.Duration
	result contract.WatchLevelResult
	err    error
}

// levelScript is a process with the state machine of one dependency for each replica.
type levelScript struct {
	mu        sync.Mutex     // activities run side by side
	looks     map[int][]look // by replica; after the last one nothing changes
	inputs    []contract.WatchLevelInput
	overrides []contract.OverrideLevelInput
	refuse    error
	books     []report.JournalAccounts // JournalAccounts' answers; the last one stays
	asked     int
	replays   []contract.ReplayWALInput
	told      *[]contract.ChildReport // what the pipeline heard
}

func moves(after time.Duration, seq int64, levels ...report.Level) look {
	l := look{after: after, result: contract.WatchLevelResult{Outcome: contract.OutcomeChanged}}
	for i := range levels[1:] {
		l.result.Changes = append(l.result.Changes, report.LevelChange{
			Seq: seq + int64(i), At: epochTime.Add(time.Duration(seq+int64(i)) * 10 * time.Second), From: levels[i], To: levels[i+1],
			Reason:  "because",
			Numbers: []report.LevelNumber{{Name: "error_rate", Value: 0.93}},
		})
	}
	last := l.result.Changes[len(levels)-2]
	l.result.Status = report.LevelStatus{Level: last.To, Seq: last.Seq}
	return l
}

func books(spilled, drained, superseded, pending int64) report.JournalAccounts {
	account := func(n int64) report.Account {
		return report.Account{Commits: n, Entries: 10 * n, Bytes: 100 * n, Checksum: fmt.Sprintf("%016x", uint64(n)*0xf000000000000001)}
	}
	return report.JournalAccounts{Journal: true, Disk: "d1", Spilled: account(spilled), Drained: account(drained),
		Superseded: account(superseded), Pending: account(pending)}
}

func degradeEnv(s *levelScript) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowDegrade, contract.DegradeID("orders", "worker-a", report.DependencyRedis), Degrade)
	env.RegisterWorkflowWithOptions(func(_ workflow.Context, in contract.ReplayWALInput) (*contract.ReplayWALResult, error) {
		s.replays = append(s.replays, in)
		return nil, nil
	}, workflow.RegisterOptions{Name: contract.WorkflowReplayWAL})
	register(env, contract.ActivityWatchLevel, func(ctx context.Context, in contract.WatchLevelInput) (*contract.WatchLevelResult, error) {
		return nil, fmt.Errorf("mocked")
	})
	register(env, contract.ActivityOverrideLevel, func(_ context.Context, in contract.OverrideLevelInput) (*report.LevelStatus, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.overrides = append(s.overrides, in)
		return &report.LevelStatus{Level: report.LevelJournal, Override: in.Override}, s.refuse
	})
	journal := func(context.Context, contract.JournalAccountsInput) (*report.JournalAccounts, error) {
		if len(s.books) == 0 {
			return new(report.JournalAccounts), nil
		}
		b := s.books[min(s.asked, len(s.books)-1)]
		s.asked++
		return &b, nil
	}
	register(env, contract.ActivityJournalAccounts, journal)
	for replica, looks := range s.looks {
		for _, l := range looks {
			env.OnActivity(contract.ActivityWatchLevel, anything, isReplica(replica)).Once().After(l.after).Return(
				func(_ context.Context, in contract.WatchLevelInput) (*contract.WatchLevelResult, error) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.inputs = append(s.inputs, in)
					return &l.result, l.err
				})
		}
	}
	env.OnActivity(contract.ActivityWatchLevel, anything, anything).After(20*time.Hour).Return(
		&contract.WatchLevelResult{Outcome: contract.OutcomeRenew}, nil)
	s.told = hears(env)
	return env
}

func isReplica(n int) any {
	return mockMatch(func(in contract.WatchLevelInput) bool { return in.Replica == n })
}

func levelSignal(replica int) contract.LevelSignal {
	return contract.LevelSignal{Replica: replica, Process: "p1", Queue: contract.HostQueue("p1"), Disk: "d1", After: 0, At: epochTime,
		Level: report.LevelJournal}
}

// startDegrade starts as signal-with-start does.
func startDegrade(env *testsuite.TestWorkflowEnvironment, replicas ...int) {
	env.RegisterDelayedCallback(func() {
		for _, n := range replicas {
			env.SignalWorkflow(contract.SignalLevel, levelSignal(n))
		}
	}, 0)
	env.ExecuteWorkflow(contract.WorkflowDegrade, contract.DegradeInput{
		Version: contract.Version, Pipeline: "orders", Worker: "worker-a", Dependency: report.DependencyRedis,
	})
}

func levelsOf(timeline []report.LevelChange) (text []string) {
	for _, c := range timeline {
		text = append(text, string(c.From+">"+c.To))
	}
	return text
}

func TestDegradationFromBeginningToEnd(t *testing.T) {
	s := &levelScript{books: []report.JournalAccounts{books(9, 7, 2, 0)}, looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal"), moves(time.Minute, 2, "journal", "throttled"),
		moves(time.Minute, 3, "throttled", "paused", "throttled", "journal"), moves(time.Minute, 6, "journal", "normal"),
	}}}
	env := degradeEnv(s)
	startDegrade(env, 0)
	result := resultOf[contract.DegradeResult](t, env)
	require.Equal(t, contract.OutcomeNormal, result.Outcome)
	require.Equal(t, []string{
		"normal>journal", "journal>throttled", "throttled>paused", "paused>throttled", "throttled>journal", "journal>normal",
	}, levelsOf(result.Timeline))
	require.EqualValues(t, 6, result.Changes)
	require.Equal(t, "error_rate", result.Timeline[0].Numbers[0].Name)
	m := result.Machines[0]
	require.Equal(t, report.LevelPaused, m.Highest)
	require.Equal(t, []contract.LevelTime{{Level: "journal", Took: 20_000}, {Level: "throttled", Took: 20_000},
		{Level: "paused", Took: 10_000}}, m.Times)
	require.True(t, result.Proof.Balanced, result.Proof.Text)
	require.Contains(t, result.Proof.Text,
		"spilled 9 commits, 90 entries, 900 bytes = drained 7 commits, 70 entries, 700 bytes + superseded 2 commits")
	require.Equal(t, 1, s.asked)
	var asked []int64
	for _, in := range s.inputs {
		asked = append(asked, in.After)
	}
	require.Equal(t, []int64{0, 1, 2, 5}, asked, "every watch asks for what comes after the last change told")
	require.Equal(t, []string{"journal", "journal", "throttled", "journal", contract.ChildEnded}, toldOf(*s.told),
		"each level, and that it is over")
	require.Equal(t, "because", (*s.told)[2].Note)
	require.False(t, (*s.told)[2].LevelSince.IsZero())
}

// Results do not go into a journal: there are no books to look at.
func TestResultsHaveNoProof(t *testing.T) {
	s := &levelScript{books: []report.JournalAccounts{books(9, 7, 2, 0)}, looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "paused"), moves(time.Minute, 2, "paused", "normal"),
	}}}
	env := degradeEnv(s)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{
		ID: contract.DegradeID("orders", "worker-a", report.DependencyResults), TaskQueue: contract.TaskQueue,
	})
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalLevel, levelSignal(0)) }, 0)
	env.ExecuteWorkflow(contract.WorkflowDegrade, contract.DegradeInput{
		Version: contract.Version, Pipeline: "orders", Worker: "worker-a", Dependency: report.DependencyResults,
	})
	result := resultOf[contract.DegradeResult](t, env)
	require.Equal(t, contract.OutcomeNormal, result.Outcome)
	require.Nil(t, result.Proof)
	require.Zero(t, s.asked)
}

func TestFlappingIsOneRun(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal"), moves(time.Minute, 2, "journal", "normal"),
		moves(40*time.Second, 3, "normal", "journal"), moves(time.Second, 4, "journal", "normal"), // within the minute
	}}}
	env := degradeEnv(s)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, contract.StateSettling, statusOf[contract.DegradeStatus](t, env).State)
		env.SignalWorkflow(contract.SignalLevel, levelSignal(0)) // the process says so on every departure
	}, 90*time.Second)
	begin := env.Now()
	startDegrade(env, 0)
	result := resultOf[contract.DegradeResult](t, env)
	require.EqualValues(t, 4, result.Changes)
	require.Len(t, result.Machines, 1)
	require.Nil(t, result.Proof, "no journal, no books")
	require.InDelta(t, 162, env.Now().Sub(begin).Seconds(), 5, "a minute after the last return to normal")
}

func TestProofThatDoesNotBalance(t *testing.T) {
	for name, c := range map[string]struct {
		books []report.JournalAccounts
		want  string
		ok    bool
	}{
		"pending at first": {[]report.JournalAccounts{books(9, 5, 0, 4), books(9, 9, 0, 0)}, "= drained 9 commits", true},
		"pending for long": {[]report.JournalAccounts{books(9, 5, 0, 4)}, "4 commits, 40 entries, 400 bytes are still in the journal",
			false},
		"lost": {[]report.JournalAccounts{books(9, 5, 1, 0)}, "they do not balance", false},
		"another checksum": {[]report.JournalAccounts{func() report.JournalAccounts {
			b := books(9, 9, 0, 0)
			b.Drained.Checksum = "00000000000000ff"
			return b
		}()}, "they do not balance", false},
		"no checksum at all": {[]report.JournalAccounts{func() report.JournalAccounts {
			b := books(9, 9, 0, 0)
			b.Drained.Checksum, b.Spilled.Checksum = "?", "?"
			return b
		}()}, "they do not balance", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &levelScript{books: c.books, looks: map[int][]look{0: {moves(time.Second, 1, "normal", "journal", "normal")}}}
			env := degradeEnv(s)
			startDegrade(env, 0)
			result := resultOf[contract.DegradeResult](t, env)
			require.Equal(t, c.ok, result.Proof.Balanced)
			require.Contains(t, result.Proof.Text, c.want)
		})
	}
}

func TestEveryOverride(t *testing.T) {
	for update, override := range map[string]report.Override{
		contract.UpdateHold: report.OverrideHold, contract.UpdateOpen: report.OverrideOpen,
		contract.UpdateClose: report.OverrideClose,
		contract.UpdateAuto:  "",
	} {
		t.Run(update, func(t *testing.T) {
			s := &levelScript{looks: map[int][]look{
				0: {moves(time.Second, 1, "normal", "journal"), moves(10*time.Minute, 2, "journal", "normal")},
				1: {moves(time.Second, 1, "normal", "journal"), moves(10*time.Minute, 2, "journal", "normal")},
			}}
			env := degradeEnv(s)
			bad := ask[contract.LevelReceipt](env, time.Minute, update, "x", json.RawMessage(`{"raeson":"y"}`))
			first := ask[contract.LevelReceipt](env, 2*time.Minute, update, "a", contract.LevelRequest{Reason: "maintenance"})
			startDegrade(env, 0, 1)
			result := resultOf[contract.DegradeResult](t, env)
			require.ErrorContains(t, bad.rejected, update+`: unknown field "raeson"; want only reason, expect_generation`)
			require.NoError(t, first.err)
			require.True(t, first.got.Applied)
			require.Len(t, first.got.Machines, 2, "both replicas on this worker")
			require.Equal(t, override, first.got.Machines[0].Status.Override)
			require.Len(t, s.overrides, 2)
			require.Contains(t, s.overrides, contract.OverrideLevelInput{Pipeline: "orders", Replica: 1,
				Dependency: report.DependencyRedis,
				Override:   override, By: "operator, update a", Reason: "maintenance"})
			require.Len(t, result.Overrides, 1)
		})
	}
}

// While an override is in force the workflow stays open, whatever the level: somebody has to lift it.
func TestOverrideKeepsItOpen(t *testing.T) {
	closed := moves(10*time.Minute, 2, "journal", "normal")
	closed.result.Changes[0].Override, closed.result.Status.Override = report.OverrideClose, report.OverrideClose
	lifted := moves(time.Hour, 3, "normal", "normal")
	s := &levelScript{looks: map[int][]look{0: {moves(time.Second, 1, "normal", "journal"), closed, lifted}}}
	env := degradeEnv(s)
	env.RegisterDelayedCallback(func() { require.False(t, env.IsWorkflowCompleted()) }, 50*time.Minute)
	begin := env.Now()
	startDegrade(env, 0)
	require.Equal(t, contract.OutcomeNormal, resultOf[contract.DegradeResult](t, env).Outcome)
	require.Greater(t, env.Now().Sub(begin), 70*time.Minute)
}

// An override does not overwrite another operator's that its sender has not seen, be it of this worker or of all.
func TestOverrideExpectsAGeneration(t *testing.T) {
	lifted := moves(5*time.Minute, 2, "journal", "journal") // by an order to all workers
	s := &levelScript{looks: map[int][]look{0: {moves(time.Second, 1, "normal", "journal"), lifted,
		moves(time.Hour, 3, "journal", "normal")}}}
	env := degradeEnv(s)
	expecting := func(n int64) contract.LevelRequest {
		return contract.LevelRequest{Reason: "night", ExpectGeneration: &n}
	}
	first := ask[contract.LevelReceipt](env, time.Minute, contract.UpdateHold, "a", expecting(0))
	stale := ask[contract.LevelReceipt](env, 2*time.Minute, contract.UpdateAuto, "b", expecting(0))
	behind := ask[contract.LevelReceipt](env, 10*time.Minute, contract.UpdateHold, "c", expecting(1))
	current := ask[contract.LevelReceipt](env, 11*time.Minute, contract.UpdateAuto, "d", expecting(2))
	env.RegisterDelayedCallback(func() {
		require.EqualValues(t, 3, statusOf[contract.DegradeStatus](t, env).Generation)
	}, 12*time.Minute)
	startDegrade(env, 0)
	resultOf[contract.DegradeResult](t, env)
	require.NoError(t, first.err)
	require.EqualValues(t, 1, first.got.Generation)
	for _, text := range []string{"auto: expect_generation is 0", "redis on worker-a have generation 1", `hold, request "a"`, "night"} {
		require.ErrorContains(t, stale.rejected, text)
	}
	require.ErrorContains(t, behind.rejected, "have generation 2")
	require.NoError(t, current.err)
}

func TestOverrideThatIsNotTaken(t *testing.T) {
	s := &levelScript{refuse: nobodyPolls, looks: map[int][]look{
		0: {moves(time.Second, 1, "normal", "journal"), moves(10*time.Minute, 2, "journal", "normal")}}}
	env := degradeEnv(s)
	answer := ask[contract.LevelReceipt](env, time.Minute, contract.UpdateHold, "a", contract.LevelRequest{})
	startDegrade(env, 0)
	resultOf[contract.DegradeResult](t, env)
	require.ErrorContains(t, answer.err, "hold: the worker's process does not answer; nothing was done")
}

func TestWorkerGone(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal"), {after: time.Minute, err: noHeartbeat}, {after: 10 * time.Second, err: nobodyPolls},
	}}}
	env := degradeEnv(s)
	startDegrade(env, 0)
	result := resultOf[contract.DegradeResult](t, env)
	require.Equal(t, contract.OutcomeWorkerGone, result.Outcome)
	require.Contains(t, result.Note, "Replica 0 was last at journal")
	require.Contains(t, result.Note, "replay-wal:orders:d1")
	require.Equal(t, []contract.ReplayWALInput{{Version: 1, Pipeline: "orders", Disk: "d1", Host: "worker-a"}}, s.replays)
	require.Zero(t, s.asked, "nobody is there to ask for the books")
}

func TestWorkerGoneAtNormalLeavesNothing(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal"), moves(time.Minute, 2, "journal", "normal"), {after: 20 * time.Second, err: nobodyPolls},
	}}}
	env := degradeEnv(s)
	startDegrade(env, 0)
	require.Equal(t, contract.OutcomeNormal, resultOf[contract.DegradeResult](t, env).Outcome)
}

func TestHotPathMoved(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal"), {after: time.Minute, result: contract.WatchLevelResult{Outcome: contract.OutcomeMoved}},
	}}}
	env := degradeEnv(s)
	startDegrade(env, 0)
	result := resultOf[contract.DegradeResult](t, env)
	require.Equal(t, contract.OutcomeMoved, result.Outcome)
	require.Contains(t, result.Note, "last at journal")
}

// Changes that the process no longer had are counted, not passed over.
func TestMissedChanges(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {moves(time.Second, 5, "throttled", "journal", "normal")}}}
	env := degradeEnv(s)
	startDegrade(env, 0)
	require.EqualValues(t, 4, resultOf[contract.DegradeResult](t, env).Machines[0].Missed)
}

// A departure that is signalled in the last moment keeps the run open, although no watch has told it yet.
func TestDepartureInTheLastMoment(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal", "normal"), moves(65*time.Second, 3, "normal", "journal"),
		moves(time.Hour, 4, "journal", "normal"),
	}}}
	env := degradeEnv(s)
	env.RegisterDelayedCallback(func() {
		signal := levelSignal(0)
		signal.After, signal.At = 2, epochTime.Add(30*time.Second)
		env.SignalWorkflow(contract.SignalLevel, signal)
	}, 60*time.Second)
	startDegrade(env, 0)
	require.EqualValues(t, 4, resultOf[contract.DegradeResult](t, env).Changes)
}

// A hot path that is started anew in the process counts its changes from 1 again.
func TestStateMachineThatBeginsAnew(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {
		moves(time.Second, 1, "normal", "journal", "throttled", "journal"), moves(time.Minute, 1, "normal", "journal", "normal"),
	}}}
	env := degradeEnv(s)
	startDegrade(env, 0)
	result := resultOf[contract.DegradeResult](t, env)
	require.EqualValues(t, 5, result.Changes)
	require.Zero(t, result.Machines[0].Missed)
	require.Len(t, s.inputs, 2, "it does not ask for the same again and again")
}

func TestDegradeContinuesAsNew(t *testing.T) {
	s := &levelScript{looks: map[int][]look{0: {moves(time.Second, 1, "normal", "journal"), moves(time.Minute, 2, "journal", "throttled")}}}
	env := degradeEnv(s)
	env.SetOnActivityCompletedListener(func(*activity.Info, converter.EncodedValue, error) { env.SetContinueAsNewSuggested(true) })
	startDegrade(env, 0)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.DegradeInput
	require.NoError(t, decode(again, &next))
	require.Equal(t, 1, next.State.Runs)
	require.EqualValues(t, 1, next.State.Machines[0].Seq)

	s = &levelScript{looks: map[int][]look{0: {moves(time.Minute, 2, "journal", "normal")}}}
	env = degradeEnv(s)
	env.ExecuteWorkflow(contract.WorkflowDegrade, next)
	result := resultOf[contract.DegradeResult](t, env)
	require.EqualValues(t, 1, s.inputs[0].After, "it watches on without a signal")
	require.Equal(t, []string{"normal>journal", "journal>normal"}, levelsOf(result.Timeline))
	require.True(t, result.Began.Equal(epochTime))
}

func TestDegradeStartedByHand(t *testing.T) {
	env := degradeEnv(new(levelScript))
	env.ExecuteWorkflow(contract.WorkflowDegrade, contract.DegradeInput{Pipeline: "orders", Worker: "worker-a",
		Dependency: report.DependencyRedis})
	require.ErrorContains(t, env.GetWorkflowError(), "degradations are started by the workers")
	env = degradeEnv(new(levelScript))
	env.ExecuteWorkflow(contract.WorkflowDegrade, contract.DegradeInput{Pipeline: "other", Worker: "worker-a",
		Dependency: report.DependencyRedis})
	var app *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &app)
	require.Equal(t, contract.ErrorInvalidInput, app.Type())
}
