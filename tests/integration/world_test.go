package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/protobuf/types/known/durationpb"

	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// world is a test's corner of the servers: addresses, a Temporal namespace of its own, and connections for looking at
// what the pipelines do from outside.
type world struct {
	t       *testing.T
	kafka   source.Config
	redis   []string
	cluster *source.Cluster
	store   *store.Store
	raw     *kgo.Client // a client that shares no code with millrace

	temporal  string // address; "" until something needs it
	namespace string
	client    client.Client
	workers   int
}

// servers names the servers that a test wants instead of the usual ones.
type servers struct {
	kafka    string
	redis    string
	temporal string
}

func newWorld(t *testing.T, own servers) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, temporal: own.temporal}
	switch brokers := fromEnv("MILLRACE_KAFKA_BROKERS"); {
	case own.kafka != "":
		w.kafka.Brokers = []string{own.kafka}
	case brokers != nil:
		w.kafka.Brokers = brokers
	default:
		k, err := sharedKafka()
		require.NoError(t, err)
		w.kafka.Brokers = []string{k.addr}
	}
	switch addrs := fromEnv("MILLRACE_REDIS_ADDRS"); {
	case own.redis != "":
		w.redis = []string{own.redis}
	case addrs != nil:
		w.redis = addrs
	default:
		w.redis = []string{anyRedis(t)}
	}
	var err error
	w.cluster, err = source.NewCluster(ctx, w.kafka)
	require.NoError(t, err)
	t.Cleanup(func() { w.cluster.Close() })
	cfg := store.DefaultConfig()
	cfg.Addrs = w.redis
	rdb, err := store.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { rdb.Close() })
	w.store = store.New(rdb)
	w.raw, err = kgo.NewClient(
		kgo.SeedBrokers(w.kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(16<<10),
	)
	require.NoError(t, err)
	t.Cleanup(w.raw.Close)
	return w
}

// needTemporal gives the world a namespace, so that nobody else's workers take its tasks.
func (w *world) needTemporal() {
	w.t.Helper()
	if w.client != nil {
		return
	}
	if w.temporal == "" {
		w.temporal = os.Getenv("TEMPORAL_ADDRESS")
	}
	if w.temporal == "" {
		server, err := sharedTemporal()
		require.NoError(w.t, err)
		w.temporal = server.Addr()
	}
	quiet := sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	w.namespace = fmt.Sprintf("t-%08x", rand.Uint32())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	names, err := client.NewNamespaceClient(client.Options{HostPort: w.temporal, Logger: quiet})
	require.NoError(w.t, err)
	defer names.Close()
	require.NoError(w.t, names.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: w.namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	w.client, err = client.NewLazyClient(client.Options{HostPort: w.temporal, Namespace: w.namespace, Logger: quiet})
	require.NoError(w.t, err)
	w.t.Cleanup(w.client.Close)
	eventually(w.t, "the namespace is known", patience, func() bool {
		_, err := w.client.DescribeWorkflowExecution(ctx, "nobody", "")
		var unknown *serviceerror.NotFound
		return errors.As(err, &unknown)
	})
}

// env tells a program where the servers are.
func (w *world) env() []string {
	w.needTemporal()
	return []string{
		"MILLRACE_KAFKA_BROKERS=" + strings.Join(w.kafka.Brokers, ","), "MILLRACE_REDIS_ADDRS=" + strings.Join(w.redis, ","),
		"TEMPORAL_ADDRESS=" + w.temporal, "TEMPORAL_NAMESPACE=" + w.namespace,
	}
}

// worker starts a worker process. It does not wait for it.
func (w *world) worker() *process {
	w.t.Helper()
	path, err := program("worker")
	require.NoError(w.t, err)
	w.workers++
	name := fmt.Sprintf("worker-%d", w.workers)
	return spawn(w.t, name, w.env(), path, "--name", name, "--log-text")
}

// ready waits until workers poll Temporal, and Temporal knows.
func (w *world) ready(workers ...*process) {
	w.t.Helper()
	for _, p := range workers {
		eventually(w.t, p.name+" polls Temporal", patience, func() bool {
			require.False(w.t, p.ended(), "%s has ended:\n%s", p.name, p.tail(20))
			return p.saidOf("polling Temporal") > 0 && w.polls(p.name)
		})
	}
}

// polls asks Temporal whether a worker takes workflow tasks.
func (w *world) polls(worker string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := w.client.DescribeTaskQueue(ctx, contract.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	for _, poller := range answer.GetPollers() {
		if poller.GetIdentity() == worker {
			return true
		}
	}
	require.NoError(w.t, err)
	return false
}

// answer is what one call of millrace came to.
type answer struct {
	code     int
	out, err string
}

// cli runs bin/millrace as a user would.
func (w *world) cli(args ...string) answer {
	w.t.Helper()
	return runProgram(w.t, w.env(), "millrace", args...)
}

// runProgram runs one of the programs to its end.
func runProgram(t *testing.T, env []string, name string, args ...string) answer {
	t.Helper()
	path, err := program(name)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), "%s %v does not end:\n%s%s", name, args, out.String(), errs.String())
	return answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must runs bin/millrace and wants it to succeed.
func (w *world) must(args ...string) answer {
	w.t.Helper()
	a := w.cli(args...)
	require.Zero(w.t, a.code, "millrace %v: exit code %d\n%s%s", args, a.code, a.out, a.err)
	return a
}
