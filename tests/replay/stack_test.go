package replay

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"millrace/internal/contract"
	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// continueAfter is the number of events after which the server suggests to continue as new.
const continueAfter = 120

// stack is Kafka, Redis and Temporal, and the worker processes on them.
type stack struct {
	t        *testing.T
	temporal string // address
	binary   string
	client   client.Client
	kafka    source.Config
	redis    store.Config
	log      *slog.Logger
	server   *os.Process
	noCache  bool // every workflow task replays from the start of its history
	workers  map[string]func()

	redisDir  string
	stopRedis func()
}

// newTemporal is a stack of Temporal alone.
func newTemporal(t *testing.T) *stack {
	t.Helper()
	binary, err := dev.FindTemporal(context.Background(), "", func(line string) { t.Log(line) })
	require.NoError(t, err)
	s := &stack{t: t, binary: binary, log: slog.New(slog.DiscardHandler), workers: make(map[string]func())}
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		s.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s.startTemporal()
	return s
}

// in is the same stack for a subtest.
func (s *stack) in(t *testing.T) *stack {
	within := *s
	within.t = t
	return &within
}

func newStack(t *testing.T) *stack {
	t.Helper()
	s := newTemporal(t)
	ctx := context.Background()
	kafka, err := dev.StartKafka(ctx, dev.KafkaConfig{DataDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { kafka.Close() })
	s.kafka.Brokers = []string{kafka.Addr()}
	s.redisDir, s.redis = t.TempDir(), store.DefaultConfig()
	s.redis.Addrs = []string{s.startRedis(0)}
	return s
}

// newOrders is a stack whose topic orders holds a few hours of orders, and the input that pipeline orders is started with.
func newOrders(t *testing.T) (s *stack, input json.RawMessage) {
	t.Helper()
	parsed, err := spec.Parse("orders.yaml", []byte(ordersYAML))
	require.NoError(t, err)
	input, err = parsed.JSON()
	require.NoError(t, err)
	s = newStack(t)
	s.createTopic("orders", 4)
	s.feed("orders", hours(1000, 1005)...)
	return s, input
}

// startRedis starts Redis with what it held before, on a free port when port is 0, and returns its address.
func (s *stack) startRedis(port int) (addr string) {
	redis, err := dev.StartRedis(context.Background(), dev.RedisConfig{DataDir: s.redisDir, Port: port})
	require.NoError(s.t, err)
	s.stopRedis = sync.OnceFunc(func() { redis.Close() })
	s.t.Cleanup(s.stopRedis)
	return redis.Addr()
}

// redisBack starts Redis again where it was.
func (s *stack) redisBack() {
	_, port, err := net.SplitHostPort(s.redis.Addrs[0])
	require.NoError(s.t, err)
	n, err := strconv.Atoi(port)
	require.NoError(s.t, err)
	s.startRedis(n)
}

// startTemporal runs a development server that suggests to continue as new early.
func (s *stack) startTemporal() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	s.temporal = fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(s.binary, "server", "start-dev", "--headless", "--port", fmt.Sprint(port), "--log-level", "error",
		"--dynamic-config-value", fmt.Sprintf("limit.historyCount.suggestContinueAsNew=%d", continueAfter))
	for _, attribute := range contract.SearchAttributes() {
		cmd.Args = append(cmd.Args, "--search-attribute", attribute[0]+"="+attribute[1])
	}
	require.NoError(s.t, cmd.Start())
	s.server = cmd.Process
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	options := client.Options{HostPort: s.temporal, Identity: "test", Logger: sdklog.NewStructuredLogger(s.log)}
	require.Eventually(s.t, func() bool {
		s.client, err = client.Dial(options)
		return err == nil
	}, time.Minute, 200*time.Millisecond, "Temporal's development server starts")
	s.t.Cleanup(s.client.Close)
}

// programs is where the worker is built, once for all tests.
var programs string

// testsAtOnce is how many tests run at the same time: they wait for servers and timeouts most of the time.
const testsAtOnce = "6"

func TestMain(m *testing.M) {
	err := flag.Set("test.parallel", testsAtOnce) // which the command line overrides
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if programs, err = os.MkdirTemp("", "millrace-replay-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(programs)
	os.Exit(code)
}

var workerBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programs, "worker")
	if out, err := exec.Command("go", "build", "-o", path, "millrace/worker").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the worker: %w: %s", err, out)
	}
	return path, nil
})

// startWorker starts a worker process. It is built without the race detector: what is tested is what users run.
func (s *stack) startWorker(name string) {
	binary, err := workerBinary()
	require.NoError(s.t, err)
	cmd := exec.Command(binary, "--name", name, "--log-text", "--temporal", s.temporal, "--kafka", s.kafka.Brokers[0],
		"--redis", s.redis.Addrs[0], fmt.Sprintf("--no-workflow-cache=%t", s.noCache))
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		cmd.Stderr = os.Stderr
	}
	require.NoError(s.t, cmd.Start())
	stopped := false
	s.workers[name] = func() {
		if stopped {
			return
		}
		stopped = true
		require.NoError(s.t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(s.t, cmd.Wait(), "worker %s ends cleanly", name)
	}
	s.t.Cleanup(s.workers[name])
}

// startWorkers starts worker processes and waits until they poll.
func (s *stack) startWorkers(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.startWorker(name)
	}
	s.polling(len(names))
}

// polling waits until that many workers poll the shared queue.
func (s *stack) polling(workers int) {
	s.t.Helper()
	s.eventually("the workers poll", func() bool {
		d, err := s.client.DescribeTaskQueue(context.Background(), contract.TaskQueue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		return err == nil && len(d.Pollers) >= workers
	})
}

func (s *stack) stopWorker(name string) { s.workers[name]() }

func (s *stack) createTopic(topic string, partitions int32) {
	cluster, err := source.NewCluster(context.Background(), s.kafka)
	require.NoError(s.t, err)
	defer cluster.Close()
	_, err = cluster.EnsureTopic(context.Background(), source.TopicSpec{Name: topic, Partitions: partitions})
	require.NoError(s.t, err)
}

func (s *stack) feed(topic string, lines ...string) {
	p, err := source.NewProducer(context.Background(), s.kafka)
	require.NoError(s.t, err)
	defer p.Close()
	i := 0
	_, err = p.Feed(context.Background(), topic, func() ([]byte, []byte, error) {
		if i == len(lines) {
			return nil, nil, io.EOF
		}
		i++
		return nil, []byte(lines[i-1]), nil
	}, nil)
	require.NoError(s.t, err)
}

func (s *stack) update(name, id, pipeline string, arg any) (contract.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var receipt contract.Receipt
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: contract.PipelineID(pipeline), UpdateName: name, UpdateID: id, Args: []any{arg},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &receipt)
	}
	return receipt, err
}

func (s *stack) mustUpdate(name, id, pipeline string, arg any) contract.Receipt {
	s.t.Helper()
	receipt, err := s.update(name, id, pipeline, arg)
	require.NoError(s.t, err, "%s %s", name, id)
	return receipt
}

func (s *stack) query(id string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	value, err := s.client.QueryWorkflow(ctx, id, "", contract.QueryStatus)
	if err != nil {
		return err
	}
	return value.Get(into)
}

// status returns the zero value while nobody answers: it is asked within conditions.
func (s *stack) status(pipeline string) (status contract.PipelineStatus) {
	began := time.Now()
	if err := s.query(contract.PipelineID(pipeline), &status); err != nil {
		s.log.Warn("query failed", "after", time.Since(began), "error", err)
	}
	return status
}

func (s *stack) eventually(what string, cond func() bool) {
	s.t.Helper()
	if !assert.Eventually(s.t, cond, time.Minute, 100*time.Millisecond, what) {
		var status contract.PipelineStatus
		err := s.query(contract.PipelineID("orders"), &status)
		s.t.Fatalf("%s: %+v, %v", what, status, err)
	}
}

// workersOf returns the workers of the pipeline's replicas that are placed.
func (s *stack) workersOf(pipeline string) (workers []string) {
	for _, c := range s.status(pipeline).Children {
		if c.State == contract.ChildPlaced {
			workers = append(workers, c.Worker)
		}
	}
	return workers
}

// placed waits until all replicas are placed and returns their workers.
func (s *stack) placed(pipeline string, replicas int) (workers []string) {
	s.t.Helper()
	s.eventually("all replicas are placed", func() bool {
		workers = s.workersOf(pipeline)
		return len(workers) == replicas
	})
	return workers
}

// attached reports whether every replica has an attempt that beat a moment ago.
func (s *stack) attached(pipeline string, replicas int) bool {
	for n := range replicas {
		d, err := s.client.DescribeWorkflowExecution(context.Background(), contract.ReplicaID(pipeline, n), "")
		if err != nil || len(d.PendingActivities) != 1 || d.PendingActivities[0].ActivityType.Name != contract.ActivityRun ||
			time.Since(d.PendingActivities[0].LastHeartbeatTime.AsTime()) > 3*time.Second {
			return false
		}
	}
	return true
}

// offsets is the sum of the committed offsets of topic orders, as Redis has them.
func (s *stack) offsets(pipeline string, partitions int32) (sum int64) {
	client, err := store.NewClient(s.redis)
	require.NoError(s.t, err)
	defer client.Close()
	for p := range partitions {
		meta, _, err := store.New(client).ReadMeta(context.Background(), store.LaneID{Pipeline: pipeline, Topic: "orders", Partition: p})
		require.NoError(s.t, err)
		sum += meta.Offset
	}
	return sum
}

// counted sums up the events of all windows that the ledger knows.
func (s *stack) counted(pipeline string) (sum int64) {
	cluster, err := source.NewCluster(context.Background(), s.kafka)
	require.NoError(s.t, err)
	defer cluster.Close()
	rows, err := ledger.Latest(context.Background(), cluster, pipeline)
	require.NoError(s.t, err)
	for i := range rows {
		sum += rows[i].Events
	}
	return sum
}

func (s *stack) isOpen(id string) bool {
	d, err := s.client.DescribeWorkflowExecution(context.Background(), id, "")
	require.NoError(s.t, err)
	return d.WorkflowExecutionInfo.Status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// capture writes the history of one run, or of the latest one, as the Temporal CLI prints it.
func (s *stack) capture(file, id, run string) {
	dir := os.Getenv("MILLRACE_CAPTURE")
	if dir == "" {
		return
	}
	args := []string{"workflow", "show", "--address", s.temporal, "-o", "json", "--workflow-id", id}
	if run != "" {
		args = append(args, "--run-id", run)
	}
	out, err := exec.Command(s.binary, args...).Output()
	require.NoError(s.t, err)
	host, err := os.Hostname()
	require.NoError(s.t, err)
	text := strings.NewReplacer(`"`+host+":", `"host:`, "@"+host+"@", "@host@").Replace(string(out))
	require.NotContains(s.t, text, host, "no machine's name in a fixture")
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, file+".json"), []byte(text), 0o644))
}

// captureChain writes the histories of a run and of those that it was continued as.
func (s *stack) captureChain(file, id, run string) {
	for n := 1; run != ""; n++ {
		s.capture(fmt.Sprintf("%s_%d", file, n), id, run)
		history := s.client.GetWorkflowHistory(context.Background(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
		last, err := history.Next()
		require.NoError(s.t, err)
		run = last.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()
	}
}

// currentRun returns the run that is open, or was last, under a workflow id.
func (s *stack) currentRun(id string) string {
	d, err := s.client.DescribeWorkflowExecution(context.Background(), id, "")
	require.NoError(s.t, err)
	return d.WorkflowExecutionInfo.Execution.RunId
}
