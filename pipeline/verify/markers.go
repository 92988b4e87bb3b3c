package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

const (
	// markerPatience is how long a look waits for the markers of transactions.
	markerPatience = 10 * time.Second
	// markerPause is the pause between two questions whether they have been written.
	markerPause = 50 * time.Millisecond
)

// awaitMarkers waits until read_committed readers see everything that was written to the topics of
// a pipeline's closers before the call, or for markerPatience. A broker acknowledges a commit before
// it writes the transaction's markers, to each partition on its own: a ledger row can be visible
// while the rows that it is about are hidden.
func awaitMarkers(ctx context.Context, cfg *Config) error {
	tps, err := closerPartitions(ctx, cfg)
	if err != nil {
		return err
	}
	limit := time.After(markerPatience)
	for written := map[source.TopicPartition]source.Ends(nil); ; {
		ends, err := cfg.Kafka.Ends(ctx, tps...)
		if err != nil {
			return fmt.Errorf("offsets of the topics that closers write: %w", err)
		}
		if written == nil {
			written = ends
		}
		hidden := func(tp source.TopicPartition) bool { return ends[tp].End < written[tp].HighWatermark }
		if !slices.ContainsFunc(tps, hidden) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit:
			return nil
		case <-time.After(markerPause):
		}
	}
}

// closerPartitions returns the partitions that closers write to: of the ledger, and of results and
// states where there are any.
func closerPartitions(ctx context.Context, cfg *Config) ([]source.TopicPartition, error) {
	topics := []string{ledger.Topic(cfg.Spec.Name), ledger.StatesTopic(cfg.Spec.Name)}
	if sink := cfg.Spec.Results.Kafka; sink != nil {
		topics = append(topics, sink.Topic)
	}
	var tps []source.TopicPartition
	for _, topic := range topics {
		partitions, err := cfg.Kafka.Partitions(ctx, topic)
		if errors.Is(err, source.ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("partitions of topic %s: %w", topic, err)
		}
		for _, p := range partitions {
			tps = append(tps, source.TopicPartition{Topic: topic, Partition: p})
		}
	}
	return tps, nil
}
