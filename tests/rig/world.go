package rig

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

// World is a test's corner of the servers: addresses, a Temporal namespace of its own, and connections for looking at
// what the pipelines do from outside.
type World struct {
	T       *testing.T
	Kafka   source.Config
	redis   []string
	Cluster *source.Cluster
	Store   *store.Store
	Raw     *kgo.Client // a client that shares no code with millrace

	env       []string // further variables of the programs
	temporal  string   // address; "" until something needs it
	namespace string
	Client    client.Client
	workers   int

	making sync.Mutex // held while the namespace is made: programs may be started beside each other
}

// Servers names the servers that a test wants instead of the usual ones.
type Servers struct {
	Kafka    string
	Redis    string // several addresses of a Cluster with commas between them
	Temporal string

	// Store is how the test itself reaches Redis, where that takes more than an address.
	Store *store.Config
	// Env are further variables of the programs. They win over those of the addresses above.
	Env []string

	// BatchBytes bounds the batches of the test's own producer: 16 KiB when 0, so that a lane gets many.
	BatchBytes int32
}

func NewWorld(t *testing.T, own Servers) *World {
	t.Helper()
	ctx := context.Background()
	w := &World{T: t, temporal: own.Temporal, env: own.Env}
	switch brokers := fromEnv("MILLRACE_KAFKA_BROKERS"); {
	case own.Kafka != "":
		w.Kafka.Brokers = []string{own.Kafka}
	case brokers != nil:
		w.Kafka.Brokers = brokers
	default:
		k, err := sharedKafka()
		require.NoError(t, err)
		w.Kafka.Brokers = []string{k.Addr}
	}
	switch addrs := fromEnv("MILLRACE_REDIS_ADDRS"); {
	case own.Redis != "":
		w.redis = strings.Split(own.Redis, ",")
	case own.Store != nil:
		w.redis = own.Store.Addrs
	case addrs != nil:
		w.redis = addrs
	default:
		w.redis = []string{AnyRedis(t)}
	}
	var err error
	w.Cluster, err = source.NewCluster(ctx, w.Kafka)
	require.NoError(t, err)
	t.Cleanup(func() { w.Cluster.Close() })
	cfg := store.DefaultConfig()
	cfg.Addrs = w.redis
	if own.Store != nil {
		cfg = *own.Store
	}
	rdb, err := store.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { rdb.Close() })
	w.Store = store.New(rdb)
	w.Raw, err = kgo.NewClient(
		kgo.SeedBrokers(w.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(cmp.Or(own.BatchBytes, 16<<10)),
	)
	require.NoError(t, err)
	t.Cleanup(w.Raw.Close)
	return w
}

// TemporalAddr is where the Temporal server is that tests share.
func TemporalAddr(t *testing.T) string {
	t.Helper()
	if addr := os.Getenv("TEMPORAL_ADDRESS"); addr != "" {
		return addr
	}
	server, err := sharedTemporal()
	require.NoError(t, err)
	return server.Addr()
}

// needTemporal gives the world a namespace, so that nobody else's workers take its tasks.
func (w *World) needTemporal() {
	w.T.Helper()
	w.making.Lock()
	defer w.making.Unlock()
	if w.Client != nil {
		return
	}
	if w.temporal == "" {
		w.temporal = TemporalAddr(w.T)
	}
	quiet := sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))
	w.namespace = fmt.Sprintf("t-%08x", rand.Uint32())
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	names, err := client.NewNamespaceClient(client.Options{HostPort: w.temporal, Logger: quiet})
	require.NoError(w.T, err)
	defer names.Close()
	require.NoError(w.T, names.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: w.namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	w.Client, err = client.NewLazyClient(client.Options{HostPort: w.temporal, Namespace: w.namespace, Logger: quiet})
	require.NoError(w.T, err)
	w.T.Cleanup(w.Client.Close)
	Eventually(w.T, "the namespace is known", Patience, func() bool {
		_, err := w.Client.DescribeWorkflowExecution(ctx, "nobody", "")
		var unknown *serviceerror.NotFound
		return errors.As(err, &unknown)
	})
}

// Env tells a program where the servers are.
func (w *World) Env() []string {
	w.needTemporal()
	return append([]string{
		"MILLRACE_KAFKA_BROKERS=" + strings.Join(w.Kafka.Brokers, ","), "MILLRACE_REDIS_ADDRS=" + strings.Join(w.redis, ","),
		"TEMPORAL_ADDRESS=" + w.temporal, "TEMPORAL_NAMESPACE=" + w.namespace,
	}, w.env...)
}

// Worker starts a worker process. It does not wait for it.
func (w *World) Worker() *Process {
	w.T.Helper()
	w.workers++
	return Spawn(w.T, w.WorkerProgram(fmt.Sprintf("worker-%d", w.workers)))
}

// WorkerProgram is a worker of that name, for tests that want to change how it runs.
func (w *World) WorkerProgram(name string) Program {
	w.T.Helper()
	path, err := Binary("worker")
	require.NoError(w.T, err)
	return Program{Name: name, Path: path, Args: []string{"--name", name, "--log-text"}, Env: w.Env()}
}

// Ready waits until workers poll Temporal, and Temporal knows.
func (w *World) Ready(workers ...*Process) {
	w.T.Helper()
	for _, p := range workers {
		Eventually(w.T, p.Name+" polls Temporal", Patience, func() bool {
			require.False(w.T, p.Ended(), "%s has ended:\n%s", p.Name, p.Tail(20))
			return p.SaidOf("polling Temporal") > 0 && w.Polls(p.Name)
		})
	}
}

// Polls asks Temporal whether a worker takes workflow tasks; false also while Temporal does not answer.
func (w *World) Polls(worker string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := w.Client.DescribeTaskQueue(ctx, contract.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	for _, poller := range answer.GetPollers() {
		if err == nil && poller.GetIdentity() == worker {
			return true
		}
	}
	return false
}

// Answer is what one call of millrace came to.
type Answer struct {
	Code     int
	Out, Err string
}

// Cli runs bin/millrace as a user would.
func (w *World) CLI(args ...string) Answer {
	w.T.Helper()
	return RunProgram(w.T, w.Env(), "millrace", args...)
}

// RunProgram runs one of the programs to its end: one of Binary, or one of another build by its absolute path.
func RunProgram(t *testing.T, env []string, name string, args ...string) Answer {
	t.Helper()
	a, err := runProgram(env, name, args...)
	require.NoError(t, err)
	return a
}

func runProgram(env []string, name string, args ...string) (Answer, error) {
	path := name
	if !filepath.IsAbs(name) {
		var err error
		if path, err = Binary(name); err != nil {
			return Answer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		return Answer{}, fmt.Errorf("%s %v does not end:\n%s%s", name, args, out.String(), errs.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Answer{}, err
	}
	return Answer{cmd.ProcessState.ExitCode(), out.String(), errs.String()}, nil
}

// Must runs bin/millrace and wants it to succeed.
func (w *World) Must(args ...string) Answer {
	w.T.Helper()
	return w.succeeded(w.CLI(args...), args)
}

func (w *World) succeeded(a Answer, args []string) Answer {
	w.T.Helper()
	require.Zero(w.T, a.Code, "millrace %v: exit code %d\n%s%s", args, a.Code, a.Out, a.Err)
	return a
}
