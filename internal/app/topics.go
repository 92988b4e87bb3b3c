package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"millrace/activities"
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
	case made:
		return cluster.SetTopic(ctx, topic, retentionMS, strconv.FormatInt(need.Millis(), 10))
	}
	kept := spec.Duration(time.Duration(keeps) * time.Millisecond)
	return refusedTopic(topic, retentionMS, text, fmt.Sprintf("at least %d", need.Millis()),
		fmt.Sprintf("it keeps %s, allowed_lateness %s plus retention.results %s is %s", kept, s.AllowedLateness, s.Retention.Results, need),
		"give a shorter retention.results")
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
		return refusedTopic(topic, cleanupPolicy, policy, "compact", "the ledger's latest rows must never be deleted by age", "delete the empty topic and let the start create it")
	}
	return nil
}

// refusedTopic is an error that no retry mends.
func refusedTopic(topic, setting, value, want, why, or string) error {
	return fmt.Errorf("%w: topic %s has %s=%s, want %s: %s; set it with kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=..., or %s",
		activities.ErrPermanent, topic, setting, value, want, why, topic, setting, or)
}
