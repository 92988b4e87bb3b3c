package workflows

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

// situation brings a workflow into a state that its status query reports, and says what is to follow when it is cancelled.
type situation struct {
	state string // what the query reports then; empty for a workflow whose status has no state
	name  string // where there are several of a state
	at    time.Duration
	ended bool // the state is reported after the end
	fails bool // which is a failure of its own
	// begin makes the environment and returns how to start the workflow in it and what to look at after the end.
	begin func(t *testing.T) (env *testsuite.TestWorkflowEnvironment, start func(), after func(t *testing.T))
}

// cancelled is the situations of one workflow type.
type cancelled struct {
	workflow   string
	files      string // where its states are assigned
	prefix     string // of the constants that are its states
	situations []situation
}

const never = 100 * time.Hour // an activity that takes this long does not end by itself

// busy makes an activity take for ever. Redis is away for those that write desired state: the first of them takes for ever, as
// the environment knows no timeout of an attempt, and the next ones fail.
func busy(env *testsuite.TestWorkflowEnvironment, activity string) {
	mocked := env.OnActivity(activity, anything, anything)
	if activity == contract.ActivityWriteDesired {
		mocked.Once().After(never).Return(nil, errRefusedConnection)
		env.OnActivity(activity, anything, anything).Return(nil, errRefusedConnection)
		return
	}
	mocked.After(never).Return(nil, errors.New("given up"))
}

// cancelledEverywhere is the table that the tests below go through.
func cancelledEverywhere() []cancelled {
	return []cancelled{
		{workflow: contract.WorkflowPipeline, files: "pipeline*.go", prefix: "State", situations: pipelineSituations()},
		{workflow: contract.WorkflowReplica, files: "replica*.go", prefix: "Child", situations: replicaSituations()},
		{workflow: contract.WorkflowCloseWindows, files: "closewindows*.go", prefix: "Child", situations: closerSituations()},
		{workflow: contract.WorkflowCloseWindow, files: "closewindow.go", prefix: "State", situations: windowSituations()},
		{workflow: contract.WorkflowRecoverLanes, files: "recoverlanes*.go", prefix: "State", situations: recoverySituations()},
		{workflow: contract.WorkflowDegrade, files: "degrade*.go", prefix: "State", situations: degradeSituations()},
		{workflow: contract.WorkflowReplayWAL, files: "replaywal*.go", prefix: "State", situations: replaySituations()},
		{workflow: contract.WorkflowRemove, files: "remove*.go", prefix: "State", situations: removeSituations()},
	}
}

// TestEveryStateIsCancelled holds the table against the code: each state that a workflow's code names must have a situation.
func TestEveryStateIsCancelled(t *testing.T) {
	values := constants(t)
	for _, c := range cancelledEverywhere() {
		covered := make(map[string]bool)
		for _, s := range c.situations {
			covered[s.state] = true
		}
		for name := range named(t, c.files, c.prefix) {
			require.True(t, covered[values[name]], "%s: nobody cancels it in state contract.%s (%q)", c.workflow, name, values[name])
		}
	}
}

// constants are the contract's string constants by name.
func constants(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/contract/names.go", nil, 0)
	require.NoError(t, err)
	values := make(map[string]string)
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			values[v.Names[0].Name] = strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`)
		}
		return true
	})
	return values
}

// named are the constants of the contract with this prefix that the files name.
func named(t *testing.T, files, prefix string) map[string]bool {
	paths, err := filepath.Glob(files)
	require.NoError(t, err)
	found := make(map[string]bool)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			of, ok := s.X.(*ast.Ident)
			if ok && of.Name == "contract" && strings.HasPrefix(s.Sel.Name, prefix) && constants(t)[s.Sel.Name] != "" {
				found[s.Sel.Name] = true
			}
			return true
		})
	}
	return found
}

// TestCancelledInEveryState cancels every workflow in every situation: it ends soon, with nothing of a panic or a spin, and what
// belongs to it follows.
func TestCancelledInEveryState(t *testing.T) {
	for _, c := range cancelledEverywhere() {
		for _, s := range c.situations {
			t.Run(strings.TrimSpace(c.workflow+" "+s.state+" "+s.name), func(t *testing.T) { cancelIn(t, s, false) })
			if c.prefix == "Child" && !s.ended { // children are stopped by a signal, too
				t.Run(strings.TrimSpace(c.workflow+" "+s.state+" "+s.name)+" stopped", func(t *testing.T) { cancelIn(t, s, true) })
			}
		}
	}
}

func cancelIn(t *testing.T, s situation, bySignal bool) {
	env, start, after := s.begin(t)
	var reported struct {
		State string `json:"state"`
	}
	ask := func() {
		value, err := env.QueryWorkflow(contract.QueryStatus)
		require.NoError(t, err)
		require.NoError(t, value.Get(&reported))
	}
	began := env.Now()
	if !s.ended {
		env.RegisterDelayedCallback(func() {
			ask()
			if bySignal {
				env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "test"})
				return
			}
			env.CancelWorkflow()
		}, s.at)
	}
	start()
	require.True(t, env.IsWorkflowCompleted())
	if s.ended {
		ask()
	} else {
		require.Less(t, env.Now().Sub(began)-s.at, contract.ChildStopTimeout+time.Minute, "it ends soon")
	}
	require.Equal(t, s.state, reported.State)
	err := env.GetWorkflowError()
	var broken *temporal.PanicError
	require.False(t, errors.As(err, &broken), "%v", err)
	require.Equal(t, s.fails, err != nil && !temporal.IsCanceledError(err), "%v", err)
	after(t)
}

func pipelineSituations() []situation {
	// stopped counts the children that were told.
	in := func(children int, prepare func(env *testsuite.TestWorkflowEnvironment, w *world), state *contract.PipelineState,
	) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, w := pipelineEnv(t)
			if prepare != nil {
				prepare(env, w)
			}
			env.OnSignalExternalWorkflow(anything, anything, anything, contract.SignalStop, anything).Return(errors.New("not open"))
			return env, func() { start(env, state) }, func(t *testing.T) {
				require.GreaterOrEqual(t, w.called("stop "), children, "the children follow")
			}
		}
	}
	update := func(name string, arg any) func(env *testsuite.TestWorkflowEnvironment, w *world) {
		return func(env *testsuite.TestWorkflowEnvironment, _ *world) { send(env, time.Minute, name, name, arg) }
	}
	with := func(activity string, then func(env *testsuite.TestWorkflowEnvironment, w *world)) func(*testsuite.TestWorkflowEnvironment, *world) {
		return func(env *testsuite.TestWorkflowEnvironment, w *world) {
			busy(env, activity)
			if then != nil {
				then(env, w)
			}
		}
	}
	discard := func(activity string) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, w := pipelineEnv(t)
			w.registerRemoving(env, contract.Holders{})
			busy(env, activity)
			env.OnSignalExternalWorkflow(anything, anything, anything, contract.SignalStop, anything).Return(errors.New("not open"))
			run := func() {
				env.ExecuteWorkflow(contract.WorkflowPipeline, contract.PipelineInput{
					Spec: []byte(specJSON), From: &contract.From{Place: contract.FromLatest}, DiscardState: true,
				})
			}
			return env, run, func(t *testing.T) { require.Zero(t, w.called("open "), "no child is started") }
		}
	}
	drain := update(contract.UpdateStop, contract.StopRequest{Drain: true})
	carried := &contract.PipelineState{Replicas: 2, Generation: 1}
	at := 90 * time.Second
	return []situation{
		{state: contract.StateStarting, name: "checks the store", at: at, begin: in(0, with(contract.ActivityCheckStore, nil), nil)},
		{state: contract.StateStarting, name: "makes topics", at: at, begin: in(0, with(contract.ActivityEnsureTopics, nil), nil)},
		{state: contract.StateStarting, name: "looks for leftovers", at: at, begin: in(0, with(contract.ActivityReconcile, nil), nil)},
		{state: contract.StateStarting, name: "writes desired state", at: at, begin: in(0, with(contract.ActivityWriteDesired, nil), nil)},
		{state: contract.StateStarting, name: "ends leftovers", at: at, begin: in(1, func(env *testsuite.TestWorkflowEnvironment, w *world) {
			w.left = []string{contract.ReplicaID("orders", 0)}
			busySignals(env, contract.ReplicaID("orders", 0), w)
		}, nil)},
		{state: contract.StateStarting, name: "finds offsets", at: at, begin: discard(contract.ActivityLocateBegin)},
		{state: contract.StateStarting, name: "waits for workers to let go", at: at, begin: discard(contract.ActivityAwaitReleased)},
		{state: contract.StateStarting, name: "discards", at: at, begin: discard(contract.ActivityFenceLanes)},
		{state: contract.StateStarting, name: "begins lanes", at: at, begin: discard(contract.ActivityBeginLanes)},
		{state: contract.StateFailed, ended: true, fails: true, begin: in(0, func(_ *testsuite.TestWorkflowEnvironment, w *world) {
			w.storeErr = permanent("Redis evicts keys")
		}, nil)},
		{state: contract.StateRunning, at: at, begin: in(3, nil, nil)},
		{state: contract.StateRunning, name: "is waited for", at: at, begin: in(3, func(env *testsuite.TestWorkflowEnvironment, _ *world) {
			await(env, time.Minute, contract.AwaitRunningRequest{TimeoutSeconds: 3600})
		}, nil)},
		{state: contract.StateRunning, name: "looks at children", at: 10*time.Minute + time.Second,
			begin: in(3, with(contract.ActivityReconcile, nil), carried)},
		{state: contract.StateRunning, name: "a command waits for Redis", at: at,
			begin: in(3, with(contract.ActivityWriteDesired, update(contract.UpdateScale, contract.ScaleRequest{Replicas: 2})), carried)},
		{state: contract.StateRunning, name: "a command waits for lanes", at: at,
			begin: in(3, with(contract.ActivityAwaitApplied, update(contract.UpdateFlush, contract.FlushRequest{})), nil)},
		{state: contract.StateRunning, name: "a flush publishes", at: at,
			begin: in(3, with(contract.ActivityEmit, update(contract.UpdateFlush, contract.FlushRequest{})), nil)},
		{state: contract.StateRunning, name: "a command waits for another", at: at, begin: in(3,
			with(contract.ActivityAwaitApplied, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				update(contract.UpdateScale, contract.ScaleRequest{Replicas: 2})(env, w)
				update(contract.UpdatePause, contract.PauseRequest{})(env, w)
			}), nil)},
		{state: contract.StateRunning, name: "about to continue as new", at: at, begin: in(3,
			with(contract.ActivityEmit, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				update(contract.UpdateFlush, contract.FlushRequest{})(env, w)
				env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 61*time.Second)
			}), nil)},
		{state: contract.StatePaused, at: at, begin: in(3, update(contract.UpdatePause, contract.PauseRequest{}), nil)},
		{state: contract.StatePaused, name: "waits for Redis", at: at,
			begin: in(3, with(contract.ActivityWriteDesired, update(contract.UpdatePause, contract.PauseRequest{})), carried)},
		{state: contract.StateDraining, name: "waits for lanes", at: at, begin: in(3, with(contract.ActivityAwaitDrained, drain), nil)},
		{state: contract.StateDraining, name: "publishes", at: at, begin: in(3, with(contract.ActivityEmit, drain), nil)},
		{state: contract.StateDraining, name: "waits for the closer", at: at,
			begin: in(3, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				w.deaf = contract.CloseWindowsID("orders")
				drain(env, w)
			}, nil)},
		{state: contract.StateStopping, name: "waits for children", at: at,
			begin: in(3, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				w.deaf = contract.ReplicaID("orders", 0)
				update(contract.UpdateStop, contract.StopRequest{})(env, w)
			}, nil)},
		{state: contract.StateStopping, name: "waits for Redis", at: time.Minute + time.Second,
			begin: in(3, with(contract.ActivityWriteDesired, update(contract.UpdateStop, contract.StopRequest{})), carried)},
		{state: contract.StateStopped, ended: true, begin: in(3, update(contract.UpdateStop, contract.StopRequest{}), nil)},
	}
}

// busySignals lets a leftover hear the stop and end neither then nor later.
func busySignals(env *testsuite.TestWorkflowEnvironment, id string, w *world) {
	env.OnSignalExternalWorkflow(anything, id, anything, contract.SignalStop, anything).Return(
		func(_, _, _, _ string, _ any) error { w.call("stop %s", id); return nil })
}

func replicaSituations() []situation {
	in := func(prepare func(env *testsuite.TestWorkflowEnvironment, w *world), stays ...stay,
	) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, w, reports := replicaEnv(t, stays...)
			if prepare != nil {
				prepare(env, w)
			}
			return env, func() { startReplica(env) }, func(t *testing.T) {
				require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State, "the parent is told")
				require.Equal(t, 1, w.called("release"), "the place in the group is given up")
				require.Empty(t, statusOf[contract.ReplicaStatus](t, env).Note)
			}
		}
	}
	failing := make([]stay, 12)
	for i := range failing {
		failing[i] = stay{queue: "a", err: errors.New("no broker")}
	}
	gone := stay{queue: "a", result: contract.RunResult{Outcome: contract.OutcomePipelineGone}}
	return []situation{
		{state: contract.ChildSeeking, name: "claims", at: time.Minute,
			begin: in(func(env *testsuite.TestWorkflowEnvironment, _ *world) { busy(env, contract.ActivityClaim) })},
		{state: contract.ChildSeeking, name: "between failures", at: time.Minute, begin: in(nil, failing...)},
		{state: contract.ChildPlaced, at: time.Minute, begin: in(nil)},
		{state: contract.ChildEnded, ended: true, begin: in(nil, gone)},
	}
}

func closerSituations() []situation {
	in := func(prepare func(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput), promoted int,
	) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, _, reports := closerEnv(t)
			var inputs []contract.CloseDueInput
			told := 0
			var windows []contract.FailedWindow
			for n := range int64(promoted) {
				windows = append(windows, contract.FailedWindow{WindowRef: ref(n), Problem: "checksum"})
				env.OnSignalExternalWorkflow(anything, contract.CloseWindowID("orders", ref(n)), anything, contract.SignalStop, anything).Return(
					func(_, _, _, _ string, _ any) error { told++; return nil })
			}
			prepare(env, &inputs)
			return env, func() { startCloser(env, windows...) }, func(t *testing.T) {
				require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State, "the parent is told")
				require.Equal(t, promoted, told, "windows with a workflow of their own follow")
			}
		}
	}
	script := func(answers ...func() (*contract.CloseDueResult, error)) func(*testsuite.TestWorkflowEnvironment, *[]contract.CloseDueInput) {
		return func(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput) {
			dues(env, inputs, answers...)
		}
	}
	broken := func() (*contract.CloseDueResult, error) { return nil, permanent("ledger of another format") }
	looking := func(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput) {
		busy(env, contract.ActivityReconcile)
		dues(env, inputs)
	}
	return []situation{
		{state: contract.ChildClosing, at: 5 * time.Minute, begin: in(script(closedDue(1)), 0)},
		{state: contract.ChildClosing, name: "with promoted windows", at: 5 * time.Minute, begin: in(script(), 2)},
		{state: contract.ChildClosing, name: "looks at promoted windows", at: 5 * time.Minute, begin: in(looking, 2)},
		{state: contract.ChildBlocked, name: "by a permanent failure", at: 90 * time.Second, begin: in(script(broken), 0)},
		{state: contract.ChildBlocked, name: "by many windows", at: 5 * time.Minute, begin: in(script(), contract.MaxPromoted)},
		{state: contract.ChildEnded, ended: true, begin: in(script(goneDue), 0)},
	}
}

func windowSituations() []situation {
	return []situation{{name: "closes", at: time.Minute, begin: func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		env, _, _ := closerEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.CloseWindowID("orders", ref(1)), TaskQueue: contract.TaskQueue})
		busy(env, contract.ActivityCloseOne)
		told := 0
		env.OnSignalExternalWorkflow(anything, contract.CloseWindowsID("orders"), anything, contract.SignalReport, anything).Return(
			func(_, _, _, _ string, _ any) error { told++; return nil })
		return env, func() {
			env.ExecuteWorkflow(contract.WorkflowCloseWindow, contract.CloseWindowInput{
				Pipeline: "orders", Spec: []byte(specJSON), Window: ref(1), Problem: "x",
			})
		}, func(t *testing.T) { require.Equal(t, 1, told, "the closer is told") }
	}}}
}

func nothingFollows(*testing.T) {}

func recoverySituations() []situation {
	in := func(h *hostScript, activity string) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := recoverEnv(h)
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startRecovery(env, contract.RecoverInput{}) }, nothingFollows
		}
	}
	gone := func() bool { return true }
	deciding := func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		env, run, after := in(&hostScript{incident: gapOf()}, contract.ActivityDecideIncident)(t)
		ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d", contract.DecideRequest{
			Topic: "orders", Partition: partitionOf(1), Choice: "skip",
		})
		return env, run, after
	}
	return []situation{
		{state: contract.StateRecovering, at: time.Minute, begin: in(new(hostScript), contract.ActivityRecoverStep)},
		{state: contract.StateRecovering, name: "between tries", at: 15 * time.Second,
			begin: in(&hostScript{fail: func(string) error { return errors.New("no answer") }}, "")},
		{state: contract.StateHostGone, at: 15 * time.Second, begin: in(&hostScript{gone: gone}, "")},
		{state: contract.StateDeciding, at: time.Minute, begin: in(&hostScript{incident: gapOf()}, "")},
		{state: contract.StateDeciding, name: "looks at owners", at: 6 * time.Minute,
			begin: in(&hostScript{incident: gapOf()}, contract.ActivityLaneOwners)},
		{state: contract.StateDeciding, name: "carries a decision out", at: 61 * time.Second, begin: deciding},
		{state: contract.StateDone, ended: true, begin: in(new(hostScript), "")},
	}
}

func degradeSituations() []situation {
	in := func(s *levelScript, activity string, prepare func(env *testsuite.TestWorkflowEnvironment),
	) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := degradeEnv(s)
			if activity != "" {
				busy(env, activity)
			}
			if prepare != nil {
				prepare(env)
			}
			return env, func() { startDegrade(env, 0) }, nothingFollows
		}
	}
	hold := func(env *testsuite.TestWorkflowEnvironment) {
		ask[contract.LevelReceipt](env, time.Minute, contract.UpdateHold, "h", contract.LevelRequest{})
	}
	normal := func() *levelScript {
		return &levelScript{looks: map[int][]look{0: {
			moves(10*time.Second, 1, contract.LevelNormal, contract.LevelJournal), moves(10*time.Second, 2, contract.LevelJournal, contract.LevelNormal),
		}}}
	}
	lost := &levelScript{looks: map[int][]look{0: {
		{after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat},
		{after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat},
	}}}
	return []situation{
		{state: contract.StateDegraded, at: 2 * time.Minute, begin: in(new(levelScript), "", nil)},
		{state: contract.StateDegraded, name: "the watch is lost", at: 12 * time.Second, begin: in(lost, "", nil)},
		{state: contract.StateDegraded, name: "carries an override out", at: 61 * time.Second,
			begin: in(new(levelScript), contract.ActivityOverrideLevel, hold)},
		{state: contract.StateSettling, at: 40 * time.Second, begin: in(normal(), "", nil)},
		{state: contract.StateSettling, name: "asks for the books", at: 25 * time.Second, begin: in(normal(), contract.ActivityJournalAccounts, nil)},
		{state: contract.StateDone, ended: true, begin: in(normal(), "", nil)},
	}
}

func replaySituations() []situation {
	in := func(d *disk, activity string) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := replayEnv(d)
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startReplay(env, contract.ReplayWALInput{}) }, nothingFollows
		}
	}
	live := chainOf(0, "s1")
	live.Live = true
	corrupt := func(contract.ChainRef, contract.ReplaySegmentInput) (contract.SettledChain, *contract.CorruptRange) {
		return contract.SettledChain{}, &contract.CorruptRange{ChainRef: chainOf(0, "s1").ChainRef, Segment: "s1", From: 1, To: 2}
	}
	one := func() []contract.WALChain { return []contract.WALChain{chainOf(0, "s1")} }
	return []situation{
		{state: contract.StateReplaying, name: "lists", at: time.Minute, begin: in(&disk{chains: one()}, contract.ActivityListChains)},
		{state: contract.StateReplaying, name: "settles", at: time.Minute, begin: in(&disk{chains: one()}, contract.ActivityReplaySegment)},
		{state: contract.StateHostGone, at: time.Minute, begin: in(&disk{chains: one(), gone: func() bool { return true }}, "")},
		{state: contract.StateDeciding, at: time.Minute, begin: in(&disk{chains: one(), settle: corrupt}, "")},
		{state: contract.StateWaiting, at: time.Minute, begin: in(&disk{chains: []contract.WALChain{live}}, "")},
		{state: contract.StateDone, ended: true, begin: in(&disk{chains: one()}, "")},
	}
}

func removeSituations() []situation {
	in := func(activity string, approved bool) func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			r := newRuin()
			env := removeEnv(r)
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startRemove(env, contract.RemoveInput{Topics: true, Approved: approved, GraceSeconds: 600}) },
				func(t *testing.T) {
					if activity == contract.ActivitySurveyRemains || !approved {
						require.NotContains(t, r.calls, contract.ActivityFenceLanes, "nothing was touched")
					}
				}
		}
	}
	all := []situation{
		{state: contract.StateSurveying, at: 30 * time.Second, begin: in(contract.ActivitySurveyRemains, true)},
		{state: contract.StateAsking, at: time.Minute, begin: in("", false)},
		{state: contract.StateReleasing, at: time.Minute, begin: in(contract.ActivityAwaitReleased, true)},
		{state: contract.StateGrace, at: time.Minute, begin: in("", true)},
		{state: contract.StateDone, ended: true, begin: in("", true)},
	}
	for _, step := range []string{contract.ActivityDeleteGroup, contract.ActivityFenceLanes, contract.ActivityEndLedger, contract.ActivityDeleteKeys} {
		all = append(all, situation{state: contract.StateRemoving, name: fmt.Sprintf("in %s", step), at: time.Minute, begin: in(step, true)})
	}
	return all
}
