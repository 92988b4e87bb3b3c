package codec

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// TestTasksThatCannotBeDecrypted fail, which the history says at once, and go on once the worker has the key: when it had none of that
// name, and when it had another content for it.
func TestTasksThatCannotBeDecrypted(t *testing.T) {
	ctx, dial := startTemporal(t)
	right, err := Open(Config{Files: []string{"a=" + writeKey(t, t.TempDir(), "a", 1)}})
	require.NoError(t, err)
	knowing, ignorant := dial(right), dial(nil)
	says := map[string]string{
		"no such key":     `encrypted with key "0", which is not among the keys`,
		"another content": `cannot be decrypted with key "a": it is damaged, or the key is another of that name`,
	}
	for name, spoil := range map[string]func(dir string){
		"no such key":     func(dir string) { writeKey(t, dir, "0", 2) },
		"another content": func(dir string) { writeKey(t, dir, "a", 2) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // the second try of a task comes 10 s after the first
			dir := t.TempDir()
			spoil(dir)
			keys, err := Open(Config{Dir: dir})
			require.NoError(t, err)
			w := worker.New(dial(keys), name, worker.Options{})
			w.RegisterWorkflowWithOptions(func(_ workflow.Context, in string) (string, error) { return in, nil }, workflow.RegisterOptions{Name: "echo"})
			require.NoError(t, w.Start())
			defer w.Stop()
			run, err := knowing.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: name, TaskQueue: name}, "echo", secret)
			require.NoError(t, err)
			failed := func() bool {
				events := ignorant.GetWorkflowHistory(ctx, name, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
				for events.HasNext() {
					event, err := events.Next()
					require.NoError(t, err)
					require.NotEqual(t, enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT, event.GetEventType())
					if event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED {
						return true
					}
				}
				return false
			}
			require.Eventually(t, failed, 8*time.Second, 50*time.Millisecond, "a task times out after 10 s")
			// Who reads the history is told why the failure of the task stays a secret, and reads all the rest.
			told, events := "", knowing.GetWorkflowHistory(ctx, name, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for events.HasNext() {
				event, err := events.Next()
				require.NoError(t, err)
				told += event.GetWorkflowTaskFailedEventAttributes().GetFailure().GetMessage()
			}
			require.Contains(t, told, says[name])
			writeKey(t, dir, "a", 1)
			var got string
			require.NoError(t, run.Get(ctx, &got))
			require.Equal(t, secret, got)
		})
	}
}
