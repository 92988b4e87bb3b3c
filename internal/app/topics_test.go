package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

func TestTopicsKeepWhatReadersNeed(t *testing.T) {
	broker, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	cluster, err := source.NewCluster(t.Context(), source.Config{Brokers: []string{broker.Addr()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	_, err = cluster.EnsureTopic(t.Context(), source.TopicSpec{Name: "orders"})
	require.NoError(t, err)
	s := &spec.Spec{
		Name: "orders", Source: spec.Source{Topics: []string{"orders"}}, AllowedLateness: spec.Duration(time.Hour),
		Results:   spec.Sink{Kafka: &spec.KafkaSink{Topic: "orders.windows"}},
		Retention: spec.Retention{Results: spec.Duration(48 * time.Hour), Ledger: spec.Duration(90 * 24 * time.Hour)},
	}
	v := servers{cluster: cluster}
	start := func() error {
		_, err := v.EnsureTopics(t.Context(), s)
		return err
	}
	set := func(topic, name, value string) {
		t.Helper()
		require.NoError(t, cluster.SetTopic(t.Context(), topic, name, value))
	}

	require.NoError(t, start(), "topics that are made keep enough")
	require.NoError(t, start(), "and still do at the next start")

	set("orders.windows", "retention.ms", "176400000") // 49 h
	require.NoError(t, start())
	set("orders.windows", "retention.ms", "176399999")
	err = start()
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "topic orders.windows has retention.ms=176399999, want at least 176400000: it keeps")
	require.ErrorContains(t, err, "allowed_lateness 1h plus retention.results 2d is 49h")
	require.ErrorContains(t, err, "--entity-name orders.windows --add-config retention.ms=")
	set("orders.windows", "retention.ms", "-1")
	require.NoError(t, start())

	for _, policy := range []string{"compact", "compact,delete"} {
		set("orders.windows", "cleanup.policy", policy)
		err = start()
		require.ErrorIs(t, err, activities.ErrPermanent)
		require.ErrorContains(t, err, "cleanup.policy="+policy+", want delete: compaction keeps only one window for each key")
	}
	set("orders.windows", "cleanup.policy", "delete")
	set(ledger.Topic("orders"), "cleanup.policy", "delete")
	err = start()
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "topic orders.ledger has cleanup.policy=delete, want compact")
}

// A broker that keeps records for a shorter time than the pipeline needs does not decide over the topics we make.
func TestTopicsThatAreMadeKeepEnough(t *testing.T) {
	broker, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	cluster, err := source.NewCluster(t.Context(), source.Config{Brokers: []string{broker.Addr()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	_, err = cluster.EnsureTopic(t.Context(), source.TopicSpec{Name: "short", Config: map[string]string{"retention.ms": "1000"}})
	require.NoError(t, err)
	s := &spec.Spec{
		Results:   spec.Sink{Kafka: &spec.KafkaSink{Topic: "short"}},
		Retention: spec.Retention{Results: spec.Duration(time.Minute)},
	}
	require.Error(t, checkResultTopic(t.Context(), cluster, s, false))
	require.NoError(t, checkResultTopic(t.Context(), cluster, s, true))
	require.NoError(t, checkResultTopic(t.Context(), cluster, s, false))
}
