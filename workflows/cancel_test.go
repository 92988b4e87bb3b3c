package workflows

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
	begin beginning
}

// beginning makes an environment and returns how to start the workflow in it and what to look at after the end.
type beginning func(t *testing.T) (env *testsuite.TestWorkflowEnvironment, start func(), after func(t *testing.T))

// preparing changes an environment before the workflow begins.
type preparing func(env *testsuite.TestWorkflowEnvironment, w *world)

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
		{workflow: contract.WorkflowCompact, files: "compact[._]*.go", prefix: "State", situations: compactSituations()},
		{workflow: contract.WorkflowReplay, files: "replay[._]*.go", prefix: "State", situations: replayAgainSituations()},
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
