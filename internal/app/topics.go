package app

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/activities"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

const (
	cleanupPolicy = "cleanup.policy"
	retentionMS   = "retention.ms"
)

// checkResultTopic refuses a result topic that loses rows which readers still need: one that is compacted keeps one
// window for each key, and one whose retention is short loses the first revision of a window before the last is expired.
// A topic that was made just now gets the retention it needs.
func checkResultTopic(ctx context.Context, cluster *source.Cluster, s *spec.Spec, made bool) error {
	topic, need := s.Results.Kafka.Topic, s.KeepResults()
	settings, err := cluster.TopicSettings(ctx, topic, cleanupPolicy, retentionMS)
	if source.Denied(err) {
		return nil // what may not be looked at is the operator's to know
	}
	if err != nil {
		return err
	}
	if policy := settings[cleanupPolicy]; policy != "" && policy != "delete" {
		return refusedTopic(topic, cleanupPolicy, policy, "delete",
			"compaction keeps only one window for each key", "name another topic in results.kafka.topic")
	}
	text, ok := settings[retentionMS]
	keeps, err := strconv.ParseInt(text, 10, 64)
	switch {
	case !ok || keeps < 0 && err == nil:
		return nil // the broker does not say, or it is for ever
	case err != nil:
		return fmt.Errorf("result topic %s: %s is %q, which is no number", topic, retentionMS, text)
	case keeps >= need.Millis():
		return nil
	}
	if !made {
		if made, err = untouched(ctx, cluster, topic, retentionMS); err != nil {
			return err
		}
	}
	if made {
		err := cluster.SetTopic(ctx, topic, retentionMS, strconv.FormatInt(need.Millis(), 10))
		if !source.Denied(err) {
			return err
		}
	}
	kept := spec.Duration(time.Duration(keeps) * time.Millisecond)
	return refusedTopic(topic, retentionMS, text, atLeast(need.Millis()),
		fmt.Sprintf("it keeps %s, allowed_lateness %s plus retention.results %s is %s", kept, s.AllowedLateness, s.Retention.Results, need),
		"give a shorter retention.results")
}

// untouched reports whether nothing was ever written to a topic and it has the broker's default for a setting: a start that was cut
// off after it made the topic leaves it like that, and the next try gives it what it needs.
func untouched(ctx context.Context, cluster *source.Cluster, topic, setting string) (bool, error) {
	sets, err := cluster.TopicSets(ctx, topic, setting)
	if source.Denied(err) || sets {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	numbers, err := cluster.Partitions(ctx, topic)
	if err != nil {
		return false, err
	}
	tps := make([]source.TopicPartition, len(numbers))
	for i, n := range numbers {
		tps[i] = source.TopicPartition{Topic: topic, Partition: n}
	}
	ends, err := cluster.Ends(ctx, tps...)
	if err != nil {
		return false, err
	}
	for _, end := range ends {
		if end.HighWatermark > 0 {
			return false, nil
		}
	}
	return true, nil
}

// checkLedgerTopic refuses a ledger topic that is not compacted: without the floors, and the rows of windows that are
// open, windows that were published would be published again.
func checkLedgerTopic(ctx context.Context, cluster *source.Cluster, topic string) error {
	settings, err := cluster.TopicSettings(ctx, topic, cleanupPolicy)
	if source.Denied(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if policy := settings[cleanupPolicy]; policy != "" && policy != "compact" {
		return refusedTopic(topic, cleanupPolicy, policy, "compact", "the ledger's latest rows must never be deleted by age",
			"delete the empty topic and let the start create it")
	}
	return nil
}

// leastPrefix stands before a number that a setting must not be below.
const leastPrefix = "at least "

func atLeast(n int64) string { return leastPrefix + strconv.FormatInt(n, 10) }

// refusedTopic is an error that no retry mends.
func refusedTopic(topic, setting, value, want, why, or string) error {
	return fmt.Errorf("%w: topic %s has %s=%s, want %s: %s; set it with "+
		"kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=%s, or %s",
		activities.ErrPermanent, topic, setting, value, want, why, topic, setting, strings.TrimPrefix(want, leastPrefix), or)
}

const (
	// sideHeaders bounds what a side record has beyond the source record: headers with the windows it missed, or with
	// what was wrong, both of which the lane bounds.
	sideHeaders = 64 << 10

	// ledgerLane is about what a lane takes of a ledger row, and ledgerRow what a row takes besides, in bytes.
	ledgerLane, ledgerRow = 1 << 10, 1 << 20
)

// topicBytes is what max.message.bytes has to be for each topic that the pipeline writes: any result row the spec can
// produce, any source record with the headers of a side record, a ledger row of that many lanes.
func topicBytes(ctx context.Context, cluster *source.Cluster, s *spec.Spec, lanes int) (map[string]int, error) {
	need := map[string]int{ledger.Topic(s.Name): ledgerRow + lanes*ledgerLane}
	if s.Results.Kafka != nil {
		need[s.Results.Kafka.Topic] = s.RecordBytes()
	}
	largest := 0
	for _, topic := range s.Source.Topics {
		limit, err := cluster.MaxMessageBytes(ctx, topic)
		if err != nil {
			return nil, err
		}
		largest = max(largest, limit)
	}
	for _, sink := range []spec.Sink{s.Late, s.DeadLetter} {
		if sink.Kafka != nil {
			need[sink.Kafka.Topic] = largest + sideHeaders
		}
	}
	return need, nil
}

// fitTopic makes sure that a topic takes what the pipeline writes to it. A topic that the pipeline has made, and the ledger,
// which is its own, is changed; another result topic is refused. A late or dead-letter topic that takes less is left as it is:
// records that do not fit are cut there, and say so.
func fitTopic(ctx context.Context, cluster *source.Cluster, s *spec.Spec, topic string, need int, made bool) error {
	has, err := cluster.MaxMessageBytes(ctx, topic)
	if err != nil || has >= need {
		return err
	}
	switch {
	case made || topic == ledger.Topic(s.Name):
		err := cluster.SetTopic(ctx, topic, source.SettingMaxMessageBytes, strconv.Itoa(need))
		if source.Denied(err) {
			return nil // a row that does not fit is an incident that says so
		}
		return err
	case s.Results.Kafka != nil && topic == s.Results.Kafka.Topic:
		fresh, err := untouched(ctx, cluster, topic, source.SettingMaxMessageBytes)
		if err != nil {
			return err
		}
		if fresh {
			err := cluster.SetTopic(ctx, topic, source.SettingMaxMessageBytes, strconv.Itoa(need))
			if !source.Denied(err) {
				return err
			}
		}
		return refusedTopic(topic, source.SettingMaxMessageBytes, strconv.Itoa(has), atLeast(int64(need)),
			"a result row may be that large, and could never be published", "give a smaller event.max_value_bytes or event.max_key_bytes")
	}
	return nil
}
