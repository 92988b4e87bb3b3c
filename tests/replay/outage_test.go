package replay

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"millrace/internal/cli"
	"millrace/internal/contract"
)

// lines is a stream of which it is known when each line came.
type lines struct {
	mu    sync.Mutex
	began time.Time
	text  bytes.Buffer
	first map[string]time.Duration
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		if _, said := l.first[line]; !said {
			l.first[line] = time.Since(l.began)
		}
	}
	return l.text.Write(p)
}

// when returns how long it took until something with this text was said, and whether it was.
func (l *lines) when(text string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	soonest, found := time.Hour, false
	for line, at := range l.first {
		if strings.Contains(line, text) {
			soonest, found = min(soonest, at), true
		}
	}
	return soonest, found
}

// waiting runs a command and returns its exit code, what it said, and how long it took.
func (s *stack) waiting(args ...string) (code int, said *lines, took time.Duration) {
	said = &lines{began: time.Now(), first: make(map[string]time.Duration)}
	code = cli.Main(context.Background(), append(args, "--temporal", s.temporal), said, said)
	took = time.Since(said.began)
	s.t.Logf("millrace %s: exit code %d after %s\n%s", strings.Join(args, " "), code, took.Round(time.Second), said.text.String())
	return code, said, took
}

// soon is how fast a command says what it waits for: within 3 s, and as many again for a busy machine.
const soon = 6 * time.Second

// TestRedisAway gives commands while Redis is away: each says within seconds what it waits for, each ends, and what was commanded
// comes to hold when Redis is back.
func TestRedisAway(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s, input := newOrders(t)
	s.startWorkers("worker-a")
	require.NoError(t, s.startPipeline(contract.PipelineID("orders"), input))
	s.placed("orders", 2)
	s.eventually("everything is read", func() bool { return s.offsets("orders", 4) == 48 })
	for query, want := range map[string]int{
		`MillracePipeline="orders" and WorkflowType="RecoverLanes"`: 1,
		`MillracePipeline="orders" and WorkflowType="Replica"`:      2,
		`MillracePipeline="orders" and WorkflowType="CloseWindows"`: 1,
		`MillracePipeline="orders" and MillraceState="running"`:     1,
		`WorkflowType="Pipeline" and MillraceOpenIncidents=0`:       1,
		`MillracePipeline="flights" or MillraceState="paused"`:      0,
	} {
		s.eventually(query, func() bool {
			found, err := s.client.ListWorkflow(context.Background(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
			return err == nil && (len(found.Executions) == want || want > 0 && len(found.Executions) > want)
		})
	}

	s.stopRedis()
	code, said, took := s.waiting("pause", "orders", "--reason", "night", "--request-id", "night-1")
	require.Equal(t, cli.ExitIncomplete, code)
	at, ok := said.when("waits for Redis: write the desired state")
	require.True(t, ok)
	require.Less(t, at, soon)
	require.Less(t, took, contract.WritePatience+15*time.Second)
	require.Equal(t, contract.StatePaused, s.status("orders").State, "the command stands")
	s.redisBack()
	s.eventually("the pause is written", func() bool {
		code, out, _ := s.millrace("pause", "orders")
		return code == 0 && strings.Contains(out, "it was paused already")
	})
	code, out, _ := s.millrace("pause", "orders", "--reason", "night", "--request-id", "night-1")
	require.Equal(t, cli.ExitIncomplete, code)
	require.Contains(t, out, "a repetition")
	code, _, errs := s.millrace("pause", "orders", "--reason", "day", "--request-id", "night-1")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, "with other input")
	code, _, errs = s.millrace("resume", "orders", "--expect-generation", "1")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, "expect_generation is 1, and the desired state has generation")
	s.mustMillrace("applied", "resume", "orders")

	s.stopRedis()
	code, said, took = s.waiting("stop", "orders", "--drain", "--timeout", "20s")
	require.Equal(t, cli.ExitIncomplete, code)
	at, ok = said.when("the lanes cannot be read")
	require.True(t, ok)
	require.Less(t, at, soon)
	require.Less(t, took, 40*time.Second, "a drain keeps to its timeout")
	require.Contains(t, said.text.String(), "not drained: the lanes could not be read")

	_, said, took = s.waiting("stop", "orders")
	at, ok = said.when("waits for Redis: write that it stops")
	require.True(t, ok)
	require.Less(t, at, soon)
	require.Less(t, took, contract.HaltPatience+contract.ChildStopTimeout+20*time.Second)
	require.Contains(t, said.text.String(), "could not be written to Redis")
	s.closes(contract.PipelineID("orders"), enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED)
	for _, child := range []string{contract.ReplicaID("orders", 0), contract.ReplicaID("orders", 1), contract.CloseWindowsID("orders")} {
		s.eventually(child+" is closed", func() bool { return !s.isOpen(child) })
	}

	code, said, took = s.waiting("rm", "orders", "--yes", "--grace", "1s")
	require.Equal(t, cli.ExitFailed, code)
	at, ok = said.when("it waits, the last try failed")
	require.True(t, ok)
	require.Less(t, at, soon)
	require.Less(t, took, contract.SurveyPatience+20*time.Second)
	s.redisBack()
	code, said, _ = s.waiting("rm", "orders", "--yes", "--grace", "1s")
	require.Equal(t, cli.ExitOK, code, said.text.String())
}

// closes waits until a workflow has ended in a way.
func (s *stack) closes(id string, how enumspb.WorkflowExecutionStatus) {
	s.t.Helper()
	s.eventually(id+" ends "+how.String(), func() bool {
		d, err := s.client.DescribeWorkflowExecution(context.Background(), id, "")
		return err == nil && d.WorkflowExecutionInfo.Status == how
	})
}
