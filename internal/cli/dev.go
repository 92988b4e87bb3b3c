package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

func devCommand(sh *shell) *cobra.Command {
	job := devJob{}
	var pushed pushing
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: Kafka, Redis, Temporal and a worker",
		Long: `Dev brings up an embedded Kafka and Redis, Temporal's development server and a worker. With --spec it starts the
pipeline as any user would, with --feed it produces a file to its topic, line by line over the partitions.

Without --drain it stays until Ctrl-C, prints results as windows close, and the addresses, Temporal's web UI among them.
With --json each revision is an object on a line of its own.
With --drain it reads and publishes everything, writes the last revision of every window and key to --results, sorted by
window, start and key, and ends.

State lives in a temporary directory and is forgotten, unless --dir names one: then a later run goes on where this one
stopped.`,
		Example: `  millrace dev --spec examples/flights/flights.yaml --feed examples/flights/flights-2001-01.jsonl.gz
  millrace dev --spec flights.yaml --feed flights.jsonl.gz --partitions 16 --drain --results out.jsonl`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := job.validate(); err != nil {
				return err
			}
			job.pushed = &pushed
			return runDev(cmd.Context(), sh, job)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&job.spec, "spec", "", "pipeline to start")
	flags.StringVar(&job.feed, "feed", "", "file to produce to the pipeline's topic, plain or .gz")
	flags.Int32Var(&job.partitions, "partitions", defaultPartitions, "partitions of the pipeline's topics")
	flags.BoolVar(&job.drain, "drain", false, "publish everything and end")
	flags.StringVar(&job.results, "results", "", "with --drain: file for the last revision of every window and key; - is standard output")
	flags.StringVar(&job.dir, "dir", "", "directory that keeps all state (default: a temporary one)")
	flags.IntVar(&job.ports.kafka, "kafka-port", 0, "port of Kafka (default: a free one)")
	flags.IntVar(&job.ports.redis, "redis-port", 0, "port of Redis (default: a free one)")
	flags.IntVar(&job.ports.temporal, "temporal-port", 0, "port of Temporal (default: a free one)")
	flags.IntVar(&job.ports.ui, "ui-port", 0, "port of Temporal's web UI (default: a free one)")
	pushed.addTo(sh, cmd)
	return cmd
}

type devJob struct {
	spec, feed, results, dir string
	partitions               int32
	drain                    bool
	pushed                   *pushing
	ports                    struct{ kafka, redis, temporal, ui int }
}

func (j *devJob) validate() error {
	switch {
	case j.partitions < 1:
		return usagef("--partitions is %d; want at least 1", j.partitions)
	case j.spec == "" && (j.feed != "" || j.drain):
		return usagef("--feed and --drain need --spec")
	case j.results != "" && !j.drain:
		return usagef("--results needs --drain: without it windows stay open")
	}
	for _, p := range []struct {
		flag string
		port int
	}{{"kafka-port", j.ports.kafka}, {"redis-port", j.ports.redis}, {"temporal-port", j.ports.temporal}, {"ui-port", j.ports.ui}} {
		if p.port < 0 || p.port > 65535 {
			return usagef("--%s is %d; want a port, 1 to 65535, or 0 for a free one", p.flag, p.port)
		}
	}
	return nil
}

// checkFiles refuses a feed that cannot be read and results that cannot be written before anything is started for them.
func (j *devJob) checkFiles() error {
	if j.feed != "" && j.feed != "-" {
		in, err := openLines(j.feed)
		if err != nil {
			return err
		}
		closing(in)
	}
	if j.results == "" || j.results == "-" {
		return nil
	}
	trial, err := createResults(j.results)
	if err != nil {
		return usagef("--results: %w", err)
	}
	closing(trial)
	return os.Remove(trial.Name())
}

// defaultPartitions is what dev gives the topics of a pipeline, and preview a sample.
const defaultPartitions = 4

// runDev owns the servers and the worker: whatever happens in between, the worker ends first, then the servers.
func runDev(ctx context.Context, sh *shell, job devJob) (err error) {
	var s *spec.Spec
	if job.spec != "" {
		if s, err = readSpec(job.spec); err != nil {
			return err
		}
		if job.feed != "" && len(s.Source.Topics) != 1 {
			return usagef("%s reads %s; --feed needs exactly one", job.spec, counted(len(s.Source.Topics), "topic"))
		}
	}
	if err := job.checkFiles(); err != nil {
		return err
	}
	if job.dir == "" {
		if job.dir, err = os.MkdirTemp("", "millrace-dev-"); err != nil {
			return err
		}
		defer func() {
			if err == nil || errors.Is(err, context.Canceled) {
				os.RemoveAll(job.dir)
			} else {
				fmt.Fprintf(sh.err, "millrace: logs are in %s\n", job.dir)
			}
		}()
	} else if err := os.MkdirAll(job.dir, 0o755); err != nil {
		return err
	}
	servers, err := dev.Start(ctx, dev.Config{
		Dir:   job.dir,
		Kafka: dev.KafkaConfig{Port: job.ports.kafka},
		Redis: dev.RedisConfig{Port: job.ports.redis},
		Temporal: dev.TemporalConfig{
			Port: job.ports.temporal, UIPort: job.ports.ui,
			Notice: func(line string) { fmt.Fprintln(sh.err, line) },
		},
	})
	if err != nil {
		return err
	}
	defer func() {
		if failed := servers.Close(); err == nil {
			err = failed
		}
	}()
	local := *sh
	local.conn = embedded(servers)
	if err := announce(&local, servers, job); err != nil {
		return err
	}
	worker := startWorker(ctx, &local, filepath.Join(job.dir, "worker.log"), job.pushed.metrics)
	defer func() {
		if failed := worker.stop(); err == nil {
			err = failed
		}
	}()
	if s == nil {
		return stay(ctx, worker, servers)
	}
	return work(ctx, &local, job, s, worker, servers)
}

// work starts the pipeline, feeds it, and drains it or shows what it publishes.
func work(ctx context.Context, sh *shell, job devJob, s *spec.Spec, worker *devWorker, servers *dev.Servers) error {
	tc, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer tc.Close()
	srv, err := sh.connectData(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	if err := worker.await(ctx, tc); err != nil {
		return err
	}
	for _, topic := range s.Source.Topics {
		if _, _, err := ensureTopic(ctx, srv.cluster, topic, job.partitions); err != nil {
			return err
		}
	}
	input, request, err := startJob{wait: durationFlag(contract.DefaultRunningTimeout)}.begin(s)
	if err != nil {
		return err
	}
	switch _, err := startPipeline(ctx, sh, tc, s, input, request); {
	case errors.Is(err, errRunning): // an earlier run with the same --dir started it
		fmt.Fprintf(sh.err, "pipeline %s goes on\n", s.Name)
	case err != nil:
		return err
	default:
		fmt.Fprintf(sh.err, "pipeline %s started\n", s.Name)
	}
	if job.feed != "" {
		if err := feedOnce(ctx, sh, srv, job.feed, s.Source.Topics[0]); err != nil {
			return err
		}
	}
	if !job.drain {
		return show(ctx, sh, newFollower(srv.cluster, s.Name, s.Results.Kafka.Topic), worker, servers)
	}
	return drained(ctx, sh, job, s, tc, srv)
}

// feedOnce feeds a topic that is empty. One that is not was fed by an earlier run with the same --dir.
func feedOnce(ctx context.Context, sh *shell, srv *servers, file, topic string) error {
	partitions, err := srv.cluster.Partitions(ctx, topic)
	if err != nil {
		return reached(ctx, err)
	}
	held := int64(0)
	for _, p := range partitions {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		ends, err := srv.cluster.Ends(ctx, tp)
		if err != nil {
			return reached(ctx, err)
		}
		held += ends[tp].End
	}
	if held > 0 {
		_, err := fmt.Fprintf(sh.err, "topic %s holds %s already: not fed again; `millrace feed` adds to it\n", topic, counted(held, "record"))
		return err
	}
	done, err := feed(ctx, srv, feedJob{
		file: file, topic: topic, from: 1, progress: sh.err, tracer: sh.traces.Tracer(), traced: defaultTraced,
	})
	if err != nil {
		return tellFeed(&shell{out: sh.err}, done, err)
	}
	_, err = fmt.Fprintf(sh.err, "%s fed to topic %s, %s\n", counted(done.Records, "record"), done.Topic,
		counted(done.Partitions, "partition"))
	return err
}

// drainReport is what dev --drain prints as JSON.
type drainReport struct {
	Receipt  contract.Receipt `json:"receipt"`
	Counters store.Counters   `json:"counters"`
	Rows     int              `json:"rows"`
	Results  string           `json:"results,omitempty"`
}

// drained drains the pipeline and writes its results.
func drained(ctx context.Context, sh *shell, job devJob, s *spec.Spec, tc client.Client, srv *servers) error {
	request := contract.StopRequest{Drain: true, Reason: "millrace dev --drain"}
	drain := pipelineAsking(sh, tc, s.Name, contract.UpdateStop, request)
	drain.wait = request.DrainTimeout() + askPatience
	var receipt contract.Receipt
	err := drain.send(ctx, &receipt)
	if ctx.Err() != nil {
		return ctx.Err() // the servers end with this command: nothing goes on
	}
	if err != nil {
		return err
	}
	if !sh.json {
		if err := printReceipt(sh.err, s.Name, receipt); err != nil {
			return err
		}
	}
	if err := unmet(s.Name, receipt); err != nil {
		return err
	}
	lanes, err := readLanes(ctx, srv.store, srv.cluster, s, nil)
	if err != nil {
		return err
	}
	report := drainReport{Receipt: receipt, Counters: lanes.totals(), Results: job.results}
	rows, err := ledger.Results(ctx, srv.cluster, s.Results.Kafka.Topic, s.Name)
	if err != nil {
		return err
	}
	report.Rows = len(rows)
	if job.results != "" {
		if err := saveRows(job.results, rows); err != nil {
			return err
		}
	}
	if sh.json {
		return printJSON(sh.out, report)
	}
	fmt.Fprintf(sh.err, "%s; %s", sentence(report.Counters), counted(report.Rows, "row"))
	if job.results != "" {
		fmt.Fprintf(sh.err, " written to %s", job.results)
	}
	_, err = fmt.Fprintln(sh.err)
	return err
}

// show prints what is published until Ctrl-C.
func show(ctx context.Context, sh *shell, f *follower, worker *devWorker, servers *dev.Servers) error {
	fmt.Fprintln(sh.err, "results as windows close (the last ones stay open for later events); Ctrl-C stops everything")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		closed, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && !errors.Is(err, source.ErrUnreachable):
			return err
		case sh.json:
			for i := range closed {
				if err = printJSON(sh.out, closed[i].Row); err != nil {
					break
				}
			}
		case len(closed) > 0:
			err = drawClosed(sh.out, closed, 20)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case <-worker.done:
			return worker.failure()
		case <-servers.Temporal.Done():
			return errTemporalEnded
		}
	}
}

var errTemporalEnded = errors.New("the Temporal server has ended; its log is in the directory of dev's state")

// stay waits for Ctrl-C.
func stay(ctx context.Context, worker *devWorker, servers *dev.Servers) error {
	select {
	case <-ctx.Done():
		return nil
	case <-worker.done:
		return worker.failure()
	case <-servers.Temporal.Done():
		return errTemporalEnded
	}
}
