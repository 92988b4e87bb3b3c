package cli

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"millrace/internal/contract"
)

// removals is a Temporal that runs one Remove at a time. A run ends with the result once its status is StateDone.
type removals struct {
	client.Client

	mu        sync.Mutex
	running   bool
	status    contract.RemoveStatus
	result    contract.RemoveResult
	started   []contract.RemoveInput
	cancelled int
	approved  int
	looked    func(n int) // at the n-th query; it may change the status
	queries   int
}

func (r *removals) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, _ any, args ...any) (client.WorkflowRun, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running {
		if o.WorkflowIDConflictPolicy != enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL || !o.WorkflowExecutionErrorWhenAlreadyStarted {
			return &removalRun{removals: r}, nil
		}
		return nil, serviceerror.NewWorkflowExecutionAlreadyStarted("running", "", "run")
	}
	r.running = true
	r.started = append(r.started, args[0].(contract.RemoveInput))
	return &removalRun{removals: r}, nil
}

func (r *removals) GetWorkflow(context.Context, string, string) client.WorkflowRun {
	return &removalRun{removals: r}
}

func (r *removals) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queries++; r.looked != nil {
		r.looked(r.queries)
	}
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(r.status)
	return client.NewValue(payloads), err
}

func (r *removals) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	status := enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	if r.running {
		status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: status}}, nil
}

func (r *removals) CancelWorkflow(context.Context, string, string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancelled++
	return nil
}

func (r *removals) UpdateWorkflow(context.Context, client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.approved++
	r.status.State, r.status.Note = contract.StateDone, ""
	return approval{}, nil
}

type approval struct{ client.WorkflowUpdateHandle }

func (approval) Get(context.Context, any) error { return nil }

type removalRun struct {
	client.WorkflowRun
	*removals
}

func (r *removalRun) GetID() string    { return contract.RemoveID(r.status.Pipeline) }
func (r *removalRun) GetRunID() string { return "run" }

func (r *removalRun) Get(ctx context.Context, into any) error {
	for {
		r.mu.Lock()
		done, result := r.status.State == contract.StateDone, r.result
		if done {
			r.running = false
		}
		r.mu.Unlock()
		if done {
			if into != nil {
				reflect.ValueOf(into).Elem().Set(reflect.ValueOf(result))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

var grace = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// removal is a status as Remove gives it.
func removal(state, note string, in contract.RemoveInput) contract.RemoveStatus {
	in.Pipeline = "shop"
	return contract.RemoveStatus{
		Pipeline: "shop", State: state, Note: note, Until: &grace, Input: &in,
		Remains: &contract.Remains{Lanes: 4, Group: "millrace.shop", Grouped: true, Keys: []contract.KeyCount{{Kind: "meta", Keys: 4}}},
	}
}

// rmOf runs the command against r.
func rmOf(ctx context.Context, r *removals, in contract.RemoveInput, answers io.Reader, json bool) (out, errs string, err error) {
	var o, e bytes.Buffer
	in.Pipeline = "shop"
	err = remove(ctx, &shell{out: &o, err: &e, json: json}, r, in, answers)
	return o.String(), e.String(), err
}

// A dry run shows a removal that is running and leaves it alone, whatever that waits for and however the dry run was asked for.
func TestADryRunLeavesARunningRemovalAlone(t *testing.T) {
	for name, status := range map[string]contract.RemoveStatus{
		"asking: waits for an approval, until 2026-11-29T12:00:00Z at the longest": removal(contract.StateAsking,
			"waits for an approval", contract.RemoveInput{}),
		"grace: keeps the lanes fenced, until 2026-11-29T12:00:00Z\n": removal(contract.StateGrace,
			"keeps the lanes fenced", contract.RemoveInput{Topics: true}),
	} {
		for _, yes := range []bool{false, true} {
			r := &removals{running: true, status: status}
			out, errs, err := rmOf(t.Context(), r, contract.RemoveInput{DryRun: true, Approved: yes}, strings.NewReader(""), false)
			require.NoError(t, err)
			require.Contains(t, out, "remove:shop is running already; it is left alone\n"+name)
			require.Contains(t, out, "follow it with `"+status.Input.Command()+"`")
			require.Contains(t, errs, "pipeline shop has left 4 lanes and the consumer group millrace.shop")
			require.Zero(t, r.approved+r.cancelled)
			require.Empty(t, r.started)
			require.Equal(t, 1, r.queries, "it is not followed")
			out, _, err = rmOf(t.Context(), r, contract.RemoveInput{DryRun: true}, nil, true)
			require.NoError(t, err)
			require.Contains(t, out, `"state":"`+status.State+`"`)
		}
	}
}

func TestARemovalThatRunsInAnotherWayIsRefused(t *testing.T) {
	r := &removals{running: true, status: removal(contract.StateAsking, "", contract.RemoveInput{})}
	_, _, err := rmOf(t.Context(), r, contract.RemoveInput{Topics: true, GraceSeconds: 60, Approved: true}, nil, false)
	require.EqualError(t, err, "remove:shop is running already, and was started in another way: it deletes no topics, its grace is "+
		"10m, not 1m. "+
		"Follow it with `millrace rm shop`, or cancel it with `temporal workflow cancel --workflow-id remove:shop` and start again")
	require.Equal(t, ExitFailed, Code(err))
	require.Zero(t, r.approved+r.cancelled)
	r.status.Input = nil
	_, _, err = rmOf(t.Context(), r, contract.RemoveInput{Approved: true}, nil, false)
	require.ErrorContains(t, err, "does not say with which inputs it was started")
}

func TestARemovalThatRunsInTheSameWayIsFollowed(t *testing.T) {
	r := &removals{running: true, status: removal(contract.StateAsking, "waits for an approval: millrace rm shop --topics",
		contract.RemoveInput{Topics: true})}
	r.result = contract.RemoveResult{Pipeline: "shop", Outcome: contract.OutcomeRemoved, Note: "journals are out of reach"}
	out, errs, err := rmOf(t.Context(), r, contract.RemoveInput{Topics: true, GraceSeconds: 600, Approved: true}, nil, false)
	require.NoError(t, err)
	require.Contains(t, errs, "remove:shop was running already, started in the same way; following it\n")
	require.NotContains(t, errs, "waits for an approval", "this command gives it")
	require.Contains(t, out, "shop: removed\n")
	require.Equal(t, 1, r.approved)
	require.Empty(t, r.started)
}

// What runs is only a look: it is over in a moment, and the removal begins then.
func TestARemovalWaitsForADryRun(t *testing.T) {
	r := &removals{running: true, status: removal(contract.StateSurveying, "", contract.RemoveInput{DryRun: true})}
	r.looked = func(int) { r.status.State = contract.StateDone }
	r.result = contract.RemoveResult{Pipeline: "shop", Outcome: contract.OutcomeRemoved}
	_, _, err := rmOf(t.Context(), r, contract.RemoveInput{Approved: true}, nil, false)
	require.NoError(t, err)
	require.Len(t, r.started, 1)
}

func TestARemovalOfNothingFails(t *testing.T) {
	r := &removals{status: contract.RemoveStatus{State: contract.StateDone}}
	r.result = contract.RemoveResult{Pipeline: "shop", Outcome: contract.OutcomeNothing,
		Note: "nothing of pipeline shop is here: no key in Redis"}
	for _, dry := range []bool{false, true} {
		out, errs, err := rmOf(t.Context(), r, contract.RemoveInput{Approved: true, DryRun: dry}, nil, false)
		require.EqualError(t, err, "rm shop: nothing of pipeline shop is here: no key in Redis")
		require.Equal(t, ExitFailed, Code(err))
		require.Empty(t, out+errs)
	}
	out, _, err := rmOf(t.Context(), r, contract.RemoveInput{}, nil, true)
	require.Equal(t, ExitFailed, Code(err))
	require.Contains(t, out, `"outcome":"nothing"`)
	r.result.Outcome, r.result.Note = contract.OutcomeNotApproved, "nobody approved it"
	_, _, err = rmOf(t.Context(), r, contract.RemoveInput{}, nil, false)
	require.EqualError(t, err, "rm shop: nobody approved it")
}

func TestInterruptsSayWhatGoesOn(t *testing.T) {
	interrupted := func(r *removals, in contract.RemoveInput, answers io.Reader) string {
		ctx, cancel := context.WithCancel(t.Context())
		look := r.looked
		r.looked = func(n int) {
			if look != nil {
				look(n)
			}
			time.AfterFunc(time.Millisecond, cancel)
		}
		_, _, err := rmOf(ctx, r, in, answers, false)
		require.Equal(t, ExitInterrupted, Code(err))
		var said bytes.Buffer
		Report(&said, err)
		return said.String()
	}
	require.Equal(t, "millrace: interrupted: the removal goes on as workflow remove:shop; follow it with `millrace rm shop "+
		"--topics --grace 1d`, or cancel it "+
		"with `temporal workflow cancel --workflow-id remove:shop`\n",
		interrupted(&removals{status: removal(contract.StateGrace, "", contract.RemoveInput{})}, contract.RemoveInput{Topics: true,
			GraceSeconds: 86400, Approved: true}, nil))
	require.Equal(t, "millrace: interrupted\n",
		interrupted(&removals{status: removal(contract.StateSurveying, "", contract.RemoveInput{})}, contract.RemoveInput{DryRun: true}, nil))

	person, typed := io.Pipe()
	r := &removals{status: removal(contract.StateAsking, "", contract.RemoveInput{})}
	require.Equal(t, "millrace: interrupted: rm shop was not approved; nothing was deleted\n", interrupted(r, contract.RemoveInput{}, person))
	require.NoError(t, typed.Close())
	require.Equal(t, 1, r.cancelled)
}

func TestTheAnswerToTheQuestion(t *testing.T) {
	ask := func(r *removals, answer string) error {
		r.status = removal(contract.StateAsking, "", contract.RemoveInput{})
		r.result = contract.RemoveResult{Pipeline: "shop", Outcome: contract.OutcomeRemoved}
		_, errs, err := rmOf(t.Context(), r, contract.RemoveInput{}, strings.NewReader(answer), false)
		require.Contains(t, errs, "Type the pipeline's name to go on: ")
		return err
	}
	yes := new(removals)
	require.NoError(t, ask(yes, "shop\n"))
	require.Equal(t, 1, yes.approved)
	no := new(removals)
	require.EqualError(t, ask(no, "no\n"), "rm shop: not approved; nothing was deleted")
	require.Equal(t, 1, no.cancelled)
	// Somebody else approves while the question stands: things are deleted, and a no must not say otherwise.
	late := new(removals)
	late.looked = func(n int) {
		if n > 1 {
			late.status.State = contract.StateRemoving
		}
	}
	require.ErrorContains(t, ask(late, "no\n"), "somebody else has approved the removal and it goes on")
	require.Zero(t, late.cancelled)
}

func TestStatusOfAHalfRemovedPipeline(t *testing.T) {
	lanes := []laneLine{{Topic: "in", Fenced: true}, {Topic: "in", Partition: 1, Fenced: true}, {Topic: "in", Partition: 2}}
	r := &removals{status: removal(contract.StateRemoving, "fences every lane", contract.RemoveInput{Topics: true})}
	draw := func() string {
		var b bytes.Buffer
		require.NoError(t, drawStatus(&b, statusView{Pipeline: "shop", State: "stopped", Removal: removalOf(t.Context(), r, "shop", lanes)}))
		return b.String()
	}
	require.Contains(t, draw(), "REMOVAL remove:shop has fenced 2 lanes of the pipeline and ended before it was done (canceled); "+
		"finish it with "+
		"`millrace rm shop --topics`\n")
	r.running = true
	require.Contains(t, draw(), "and goes on (removing: fences every lane, until 2026-11-29T12:00:00Z at the longest); follow it "+
		"with `millrace rm shop --topics`\n")
	lanes = lanes[2:]
	require.NotContains(t, draw(), "REMOVAL")
}

func TestDrawRemoved(t *testing.T) {
	steps := []contract.RemoveStep{{Step: contract.RemoveGroup, Count: 1}, {Step: contract.RemoveFence, Count: 4},
		{Step: contract.RemoveLedger, Count: 17},
		{Step: contract.RemoveKeys, Count: 66}, {Step: contract.RemoveGroup}, {Step: contract.RemoveTopics, Count: 1},
		{Step: contract.RemoveMetas, Count: 4}}
	var b bytes.Buffer
	require.NoError(t, drawRemoved(&b, contract.RemoveResult{Pipeline: "shop", Outcome: contract.OutcomeRemoved, Note: "a note",
		Steps: steps}))
	require.Equal(t, "shop: removed\ndeleted: consumer group, 70 keys, 1 topic; fenced: 4 lanes; the ledger's rows were given up "+
		"(17 records written)\na note\n", b.String())
	b.Reset()
	require.NoError(t, drawRemoved(&b, contract.RemoveResult{Pipeline: "shop", Outcome: contract.OutcomeDryRun, Note: "nothing was deleted"}))
	require.Equal(t, "shop: dry run; nothing was deleted\n", b.String())
	b.Reset()
	for _, dry := range []bool{true, false} {
		f := &removing{sh: &shell{err: &b}, in: contract.RemoveInput{Pipeline: "shop", Topics: true, DryRun: dry}}
		f.drawRemains("shop", contract.Remains{Lanes: 4, Fenced: 3})
	}
	require.Equal(t, "pipeline shop has left 4 lanes\n"+
		"3 of the lanes are fenced by an earlier removal that has not ended; `millrace rm shop --topics` finishes it\n"+
		"pipeline shop has left 4 lanes\n"+
		"3 of the lanes are fenced by an earlier removal that has not ended; this one finishes it\n", b.String())
}
