package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// fakeAsked is a workflow that answers an update after a while, and queries at once.
type fakeAsked struct {
	client.Client
	after   time.Duration
	receipt contract.Receipt
	status  contract.PipelineStatus
	away    error // of queries
	late    error // of the update, after a while
	beat    *contract.AwaitDetails
}

type fakeHandle struct {
	client.WorkflowUpdateHandle
	receipt contract.Receipt
}

func (h fakeHandle) Get(_ context.Context, into any) error {
	*into.(*contract.Receipt) = h.receipt
	return nil
}

func (f *fakeAsked) UpdateWorkflow(ctx context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	select {
	case <-time.After(f.after):
		if f.late != nil {
			return nil, f.late
		}
		f.receipt.RequestID = o.UpdateID
		return fakeHandle{receipt: f.receipt}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fakeAsked) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(f.status)
	return client.NewValue(payloads), errors.Join(err, f.away)
}

func (f *fakeAsked) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	answer := new(workflowservice.DescribeWorkflowExecutionResponse)
	if f.beat != nil {
		details, err := converter.GetDefaultDataConverter().ToPayloads(f.beat)
		if err != nil {
			return nil, err
		}
		answer.PendingActivities = []*workflowpb.PendingActivityInfo{{
			ActivityType: &commonpb.ActivityType{Name: contract.ActivityAwaitApplied}, HeartbeatDetails: details,
		}}
	}
	return answer, nil
}

// asked sends a pause and returns what was printed on the error stream within 3 s, and in all.
func asked(t *testing.T, f *fakeAsked, requestID string) (soon, all string, got contract.Receipt, err error) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		a := pipelineAsking(&shell{err: &errs}, f, "flights", contract.UpdatePause, contract.PauseRequest{Reason: "night"})
		a.requestID = requestID
		done := make(chan struct{})
		go func() { err = a.send(t.Context(), &got); close(done) }()
		<-time.After(3 * time.Second) // the clock is the bubble's
		synctest.Wait()
		soon = errs.String()
		<-done
		all = errs.String()
	})
	return soon, all, got, err
}

func TestACommandSaysWithinThreeSecondsWhatItWaitsFor(t *testing.T) {
	until := noon.Add(time.Minute)
	pending := contract.Pending{
		For: "Redis: write the desired state", Update: contract.UpdatePause, RequestID: "mine", Since: noon, Until: &until,
		Why: "connection refused", Then: "the command is answered",
	}
	ahead := contract.Pending{
		For: "every lane to follow", Update: contract.UpdateScale, RequestID: "first", Since: noon, Why: "lane in/1 is parked",
	}
	behind := contract.Pending{
		For: "scale of request first to end", Update: contract.UpdatePause, RequestID: "mine", Behind: "first", Since: noon,
	}
	others := contract.Pending{For: "every lane", Update: contract.UpdateFlush, RequestID: "another"}
	tests := []struct {
		name string
		f    fakeAsked
		want string
	}{
		{"a dependency", fakeAsked{status: contract.PipelineStatus{Pending: []contract.Pending{others, pending}}},
			"pause of pipeline:flights: waits for Redis: write the desired state since 2026-01-01T12:00:00Z, until 2026-01-01T12:01:00Z at the " +
				"longest: connection refused; then the command is answered\n"},
		{"a command before it", fakeAsked{status: contract.PipelineStatus{Pending: []contract.Pending{others, ahead, behind}}},
			"pause of pipeline:flights: waits for every lane to follow since 2026-01-01T12:00:00Z: lane in/1 is parked\n" +
				"pause of pipeline:flights: waits for scale of request first to end since 2026-01-01T12:00:00Z\n"},
		{"lanes", fakeAsked{beat: &contract.AwaitDetails{
			Done: 3, Missing: []report.LaneMissing{{Topic: "in", Partition: 1, Reason: "parked: gap"}}}},
			"pause of pipeline:flights: 1 of 4 lanes are missing: in/1: parked: gap\n"},
		{"a worker", fakeAsked{away: errors.New("no poller")}, "waits for a worker that answers for workflow pipeline:flights"},
		{"what nobody knows", fakeAsked{status: contract.PipelineStatus{State: "draining"}},
			"waits for workflow pipeline:flights, which is draining"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.after, tt.f.receipt = time.Hour, contract.Receipt{Update: contract.UpdatePause}
			soon, all, _, err := asked(t, &tt.f, "mine")
			require.Contains(t, soon, tt.want)
			require.Equal(t, strings.Count(soon, "\n"), strings.Count(all, "\n"), "what has not changed is not said again")
			require.Equal(t, ExitIncomplete, Code(err))
			require.ErrorContains(t, err, "no answer within 5m0s; the request goes on without this command. Look with `millrace status flights`, "+
				"or ask again with --request-id mine")
		})
	}
}

// The client of Temporal may give up a moment before the command does.
func TestATimeoutOfTheClientIsOne(t *testing.T) {
	late := client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded)
	_, _, _, err := asked(t, &fakeAsked{after: askPatience - time.Millisecond, late: late}, "mine")
	require.Equal(t, ExitIncomplete, Code(err))
	require.ErrorContains(t, err, "no answer within 5m0s; the request goes on without this command")
}

func TestAQuickAnswerNeedsNoWord(t *testing.T) {
	_, all, got, err := asked(t, &fakeAsked{after: time.Second, receipt: contract.Receipt{Update: contract.UpdatePause}}, "")
	require.NoError(t, err)
	require.Empty(t, all)
	require.NotEmpty(t, got.RequestID)
	require.False(t, got.Repeated)
}

func TestARepetitionIsToldFromANewRequest(t *testing.T) {
	same := contract.Fingerprint(contract.PauseRequest{Reason: "night"})
	known := func(update, input string) contract.PipelineStatus {
		return contract.PipelineStatus{Receipts: []contract.ReceiptHead{{RequestID: "x", Update: update, Input: input}}}
	}
	receipt := contract.Receipt{Update: contract.UpdatePause, Input: same}
	_, _, got, err := asked(t, &fakeAsked{status: known(contract.UpdatePause, same), receipt: receipt}, "x")
	require.NoError(t, err)
	require.True(t, got.Repeated)
	var out bytes.Buffer
	require.NoError(t, printReceipt(&out, "flights", got))
	require.Contains(t, out.String(), "a repetition: this is what came of the request at")

	pending := contract.PipelineStatus{Pending: []contract.Pending{{RequestID: "x", Update: contract.UpdatePause}}}
	_, _, got, err = asked(t, &fakeAsked{status: pending, receipt: receipt}, "x")
	require.NoError(t, err)
	require.True(t, got.Repeated, "of one that is being carried out")

	_, _, _, err = asked(t, &fakeAsked{status: known(contract.UpdatePause, "0123"), receipt: receipt}, "x")
	require.ErrorContains(t, err, `pause: request id "x" was used for another pause, with other input`)
	_, _, _, err = asked(t, &fakeAsked{status: known(contract.UpdateScale, ""), receipt: receipt}, "x")
	require.ErrorContains(t, err, `pause: request id "x" was used for scale`)
	// The workflow does not know it any more, and Temporal answers with what came of it.
	_, _, _, err = asked(t, &fakeAsked{receipt: contract.Receipt{Update: contract.UpdatePause, Input: "0123"}}, "x")
	require.ErrorContains(t, err, "with other input")
}
