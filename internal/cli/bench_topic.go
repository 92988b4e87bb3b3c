package cli

import (
	"context"
	"fmt"
	"io"

	"millrace/pipeline/source"
)

// fillTopic produces a workload's records, and those that close its windows.
func fillTopic(ctx context.Context, srv *servers, out io.Writer, topic string, load *workload) error {
	producer, err := source.NewProducer(ctx, srv.kafka)
	if err != nil {
		return reached(ctx, err)
	}
	defer closing(producer)
	line := newProgress(out, "producing")
	defer line.End()
	_, err = producer.Feed(ctx, topic, newBenchSource(*load, load.partitions).next, func(p source.FeedProgress) {
		line.Update(p.Records, float64(p.Records)/float64(load.records))
	})
	return err
}

// topicEnd is the end of a partition that holds its part of the records, which took turns, and a closing record.
func (w *workload) topicEnd(partition int32) int64 {
	n := int64(w.partitions)
	return (w.records+n-1-int64(partition))/n + 1
}

// checkFilled returns an error unless the topic holds as many records as the workload. Which ones, the results show.
func (r *benchRun) checkFilled(ctx context.Context) error {
	ends, err := topicEnds(ctx, r.srv.cluster, r.load.topic)
	if err != nil {
		return reached(ctx, err)
	}
	if len(ends) != int(r.load.partitions) {
		return usagef("topic %s has %d partitions; want %d, which the workload has", r.load.topic, len(ends), r.load.partitions)
	}
	for tp, e := range ends {
		if want := r.load.topicEnd(tp.Partition); e.Start != 0 || e.HighWatermark != want {
			return usagef("%s holds the offsets from %d to %d; want 0 to %d: fill a topic with --fill-only and the same workload",
				tp, e.Start, e.HighWatermark, want)
		}
	}
	return nil
}

func topicEnds(ctx context.Context, cluster *source.Cluster, topic string) (map[source.TopicPartition]source.Ends, error) {
	partitions, err := cluster.Partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	tps := make([]source.TopicPartition, len(partitions))
	for i, p := range partitions {
		tps[i] = source.TopicPartition{Topic: topic, Partition: p}
	}
	return cluster.Ends(ctx, tps...)
}

// fillOnly creates the topic that --topic names and fills it.
func fillOnly(ctx context.Context, sh *shell, load *benchLoad) error {
	srv, err := sh.connectKafka(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	if _, err := srv.cluster.EnsureTopic(ctx, source.TopicSpec{Name: load.topic, Partitions: load.partitions}); err != nil {
		return reached(ctx, err)
	}
	ends, err := topicEnds(ctx, srv.cluster, load.topic)
	if err != nil {
		return reached(ctx, err)
	}
	if len(ends) != int(load.partitions) {
		return usagef("topic %s exists with %d partitions; want %d, or another topic", load.topic, len(ends), load.partitions)
	}
	for tp, e := range ends {
		if e.HighWatermark != 0 {
			return usagef("%s holds %d records; name a topic that is empty or does not exist", tp, e.HighWatermark-e.Start)
		}
	}
	if err := fillTopic(ctx, srv, sh.err, load.topic, &load.workload); err != nil {
		return err
	}
	filled := benchFilled{Topic: load.topic, Workload: load.name, Records: load.records, Closing: load.partitions}
	if sh.json {
		return printJSON(sh.out, filled)
	}
	_, err = fmt.Fprintf(sh.out, "topic %s holds the %d records of %s and %d that close its windows\n", filled.Topic, filled.Records,
		filled.Workload, filled.Closing)
	return err
}

// benchFilled is a topic that was filled for later runs.
type benchFilled struct {
	Topic    string `json:"topic"`
	Workload string `json:"workload"`
	Records  int64  `json:"records"`
	Closing  int32  `json:"closing_records"`
}
