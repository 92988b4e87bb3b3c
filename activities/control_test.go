package activities

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// fakeState stands in for desired state, lanes and servers.
type fakeState struct {
	desired contract.Desired
	changes []contract.DesiredChange
	looks   int
	states  func(look int) ([]contract.LaneState, error)
	removed []int
}

func (f *fakeState) Change(_ context.Context, _ string, c contract.DesiredChange) (int64, error) {
	f.changes = append(f.changes, c)
	f.desired.Generation = max(f.desired.Generation, c.Above) + 1
	return f.desired.Generation, nil
}

func (f *fakeState) Read(context.Context, string) (contract.Desired, error) { return f.desired, nil }

func (f *fakeState) States(context.Context, *spec.Spec) ([]contract.LaneState, error) {
	f.looks++
	return f.states(f.looks)
}

func (f *fakeState) Ends(context.Context, *spec.Spec) ([]report.LaneEnd, error) {
	return []report.LaneEnd{{Topic: "orders", End: 10}}, nil
}
func (f *fakeState) CheckStore(context.Context, *spec.Spec, *contract.Begin) error {
	return ErrPermanent
}
func (f *fakeState) LocateBegin(context.Context, *spec.Spec, contract.Begin) (contract.Begun, error) {
	return contract.Begun{}, ErrPermanent
}
func (f *fakeState) BeginLanes(context.Context, *spec.Spec, contract.BeginLanesInput) error {
	return ErrPermanent
}
func (f *fakeState) EnsureTopics(context.Context, *spec.Spec) (contract.Topics, error) {
	return contract.Topics{Sources: []contract.TopicInfo{{Topic: "orders", Partitions: 2}}}, nil
}

func (f *fakeState) RemoveMember(_ context.Context, _ string, replica int) error {
	f.removed = append(f.removed, replica)
	return nil
}

func controlEnv(t *testing.T, f *fakeState, hub *fakeTemporal, redis *fakeRedis) (*testsuite.TestActivityEnvironment, *Control) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	c := NewControl(f, f, f, redis, hub, hub, nil)
	env.RegisterActivity(c)
	return env, c
}

func lane(partition int32, generation, offset int64) contract.LaneState {
	return contract.LaneState{Topic: "orders", Partition: partition, Found: true, Owner: "1:aa", Generation: generation, Offset: offset}
}

// A step says why it failed before its time is up: a timeout of Temporal's would not.
func TestShortStepsEndBeforeTheirTimeIsUp(t *testing.T) {
	now := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), now.Add(2*time.Second))
	defer cancel()
	own, done := inTime(ctx)
	defer done()
	deadline, ok := own.Deadline()
	require.True(t, ok)
	require.InDelta(t, 1.75, deadline.Sub(now).Seconds(), 0.05)
}

func TestWriteDesiredTellsTheQueues(t *testing.T) {
	redis := newFakeRedis()
	for n, queue := range []string{"q1", "q1", "q2"} {
		_, _, err := redis.AcquireLease(context.Background(), "orders", n, Lease{Queue: queue, Token: queue}, time.Hour)
		require.NoError(t, err)
	}
	f := new(fakeState)
	env, c := controlEnv(t, f, new(fakeTemporal), redis)
	value, err := env.ExecuteActivity(c.WriteDesired, contract.WriteDesiredInput{Pipeline: "orders", Replicas: 4,
		Change: contract.DesiredChange{Above: 6}})
	require.NoError(t, err)
	var got contract.WrittenDesired
	require.NoError(t, value.Get(&got))
	require.Equal(t, contract.WrittenDesired{Generation: 7, Queues: []string{"q1", "q2"}}, got)
}

func TestReconcile(t *testing.T) {
	f, hub := new(fakeState), new(fakeTemporal)
	hub.setClosed("replica:orders:1")
	env, c := controlEnv(t, f, hub, newFakeRedis())
	in := contract.ReconcileInput{
		Pipeline: "orders", Children: []string{"close:orders", "replica:orders:1"},
		Desired: &contract.Desired{Generation: 9, Paused: true}, RequestID: "restore",
	}
	value, err := env.ExecuteActivity(c.Reconcile, in)
	require.NoError(t, err)
	var got contract.Reconciled
	require.NoError(t, value.Get(&got))
	require.Equal(t, contract.Reconciled{Closed: []string{"replica:orders:1"}, Restored: true, Generation: 10}, got)
	require.True(t, *f.changes[0].Paused, "a pause survives a Redis that forgot it")

	value, err = env.ExecuteActivity(c.Reconcile, in)
	require.NoError(t, err)
	require.NoError(t, value.Get(&got))
	require.Len(t, f.changes, 1, "nothing was lost this time")

	hub.setAway(errUnavailable)
	_, err = env.ExecuteActivity(c.Reconcile, in)
	require.Error(t, err, "not knowing is not closed")
}

func TestFinalErrors(t *testing.T) {
	env, c := controlEnv(t, new(fakeState), new(fakeTemporal), newFakeRedis())
	_, err := env.ExecuteActivity(c.CheckStore, contract.SpecInput{Spec: []byte(specJSON)})
	requireType(t, err, contract.ErrorPermanent)
	_, err = env.ExecuteActivity(c.CheckStore, contract.SpecInput{Spec: []byte(`{"name":1}`)})
	requireType(t, err, contract.ErrorInvalidSpec)
}

// The type says that an error is final; whoever reads the message wants the reason.
func TestFinalErrorsBeginWithTheReason(t *testing.T) {
	var typed *temporal.ApplicationError
	require.ErrorAs(t, final(fmt.Errorf("%w: newer format", ErrPermanent)), &typed)
	require.Equal(t, "newer format", typed.Message())
	require.Equal(t, contract.ErrorPermanent, typed.Type())
}

func TestClaim(t *testing.T) {
	redis := newFakeRedis()
	p := newProcess(redis, "a")
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	placement := NewPlacement(p.host, p.temporal)
	env.RegisterActivity(placement)
	moving := false
	claim := func() (got contract.Claimed, err error) {
		value, err := env.ExecuteActivity(placement.Claim, contract.ClaimInput{Pipeline: "orders", Moving: moving})
		if err != nil {
			return got, err
		}
		return got, value.Get(&got)
	}
	got, err := claim()
	require.NoError(t, err)
	require.Equal(t, contract.Claimed{Worker: "a", Queue: "millrace:p:a"}, got)

	_, _, err = redis.AcquireLease(context.Background(), "orders", 0, Lease{Worker: "b", Queue: "millrace:p:b", Token: "b"}, time.Hour)
	require.NoError(t, err)
	got, err = claim()
	require.NoError(t, err)
	require.Equal(t, contract.Claimed{Worker: "b", Queue: "millrace:p:b", Held: true}, got)
	require.NoError(t, redis.ReleaseLease(context.Background(), "orders", 0, "b"))

	other, _, err := p.host.attach(context.Background(), orders(t), 1)
	require.NoError(t, err)
	_, err = claim()
	requireType(t, err, contract.ErrorBusy)
	moving = true
	_, err = claim()
	require.NoError(t, err, "lanes wait, so it is not declined")
	moving = false
	other.end(endStopped, "")
	<-other.done

	p.host.promise(tenantKey{"orders", 1})
	_, err = claim()
	requireType(t, err, contract.ErrorBusy)
	p.host.promised[tenantKey{"orders", 1}] = time.Now().Add(-time.Hour)
	_, err = claim()
	require.NoError(t, err, "a promise that came to nothing is forgotten")

	p.drain(t)
	_, err = claim()
	requireType(t, err, contract.ErrorMoved)
}

func TestRunAndNudgeThroughTemporal(t *testing.T) {
	p := newProcess(newFakeRedis(), "a")
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	hosting := NewHosting(p.host, p.temporal)
	env.RegisterActivity(hosting)
	value, err := env.ExecuteActivity(hosting.Run, contract.RunInput{Pipeline: "orders", Spec: []byte(specJSON)})
	require.NoError(t, err)
	var got contract.RunResult
	require.NoError(t, value.Get(&got))
	require.Equal(t, contract.OutcomeRenew, got.Outcome)
	_, err = env.ExecuteActivity(hosting.Nudge, contract.PipelineRef{Pipeline: "orders"})
	require.NoError(t, err)
	require.Equal(t, 1, p.engines.get(0).nudges)
	require.Len(t, p.host.Statuses(), 1)
	p.temporal.set(serviceerror.NewNotFound("x"))
	_, err = env.ExecuteActivity(hosting.Nudge, contract.PipelineRef{Pipeline: "orders"})
	requireType(t, err, contract.ErrorAttemptOver)
	p.drain(t)
}

func TestEmitAndCloseOneThroughTemporal(t *testing.T) {
	hub := new(fakeTemporal)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	closer := &fakeCloser{}
	closing := NewClosing(closer, newFakeRedis(), hub, hub, quiet)
	env.RegisterActivity(closing)
	value, err := env.ExecuteActivity(closing.Emit, contract.EmitInput{Spec: []byte(specJSON), Reason: contract.ReasonFlush})
	require.NoError(t, err)
	var got report.Emitted
	require.NoError(t, value.Get(&got))
	require.Len(t, got.Revisions, contract.MaxEmittedRevisions)
	_, err = env.ExecuteActivity(closing.CloseOne, contract.CloseOneInput{Spec: []byte(specJSON)})
	require.ErrorContains(t, err, "connection refused")
	require.Zero(t, closer.users.Load(), "nobody uses the closer any more")
	require.NotEmpty(t, closer.run, "it is of a workflow's run")
}

type describer struct {
	status enumspb.WorkflowExecutionStatus
	err    error
}

func (d describer) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: d.status},
	}, d.err
}

func TestWatch(t *testing.T) {
	tests := []struct {
		name string
		d    describer
		open bool
		err  bool
	}{
		{"running", describer{status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}, true, false},
		{"completed", describer{status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED}, false, false},
		{"unknown", describer{err: serviceerror.NewNotFound("x")}, false, false},
		{"away", describer{err: serviceerror.NewUnavailable("x")}, false, true},
		{"no such namespace", describer{err: serviceerror.NewNamespaceNotFound("x")}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			open, err := NewWatch(tt.d).Open(context.Background(), "pipeline:orders")
			require.Equal(t, tt.open, open)
			require.Equal(t, tt.err, err != nil)
		})
	}
}
