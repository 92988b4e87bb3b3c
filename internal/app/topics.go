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
// A topic that was made just now gets what corrections that publish only what they change need, too.
func checkResultTopic(ctx context.Context, cluster *source.Cluster, s *spec.Spec, made bool) error {
	need := s.KeepResults()
	why := fmt.Sprintf("allowed_lateness %s plus retention.results %s is %s", s.AllowedLateness, s.Retention.Results, need)
	if longest := need - s.AllowedLateness; longest > s.Retention.Results {
		why = fmt.Sprintf("allowed_lateness %s plus the longest retention of a roll-up, %s, is %s", s.AllowedLateness, longest, need)
	}
	return checkKeptTopic(ctx, cluster, keptTopic{
		name: s.Results.Kafka.Topic, what: "result topic", need: need, ample: s.KeepCorrected(), why: why,
		another: "name another topic in results.kafka.topic", shorter: "give a shorter retention.results",
	}, made)
}

// checkStatesTopic refuses a states topic that loses states which a roll-up may still be made from.
func checkStatesTopic(ctx context.Context, cluster *source.Cluster, s *spec.Spec, made bool) error {
	need := s.KeepStates()
	return checkKeptTopic(ctx, cluster, keptTopic{
		name: ledger.StatesTopic(s.Name), what: "states topic", need: need, ample: need,
		why: fmt.Sprintf("a roll-up may be made from the states of its windows for %s: its longest period, allowed_lateness, "+
			"and as long as the ledger keeps their rows", need),
		another: "delete the empty topic and let the start create it", shorter: "give a shorter retention.ledger",
	}, made)
}

// keptTopic is a topic that must not lose records before a time.
type keptTopic struct {
	name, what       string
	need             spec.Duration
	ample            spec.Duration // what one gets that was made just now
	why              string        // it needs that long
	another, shorter string        // what else helps
}

// checkKeptTopic refuses a topic that is compacted or keeps too little. One that was made just now gets ample retention.
func checkKeptTopic(ctx context.Context, cluster *source.Cluster, t keptTopic, made bool) error {
	topic, need := t.name, t.need
	settings, err := cluster.TopicSettings(ctx, topic, cleanupPolicy, retentionMS)
	if source.Denied(err) {
		return nil // what may not be looked at is the operator's to know
	}
	if err != nil {
		return err
	}
	if policy := settings[cleanupPolicy]; policy != "" && policy != "delete" {
		return refusedTopic(topic, cleanupPolicy, policy, "delete",
			"compaction keeps only one window for each key", t.another)
	}
	text, ok := settings[retentionMS]
	keeps, err := strconv.ParseInt(text, 10, 64)
	switch {
	case !ok || keeps < 0 && err == nil:
		return nil // the broker does not say, or it is for ever
	case err != nil:
		return fmt.Errorf("%s %s: %s is %q, which is no number", t.what, topic, retentionMS, text)
	case keeps >= need.Millis() && (!made || keeps >= t.ample.Millis()):
		return nil
	}
	if !made {
		if made, err = untouched(ctx, cluster, topic, retentionMS); err != nil {
			return err
		}
	}
	if made {
		err := cluster.SetTopic(ctx, topic, retentionMS, strconv.FormatInt(t.ample.Millis(), 10))
		if !source.Denied(err) || keeps >= need.Millis() {
			return ignoreDenied(err)
		}
	}
	kept := spec.Duration(time.Duration(keeps) * time.Millisecond)
	return refusedTopic(topic, retentionMS, text, atLeast(need.Millis()),
		fmt.Sprintf("it keeps %s, %s", kept, t.why), t.shorter)
}

// ignoreDenied leaves out that something may not be set: what there is does.
func ignoreDenied(err error) error {
	if source.Denied(err) {
		return nil
	}
	return err
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

	// ledgerChild is what a ledger row takes for a window that it was rolled up from: name, start, revision and checksum.
	ledgerChild = 256

	// ledgerLane is about what a lane takes of a ledger row, and ledgerRow what a row takes besides, in bytes.
	ledgerLane, ledgerRow = 1 << 10, 1 << 20
)

// topicBytes is what max.message.bytes has to be for each topic that the pipeline writes: any result row the spec can
// produce, any source record with the headers of a side record, a ledger row of that many lanes.
func topicBytes(ctx context.Context, cluster *source.Cluster, s *spec.Spec, lanes int) (map[string]int, error) {
	need := map[string]int{ledger.Topic(s.Name): ledgerRow + lanes*ledgerLane}
	if len(s.Rollups) > 0 {
		need[ledger.Topic(s.Name)] += spec.MaxChildren * ledgerChild
		need[ledger.StatesTopic(s.Name)] = s.StateBytes()
	}
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
	case made || topic == ledger.Topic(s.Name) || len(s.Rollups) > 0 && topic == ledger.StatesTopic(s.Name):
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
