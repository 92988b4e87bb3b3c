package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

func feedCommand(sh *shell) *cobra.Command {
	var job feedJob
	var pushed pushing
	cmd := &cobra.Command{
		Use:   "feed FILE[.gz]",
		Short: "Produce a file of one JSON record a line to a Kafka topic",
		Long: `Feed sends every line of the file as one record, line 1 to partition 0, line 2 to partition 1 and so on round-robin;
"-" reads standard input. A topic that does not exist is created only with --create, so that a mistyped name creates
nothing. With --rate the records are spread evenly over time. The count printed at the end is exact: records that Kafka
has acknowledged on all replicas. When a feed breaks off it says with which --from-line to go on.`,
		Example: "  millrace feed flights-2001-01.jsonl.gz --topic flights --create 4\n" +
			"  millrace feed flights-2001-01.jsonl.gz --topic flights --rate 2000",
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			job.file, job.progress = args[0], sh.err
			if err := job.validate(cmd); err != nil {
				return err
			}
			srv, err := sh.connectKafka(cmd.Context())
			if err != nil {
				return err
			}
			defer srv.Close()
			job.tracer = sh.traces.Tracer()
			done, err := feed(cmd.Context(), srv, job)
			pushed.records = done.Records
			return tellFeed(sh, done, err)
		},
	}
	cmd.Flags().StringVar(&job.topic, "topic", "", "topic to produce to (required)")
	cmd.Flags().Int32Var(&job.create, createFlag, 0,
		"partitions of the topic, which is created if it does not exist; one that exists must have as many")
	cmd.Flags().Float64Var(&job.rate, "rate", 0, "records per second, evenly spread, such as 2000 or 0.5; 0 is as fast as Kafka takes them")
	cmd.Flags().Float64Var(&job.traced, "trace", defaultTraced,
		"share of the records that carry a trace of their own, 0 to 1; only where OTEL_EXPORTER_OTLP_ENDPOINT says that spans are exported")
	cmd.Flags().Int64Var(&job.from, "from-line", 1, "first line to send, to resume a feed that broke off")
	pushed.addTo(sh, cmd)
	return cmd
}

const (
	createFlag    = "create"
	defaultTraced = 0.001            // share of fed records
	feedGrace     = 10 * time.Second // for what is under way when a feed is interrupted
)

type feedJob struct {
	file     string
	topic    string
	create   int32        // partitions of a topic that does not exist; 0: it must exist
	rate     float64      // records/s; 0: no limit
	from     int64        // first line, from 1
	traced   float64      // share of the records, where there are traces at all
	tracer   trace.Tracer // nil: none carries a trace
	progress io.Writer
}

func (j *feedJob) validate(cmd *cobra.Command) error {
	switch {
	case j.topic == "":
		return usagef("--topic is missing; usage: %s", cmd.UseLine())
	case spec.CheckTopic(j.topic) != nil:
		return usagef("--topic: %w", spec.CheckTopic(j.topic))
	case cmd.Flags().Changed(createFlag) && j.create < 1:
		return atLeast(createFlag, j.create, 1)
	case !(j.rate >= 0): // refuses NaN, too
		return usagef("--rate is %v; want at least 0", j.rate)
	case j.rate > mostRate:
		return usagef("--rate is %v; want at most %v, or 0 for as fast as Kafka takes them", j.rate, mostRate)
	case !(j.traced >= 0 && j.traced <= 1):
		return usagef("--trace is %v; want a share of the records, 0 to 1", j.traced)
	case j.from < 1:
		return usagef("--from-line is %d; lines count from 1", j.from)
	}
	return nil
}

// feedDone says what a feed came to.
type feedDone struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Created    bool   `json:"created"`
	Records    int64  `json:"records"` // acknowledged
	Bytes      int64  `json:"bytes"`
	Next       int64  `json:"next_line"` // every line before it is acknowledged
	// Seconds is how long it took, and Rate the records per second it came to.
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"records_per_second"`
	first   int64
}

// feed sends a file. Also with an error it returns what was acknowledged.
func feed(ctx context.Context, srv *servers, job feedJob) (feedDone, error) {
	done := feedDone{Topic: job.topic, Next: job.from, first: job.from}
	in, err := openLines(job.file)
	if err != nil {
		return done, err
	}
	defer closing(in)
	if err := in.Skip(job.from - 1); err != nil {
		return done, err
	}
	topic, created, err := ensureTopic(ctx, srv.cluster, job.topic, job.create)
	if err != nil {
		return done, err
	}
	done.Partitions, done.Created = len(topic.Partitions), created
	producer, err := source.NewProducer(ctx, srv.kafka)
	if err != nil {
		return done, reached(ctx, err)
	}
	defer closing(producer)
	if job.tracer != nil {
		producer.TraceFeeds(job.tracer, job.traced)
	}
	line := newProgress(job.progress, "feeding "+job.topic)
	defer line.End()
	// Ctrl-C ends the reading; what is under way still gets its answer, so the count stays exact.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(feedGrace, cancel) })()
	began, pace := time.Now(), newPace(job.rate)
	sent, err := producer.FeedFrom(sending, job.topic, job.from-1,
		func() (key, value []byte, err error) {
			if !pace.wait(ctx) {
				return nil, nil, io.EOF
			}
			value, err = in.Next()
			return nil, value, err
		},
		func(p source.FeedProgress) { line.Update(p.Records, in.Done()) })
	done.Records, done.Bytes, done.Next = sent.Records, sent.Bytes, job.from+sent.Prefix
	done.Seconds = time.Since(began).Seconds()
	done.Rate = float64(done.Records) / max(done.Seconds, 1e-3)
	if err == nil {
		err = ctx.Err()
	}
	return done, err
}

// ensureTopic creates the topic unless it exists; with 0 partitions a topic that does not exist is refused. So is one with
// another number of partitions: what goes where would not be what was asked for.
func ensureTopic(ctx context.Context, cluster *source.Cluster, name string, partitions int32) (
	topic source.Topic, created bool, err error,
) {
	topic, err = cluster.Topic(ctx, name)
	if errors.Is(err, source.ErrUnknownTopic) {
		if partitions == 0 {
			return topic, false, unknownTopic(ctx, cluster, name)
		}
		created = true
		topic, err = cluster.EnsureTopic(ctx, source.TopicSpec{Name: name, Partitions: partitions})
	}
	if err != nil {
		return topic, false, reached(ctx, err)
	}
	if partitions != 0 && int(partitions) != len(topic.Partitions) {
		return topic, created, usagef("topic %s has %s, not %d: give that number or none, or use another topic",
			name, counted(len(topic.Partitions), "partition"), partitions)
	}
	return topic, created, nil
}

// unknownTopic says that a topic does not exist, and which may have been meant.
func unknownTopic(ctx context.Context, cluster *source.Cluster, name string) error {
	names, err := cluster.Topics(ctx)
	if err != nil {
		return reached(ctx, err)
	}
	if near := spec.Nearest(name, names); near != "" {
		return fmt.Errorf("topic %s does not exist; did you mean %s? --%s PARTITIONS creates it", name, near, createFlag)
	}
	return fmt.Errorf("topic %s does not exist; --%s PARTITIONS creates it", name, createFlag)
}

// tellFeed prints what a feed came to; a feed that broke off says how to go on.
func tellFeed(sh *shell, done feedDone, failure error) error {
	if failure != nil && done.Records == 0 {
		return failure
	}
	var err error
	if sh.json {
		err = printJSON(sh.out, done)
	} else {
		_, err = fmt.Fprintf(sh.out, "%s (%s bytes) acknowledged in topic %s, %s, in %.1f s, %s records/s\n",
			counted(done.Records, "record"), short(float64(done.Bytes)), done.Topic, counted(done.Partitions, "partition"),
			done.Seconds, short(done.Rate))
	}
	if failure != nil {
		twice := ""
		if n := done.Records - (done.Next - done.first); n > 0 {
			twice = fmt.Sprintf(" (%s behind it will then be there twice)", counted(n, "record"))
		}
		if errors.Is(failure, context.Canceled) {
			return interruptedf("go on with --from-line %d%s", done.Next, twice)
		}
		return fmt.Errorf("the feed broke off: go on with --from-line %d%s: %w", done.Next, twice, failure)
	}
	return err
}
