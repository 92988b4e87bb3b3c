package codec

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"millrace/internal/dev"
)

// Everything that a workflow may say to Temporal, each with a word of its own.
const (
	inInput, inMemo, inSummary, inDetails = "planted-input", "planted-memo", "planted-summary", "planted-details"
	inCurrent, inActivity, inResult       = "planted-current", "planted-activity", "planted-result"
	inBeat, inFailure, inFailureDetails   = "planted-beat", "planted-failure", "planted-failure-details"
	inTimer, inSide, inSignal, inUpdate   = "planted-timer", "planted-side", "planted-signal", "planted-update"
	inRefusal, inUpsert, inWhy            = "planted-refusal", "planted-upsert", "planted-why"
)

func talkative(ctx workflow.Context, in string) (string, error) {
	workflow.SetCurrentDetails(ctx, inCurrent)
	if err := workflow.SetUpdateHandlerWithOptions(ctx, "update", func(_ workflow.Context, in string) (string, error) { return in, nil },
		workflow.UpdateHandlerOptions{Validator: func(in string) error {
			if in != inUpdate {
				return errors.New(inRefusal)
			}
			return nil
		}}); err != nil {
		return "", err
	}
	var signal string
	workflow.GetSignalChannel(ctx, "signal").Receive(ctx, &signal)
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute, Summary: inSummary,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 10 * time.Millisecond, MaximumAttempts: 2},
	})
	err := workflow.ExecuteActivity(ctx, "fails", inActivity).Get(ctx, nil)
	var failed *temporal.ApplicationError
	if !errors.As(err, &failed) || failed.Message() != inFailure {
		return "", err
	}
	if err := workflow.NewTimerWithOptions(ctx, time.Millisecond, workflow.TimerOptions{Summary: inTimer}).Get(ctx, nil); err != nil {
		return "", err
	}
	var side string
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return inSide }).Get(&side); err != nil {
		return "", err
	}
	if err := workflow.UpsertMemo(ctx, map[string]any{"memo": inUpsert}); err != nil {
		return "", err
	}
	return inResult, temporal.NewApplicationErrorWithCause(inWhy, "why", err)
}

func fails(ctx context.Context, _ string) error {
	var before string
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &before); err != nil {
			return err
		}
	}
	activity.RecordHeartbeat(ctx, inBeat)
	return temporal.NewApplicationError(inFailure, "kind", inFailureDetails)
}

// startTemporal starts a server and returns what connects to it, without the codec for nil.
func startTemporal(t *testing.T) (context.Context, func(*Keys) client.Client) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the Temporal server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // the first run may build the server
	t.Cleanup(cancel)
	server, err := dev.StartTemporal(ctx, dev.TemporalConfig{DataDir: t.TempDir(), Notice: func(line string) { t.Log(line) }})
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	return ctx, func(keys *Keys) client.Client {
		opts := client.Options{HostPort: server.Addr(), Namespace: server.Namespace(),
			Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))}
		if keys != nil {
			require.NoError(t, keys.Apply(&opts))
		}
		c, err := client.DialContext(ctx, opts)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
}

// TestNothingReadableStays runs a workflow that uses everything through a server, and looks at all that the server keeps with the eyes
// of somebody without a key, and with those of somebody who has it.
func TestNothingReadableStays(t *testing.T) {
	ctx, dial := startTemporal(t)
	dir := t.TempDir()
	keys, err := Open(Config{Files: []string{"a=" + writeKey(t, dir, "a", 1)}})
	require.NoError(t, err)
	knowing, ignorant := dial(keys), dial(nil)

	w := worker.New(knowing, "talk", worker.Options{})
	w.RegisterWorkflow(talkative)
	w.RegisterActivityWithOptions(fails, activity.RegisterOptions{Name: "fails"})
	require.NoError(t, w.Start())
	defer w.Stop()
	const id = "talk:1"
	run, err := knowing.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: "talk", Memo: map[string]any{"memo": inMemo}, StaticSummary: inSummary, StaticDetails: inDetails,
	}, talkative, inInput)
	require.NoError(t, err)
	update := func(in string) error {
		handle, err := knowing.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: "update", Args: []any{in}, WaitForStage: client.WorkflowUpdateStageCompleted})
		if err != nil {
			return err
		}
		return handle.Get(ctx, nil)
	}
	require.NoError(t, update(inUpdate))
	require.ErrorContains(t, update("else"), inRefusal)

	value, err := ignorant.QueryWorkflow(ctx, id, "", "__temporal_workflow_metadata")
	require.NoError(t, err)
	require.Error(t, value.Get(new(any)), "current details are for those with the key")
	require.NoError(t, knowing.SignalWorkflow(ctx, id, "", "signal", inSignal))
	err = run.Get(ctx, nil)
	require.ErrorContains(t, err, inWhy)
	require.ErrorContains(t, err, inFailure)

	planted := regexp.MustCompile("planted-[a-z-]+")
	kept := func(c client.Client) map[string]bool {
		words := make(map[string]bool)
		look := func(msg proto.Message) {
			text, err := protojson.Marshal(msg)
			require.NoError(t, err)
			for _, word := range planted.FindAllString(string(text)+inBase64(string(text)), -1) {
				words[word] = true
			}
		}
		h := new(history.History)
		for events := c.GetWorkflowHistory(ctx, id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); events.HasNext(); {
			event, err := events.Next()
			require.NoError(t, err)
			h.Events = append(h.Events, event)
		}
		look(h)
		described, err := c.DescribeWorkflowExecution(ctx, id, "")
		require.NoError(t, err)
		look(described)
		listed, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId='" + id + "'"})
		require.NoError(t, err)
		look(listed)
		return words
	}
	require.Empty(t, kept(ignorant))
	found := kept(knowing)
	for _, word := range []string{inInput, inSummary, inDetails, inActivity, inFailure, inFailureDetails, inTimer, inSide, inSignal,
		inUpdate, inUpsert, inWhy} {
		require.True(t, found[word], "%s is not in what somebody with the key sees: %v", word, found)
	}

	// Somebody with another key is told which is missing.
	other, err := Open(Config{Files: []string{"b=" + writeKey(t, dir, "b", 2)}})
	require.NoError(t, err)
	none, err := Open(Config{})
	require.NoError(t, err)
	for _, keys := range []*Keys{other, none} {
		_, err = dial(keys).DescribeWorkflowExecution(ctx, id, "")
		require.ErrorContains(t, err, `encrypted with key "a", which is not among the keys`)
	}

	// What was written before there were keys is read by those who have some.
	plain := dial(none)
	_, err = plain.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "before", TaskQueue: "nobody",
		Memo: map[string]any{"memo": inMemo}}, talkative, inInput)
	require.NoError(t, err)
	described, err := knowing.DescribeWorkflowExecution(ctx, "before", "")
	require.NoError(t, err)
	var memo string
	require.NoError(t, converter.GetDefaultDataConverter().FromPayload(
		described.GetWorkflowExecutionInfo().GetMemo().GetFields()["memo"], &memo))
	require.Equal(t, inMemo, memo)
}

// inBase64 decodes everything in a text that is base64.
func inBase64(text string) (plain string) {
	for _, word := range regexp.MustCompile(`"[A-Za-z0-9+/]{8,}={0,2}"`).FindAllString(text, -1) {
		if data, err := base64.StdEncoding.DecodeString(word[1 : len(word)-1]); err == nil {
			plain += string(data) + "\n"
		}
	}
	return plain
}
