package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"millrace/pipeline/source"
)

func feedCommand(sh *shell) *cobra.Command {
	var topic string
	var partitions int32
	var from int64
	cmd := &cobra.Command{
		Use:   "feed FILE[.gz]",
		Short: "Produce a file of one JSON record a line to a Kafka topic",
		Long: `Feed sends every line of the file as one record, line 1 to partition 0, line 2 to partition 1 and so on round-robin;
"-" reads standard input. The topic is created when it is missing. The count printed at the end is exact: records that
Kafka has acknowledged on all replicas. When a feed breaks off it says with which --from-line to go on.`,
		Example: "  millrace feed flights-2001-01.jsonl.gz --topic flights --partitions 4",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if topic == "" {
				return usagef("--topic is missing; usage: %s", cmd.UseLine())
			}
			if from < 1 {
				return usagef("--from-line is %d; lines count from 1", from)
			}
			srv, err := sh.connectKafka(cmd.Context())
			if err != nil {
				return err
			}
			defer srv.Close()
			done, err := feed(cmd.Context(), srv, feedJob{file: args[0], topic: topic, partitions: partitions, from: from, progress: sh.err})
			return report(sh, done, err)
		},
	}
	cmd.Flags().StringVar(&topic, "topic", "", "topic to produce to (required)")
	cmd.Flags().Int32Var(&partitions, "partitions", 0, "partitions of a topic that is created (default 4); an existing topic must have as many")
	cmd.Flags().Int64Var(&from, "from-line", 1, "first line to send, to resume a feed that broke off")
	return cmd
}

const (
	defaultPartitions = 4
	feedGrace         = 10 * time.Second // for what is under way when a feed is interrupted
)

type feedJob struct {
	file       string
	topic      string
	partitions int32 // 0: whatever an existing topic has, else defaultPartitions
	from       int64 // first line, from 1
	progress   io.Writer
}

// feedDone says what a feed came to.
type feedDone struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Created    bool   `json:"created"`
	Records    int64  `json:"records"` // acknowledged
	Bytes      int64  `json:"bytes"`
	Next       int64  `json:"next_line"` // every line before it is acknowledged
	first      int64
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
	topic, created, err := ensureTopic(ctx, srv.cluster, job.topic, job.partitions)
	if err != nil {
		return done, err
	}
	done.Partitions, done.Created = len(topic.Partitions), created
	producer, err := source.NewProducer(ctx, srv.kafka)
	if err != nil {
		return done, reached(ctx, err)
	}
	defer closing(producer)
	line := newProgress(job.progress, "feeding "+job.topic)
	defer line.End()
	// Ctrl-C ends the reading; what is under way still gets its answer, so the count stays exact.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(feedGrace, cancel) })()
	sent, err := producer.FeedFrom(sending, job.topic, job.from-1,
		func() (key, value []byte, err error) {
			if ctx.Err() != nil {
				return nil, nil, io.EOF
			}
			value, err = in.Next()
			return nil, value, err
		},
		func(p source.FeedProgress) { line.Update(p.Records, in.Done()) })
	done.Records, done.Bytes, done.Next = sent.Records, sent.Bytes, job.from+sent.Prefix
	if err == nil {
		err = ctx.Err()
	}
	return done, err
}

// ensureTopic creates the topic unless it exists. An existing one with another number of partitions is refused: what
// goes where would not be what was asked for.
func ensureTopic(ctx context.Context, cluster *source.Cluster, name string, partitions int32) (topic source.Topic, created bool, err error) {
	topic, err = cluster.Topic(ctx, name)
	if errors.Is(err, source.ErrUnknownTopic) {
		created = true
		want := partitions
		if want == 0 {
			want = defaultPartitions
		}
		topic, err = cluster.EnsureTopic(ctx, source.TopicSpec{Name: name, Partitions: want})
	}
	if err != nil {
		return topic, false, reached(ctx, err)
	}
	if partitions != 0 && int(partitions) != len(topic.Partitions) {
		return topic, created, usagef("topic %s has %s, not %d: leave --partitions out, or use another topic",
			name, counted(len(topic.Partitions), "partition"), partitions)
	}
	return topic, created, nil
}

// report prints what a feed came to; a feed that broke off says how to go on.
func report(sh *shell, done feedDone, failure error) error {
	if failure != nil && done.Records == 0 {
		return failure
	}
	var err error
	if sh.json {
		err = printJSON(sh.out, done)
	} else {
		_, err = fmt.Fprintf(sh.out, "%s (%s bytes) acknowledged in topic %s, %s\n",
			counted(done.Records, "record"), short(float64(done.Bytes)), done.Topic, counted(done.Partitions, "partition"))
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
