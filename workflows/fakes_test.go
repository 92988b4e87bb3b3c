package workflows

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

const specJSON = `{"name":"orders","source":{"topics":["orders"],"format":"json"},
"event":{"key":["shop"],"time":{"field":"at","unit":"ms"}},
"aggregates":[{"name":"n","func":"count"}],"windows":[{"name":"minutely","size":"1m"}],
"watermark":{"out_of_orderness":"5s"},"allowed_lateness":"0s",
"results":{"kafka":{"topic":"orders.windows"}},"late":{},"dead_letter":{},"replicas":2}`

// world stands in for Redis, Kafka and the hot paths. Its fields may be changed before a test begins and, by activities only,
// while it runs.
type world struct {
	mu         sync.Mutex
	calls      []string
	changes    []contract.DesiredChange
	generation int64
	missing    []report.LaneMissing // AwaitApplied's answer

	untilOneAsks bool                 // what AwaitApplied was asked last
	undrained    []report.LaneMissing // AwaitDrained's answer
	emitErr      error
	topicsErr    error
	storeErr     error
	already      bool     // LocateBegin's answer
	closed       []string // Reconcile's answer
	queues       []string
	emits        []contract.EmitInput
	left         []string          // children open before the first desired state was written
	runs         map[string]string // run ids of the children
	search       contract.Searchable
	deaf         string // a child that does not end when it is first asked to

	refusals [][]contract.Refusal // answers of the first claims
	offerErr error
	restores []contract.Desired // what Reconcile was to put back
}

func (w *world) call(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
}

func (w *world) called(prefix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if len(c) >= len(prefix) && c[:len(prefix)] == prefix {
			n++
		}
	}
	return n
}

var lanes = []report.LaneReceipt{{Topic: "orders", Offset: 70, Owner: "3:aa"}, {Topic: "orders", Partition: 1, Offset: 80, Owner: "3:aa"}}

func register(env *testsuite.TestWorkflowEnvironment, name string, fn any) {
	env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
}

func (w *world) registerControl(env *testsuite.TestWorkflowEnvironment) {
	register(env, contract.ActivitySearchAttributes, func(context.Context) (*contract.Searchable, error) { return &w.search, nil })
	register(env, contract.ActivityCheckStore, func(context.Context, contract.SpecInput) error { return w.storeErr })
	register(env, contract.ActivityLocateBegin, func(_ context.Context, in contract.SpecInput) (*contract.Begun, error) {
		w.call("locate %s", in.Begin.From)
		return &contract.Begun{Already: w.already, Lanes: []contract.LaneStart{{Topic: "orders", Offset: 7}}}, nil
	})
	register(env, contract.ActivityBeginLanes, func(_ context.Context, in contract.BeginLanesInput) error {
		w.call("begin %v %t", in.Lanes, in.Discard)
		return nil
	})
	register(env, contract.ActivityEnsureTopics, func(context.Context, contract.SpecInput) (*contract.Topics, error) {
		return &contract.Topics{Sources: []contract.TopicInfo{{Topic: "orders", Partitions: 2}}}, w.topicsErr
	})
	register(env, contract.ActivityWriteDesired, func(_ context.Context, in contract.WriteDesiredInput) (*contract.WrittenDesired, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.generation = max(w.generation, in.Change.Above) + 1
		w.changes = append(w.changes, in.Change)
		return &contract.WrittenDesired{Generation: w.generation, Queues: w.queues}, nil
	})
	register(env, contract.ActivityNudge, func(context.Context, contract.PipelineRef) error { w.call("nudge"); return nil })
	register(env, contract.ActivityAwaitApplied, func(_ context.Context, in contract.AwaitAppliedInput) (*contract.Applied, error) {
		w.call("applied %d", in.Generation)
		w.untilOneAsks = in.UntilOneAsks
		return &contract.Applied{Lanes: lanes[:2-len(w.missing)], Missing: w.missing}, nil
	})
	register(env, contract.ActivityEndOffsets, func(context.Context, contract.SpecInput) (*contract.EndOffsets, error) {
		return &contract.EndOffsets{Ends: []report.LaneEnd{{Topic: "orders", End: 70}, {Topic: "orders", Partition: 1, End: 80}}}, nil
	})
	register(env, contract.ActivityAwaitDrained, func(_ context.Context, in contract.AwaitDrainedInput) (*contract.Applied, error) {
		w.call("drained %d", in.DeadlineSeconds)
		return &contract.Applied{Lanes: lanes, Missing: w.undrained}, nil
	})
	register(env, contract.ActivityReconcile, func(_ context.Context, in contract.ReconcileInput) (*contract.Reconciled, error) {
		w.call("reconcile %v", in.Children)
		w.mu.Lock()
		defer w.mu.Unlock()
		if in.Desired != nil {
			w.restores = append(w.restores, *in.Desired)
		}
		found := &contract.Reconciled{Closed: w.closed, Generation: w.generation}
		for _, id := range in.Children {
			if w.generation == 0 && !slices.Contains(w.left, id) {
				found.Closed = append(found.Closed, id)
			}
		}
		return found, nil
	})
	register(env, contract.ActivityReleaseReplica, func(_ context.Context, in contract.ReplicaRef) error {
		w.call("release %d", in.Replica)
		return nil
	})
	register(env, contract.ActivityEmit, func(ctx context.Context, in contract.EmitInput) (*report.Emitted, error) {
		w.mu.Lock()
		w.emits = append(w.emits, in)
		w.mu.Unlock()
		if w.emitErr != nil {
			return nil, w.emitErr
		}
		return &report.Emitted{Reason: in.Reason, Windows: 3, Published: 2, Keys: 5, Events: 9, Covered: lanes}, nil
	})
}

// childReplica and childCloser behave as the real ones towards their parent.
func (w *world) registerChildren(env *testsuite.TestWorkflowEnvironment) {
	wait := func(ctx workflow.Context, pipeline string) {
		info := workflow.GetInfo(ctx)
		w.call("open %s", info.WorkflowExecution.ID)
		w.runs[info.WorkflowExecution.ID] = info.WorkflowExecution.RunID
		var stop contract.StopSignal
		workflow.GetSignalChannel(ctx, contract.SignalStop).Receive(ctx, &stop)
		w.call("stop %s: %s", info.WorkflowExecution.ID, stop.Reason)
		if w.deaf == info.WorkflowExecution.ID {
			w.deaf = ""
			workflow.GetSignalChannel(ctx, contract.SignalStop).Receive(ctx, &stop)
		}
		_ = workflow.SignalExternalWorkflow(ctx, contract.PipelineID(pipeline), "", contract.SignalReport, contract.ChildReport{
			ID: info.WorkflowExecution.ID, FirstRun: info.FirstRunID, State: contract.ChildEnded, Note: stop.Reason,
		}).Get(ctx, nil)
	}
	env.RegisterWorkflowWithOptions(func(ctx workflow.Context, in contract.ReplicaInput) (*contract.ReplicaResult, error) {
		wait(ctx, in.Pipeline)
		return &contract.ReplicaResult{}, nil
	}, workflow.RegisterOptions{Name: contract.WorkflowReplica})
	env.RegisterWorkflowWithOptions(func(ctx workflow.Context, in contract.CloseWindowsInput) (*contract.CloseWindowsResult, error) {
		wait(ctx, in.Pipeline)
		return &contract.CloseWindowsResult{}, nil
	}, workflow.RegisterOptions{Name: contract.WorkflowCloseWindows})
}

// pipelineEnv is a test environment in which Pipeline runs with id pipeline:orders over a world.
func pipelineEnv(t *testing.T) (*testsuite.TestWorkflowEnvironment, *world) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.PipelineID("orders"), TaskQueue: contract.TaskQueue})
	env.SetTestTimeout(20 * time.Second)
	env.SetDetachedChildWait(false)
	w := &world{runs: make(map[string]string)}
	likeAServer(env)
	env.RegisterWorkflowWithOptions(Pipeline, workflow.RegisterOptions{Name: contract.WorkflowPipeline})
	w.registerControl(env)
	w.registerChildren(env)
	t.Cleanup(func() { require.True(t, env.IsWorkflowCompleted()) })
	return env, w
}

// answer collects what became of an update.
type answer struct {
	rejected error
	accepted bool
	receipt  *contract.Receipt
	err      error
	done     bool
}

func (a *answer) callbacks() *testsuite.TestUpdateCallback {
	return &testsuite.TestUpdateCallback{
		OnAccept: func() { a.accepted = true },
		OnReject: func(err error) { a.rejected = err },
		OnComplete: func(v any, err error) {
			a.done, a.err = true, err
			if r, ok := v.(*contract.Receipt); ok {
				a.receipt = r
			}
		},
	}
}

// send sends an update after a delay of workflow time.
func send(env *testsuite.TestWorkflowEnvironment, after time.Duration, name, id string, arg any) *answer {
	a := new(answer)
	env.RegisterDelayedCallback(func() { env.UpdateWorkflow(name, id, a.callbacks(), arg) }, after)
	return a
}

func start(env *testsuite.TestWorkflowEnvironment, state *contract.PipelineState) {
	env.ExecuteWorkflow(contract.WorkflowPipeline, contract.PipelineInput{Spec: []byte(specJSON), State: state})
}

func permanent(text string) error {
	return temporal.NewNonRetryableApplicationError(text, contract.ErrorPermanent, nil)
}

var anything = mock.Anything
