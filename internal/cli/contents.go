package cli

import (
	"context"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// resultTopics is what reading a window needs of Kafka; *source.Cluster is one.
type resultTopics interface {
	ledger.Log
	Topic(ctx context.Context, name string) (source.Topic, error)
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
}

// missingRows is the error of a window whose rows are not those that its ledger row names. That the topic's retention
// took them is said only when the topic begins behind where the ledger row says that they stand.
func missingRows(ctx context.Context, k resultTopics, f rowFilter, row *ledger.Row, found *ledger.Checksum) error {
	what := fmt.Sprintf("window %s %s, revision %d: the ledger names %d keys with checksum %s, topic %s holds %d with %s",
		f.window, instant(f.start), row.Revision, row.Keys, row.Checksum, f.topic, found.Rows(), found)
	topic, err := k.Topic(ctx, f.topic)
	if err != nil {
		return fmt.Errorf("%s; whether its retention took the rest cannot be seen: %w", what, err)
	}
	for _, link := range row.Links {
		if link.Revision != row.Revision || f.topic != row.PublishedTo {
			continue
		}
		if link.TopicID != "" && topic.ID != "" && link.TopicID != topic.ID {
			return fmt.Errorf("%s; the topic was made again since: the rows went with the topic before it", what)
		}
		var parts []source.TopicPartition
		for _, span := range link.Partitions {
			parts = append(parts, source.TopicPartition{Topic: f.topic, Partition: span.Partition})
		}
		ends, err := k.Ends(ctx, parts...)
		if err != nil {
			return fmt.Errorf("%s; whether its retention took the rest cannot be seen: %w", what, err)
		}
		for i, span := range link.Partitions {
			if begins := ends[parts[i]].Start; begins > span.First {
				return fmt.Errorf("%s; the rest has expired: partition %d begins at offset %d by now, and the rows stood from %d on. "+
					"Raise the topic's retention.ms if readers come that late", what, span.Partition, begins, span.First)
			}
		}
	}
	return fmt.Errorf("%s; ledger and contents disagree, and nothing shows that the topic's retention took rows: run millrace verify %s",
		what, f.pipeline)
}
