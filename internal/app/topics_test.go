package app

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

func TestTopicsKeepWhatReadersNeed(t *testing.T) {
	_, cluster := startKafka(t, source.TopicSpec{Name: "orders"})
	s := &spec.Spec{
		Name: "orders", Source: spec.Source{Topics: []string{"orders"}}, AllowedLateness: spec.Duration(time.Hour),
		Results:   spec.Results{Sink: spec.Sink{Kafka: &spec.KafkaSink{Topic: "orders.windows"}}},
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

	absent := *s
	absent.Source.Topics = []string{"nowhere"}
	_, err := v.EnsureTopics(t.Context(), &absent)
	require.ErrorContains(t, err,
		": source topic nowhere: unknown topic; create it first, or feed it with millrace feed --create PARTITIONS")

	require.NoError(t, start(), "topics that are made keep enough")
	require.NoError(t, start(), "and still do at the next start")

	set("orders.windows", "retention.ms", "176400000") // 49 h
	require.NoError(t, start())
	set("orders.windows", "retention.ms", "176399999")
	err = start()
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "topic orders.windows has retention.ms=176399999, want at least 176400000: it keeps")
	require.ErrorContains(t, err, "allowed_lateness 1h plus retention.results 2d is 2d1h")
	require.ErrorContains(t, err, "--entity-name orders.windows --add-config retention.ms=176400000, or give a shorter")
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

func TestStatesTopicOfRollups(t *testing.T) {
	_, cluster := startKafka(t, source.TopicSpec{Name: "orders", Partitions: 3})
	s, err := spec.Parse("a.yaml", []byte(removableSpec+"rollups: [{name: daily, from: hourly, calendar: day, retention: 10d}]\n"))
	require.NoError(t, err)
	v := servers{cluster: cluster}
	topics, err := v.EnsureTopics(t.Context(), s)
	require.NoError(t, err)
	states := ledger.StatesTopic("orders")
	require.Contains(t, topics.Created, states)
	partitions, err := cluster.Partitions(t.Context(), states)
	require.NoError(t, err)
	require.Len(t, partitions, 3)
	keeps := func(topic string) string {
		settings, err := cluster.TopicSettings(t.Context(), topic, retentionMS)
		require.NoError(t, err)
		return settings[retentionMS]
	}
	require.NoError(t, cluster.SetTopic(t.Context(), states, retentionMS, fmt.Sprint((32*time.Hour+30*time.Minute).Milliseconds()-1)))
	_, err = v.EnsureTopics(t.Context(), s)
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "topic orders.states has retention.ms=116999999, want at least 117000000: it keeps ")
	require.ErrorContains(t, err, "a roll-up may be made from the states of its windows for 1d8h30m")
	require.NoError(t, cluster.SetTopic(t.Context(), states, retentionMS, keeps("orders.windows")))
	require.NoError(t, cluster.SetTopic(t.Context(), "orders.windows", retentionMS, fmt.Sprint(10*24*time.Hour.Milliseconds())))
	_, err = v.EnsureTopics(t.Context(), s)
	require.ErrorContains(t, err, "allowed_lateness 30m plus the longest retention of a roll-up, 10d, is 10d30m")

	plain, err := spec.Parse("a.yaml", []byte(removableSpec))
	require.NoError(t, err)
	_, err = cluster.Topic(t.Context(), states)
	require.NoError(t, err)
	need, err := topicBytes(t.Context(), cluster, plain, 3)
	require.NoError(t, err)
	require.NotContains(t, need, states, "a pipeline without roll-ups writes no states")
}

// A broker that keeps records for a shorter time than the pipeline needs does not decide over the topics we make.
func TestTopicsThatAreMadeKeepEnough(t *testing.T) {
	_, cluster := startKafka(t, source.TopicSpec{Name: "short", Config: map[string]string{"retention.ms": "1000"}})
	s := &spec.Spec{
		Results:   spec.Results{Sink: spec.Sink{Kafka: &spec.KafkaSink{Topic: "short"}}},
		Retention: spec.Retention{Results: spec.Duration(time.Minute)},
	}
	require.Error(t, checkResultTopic(t.Context(), cluster, s, false))
	require.NoError(t, checkResultTopic(t.Context(), cluster, s, true))
	require.NoError(t, checkResultTopic(t.Context(), cluster, s, false))
}

// A start that was cut off after it made a topic, and before it set what the topic needs, is finished by the next try. What somebody
// has set, or written to, is not changed.
func TestTopicsOfAStartThatWasCutOff(t *testing.T) {
	cfg, cluster := startKafka(t, source.TopicSpec{Name: "in"}, source.TopicSpec{Name: "out"}, source.TopicSpec{Name: "used"},
		source.TopicSpec{Name: "set", Config: map[string]string{retentionMS: "604800000", source.SettingMaxMessageBytes: "1048588"}})
	parse := func(topic string) *spec.Spec {
		s, err := spec.Parse("wide.yaml", []byte(`{name: wide, source: {topics: [in]},
  event: {key: [k], time: {field: t, unit: s}, max_value_bytes: 2MiB}, aggregates: {f: {func: first, field: v}, l: {func: last, field: v}},
  windows: [{name: w, size: 1h}], retention: {results: 60d}, results: {kafka: {topic: `+topic+`}}}`))
		require.NoError(t, err)
		return s
	}
	v := servers{cluster: cluster}
	out := parse("out")
	_, err := v.EnsureTopics(t.Context(), out)
	require.NoError(t, err)
	settings, err := cluster.TopicSettings(t.Context(), "out", retentionMS, source.SettingMaxMessageBytes)
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		retentionMS: fmt.Sprint(out.KeepCorrected().Millis()), source.SettingMaxMessageBytes: fmt.Sprint(out.RecordBytes()),
	}, settings)

	_, err = v.EnsureTopics(t.Context(), parse("set"))
	require.ErrorContains(t, err, "topic set has retention.ms=604800000")
	require.NoError(t, cluster.SetTopic(t.Context(), "set", retentionMS, "-1"))
	_, err = v.EnsureTopics(t.Context(), parse("set"))
	require.ErrorContains(t, err, "topic set has max.message.bytes=1048588")

	producer, err := source.NewProducer(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, producer.Send(t.Context(), []source.SideRecord{{Topic: "used", Value: []byte("x")}}))
	require.NoError(t, producer.Close())
	_, err = v.EnsureTopics(t.Context(), parse("used"))
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "topic used has retention.ms=")
}

// Every topic takes what the pipeline may write to it, or the start says what to change.
func TestTopicsTakeWhatThePipelineWrites(t *testing.T) {
	_, cluster := startKafka(t, source.TopicSpec{
		Name: "in", Partitions: 4, Config: map[string]string{source.SettingMaxMessageBytes: "3000000"},
	})
	parse := func(limit string) *spec.Spec {
		s, err := spec.Parse("wide.yaml", []byte(`{name: wide, source: {topics: [in]},
  event: {key: [k], time: {field: t, unit: s}`+limit+`},
  aggregates: {f: {func: first, field: v}, l: {func: last, field: v}}, windows: [{name: w, size: 1h}],
  results: {kafka: {topic: out}}, late: {kafka: {topic: late}}, dead_letter: {kafka: {topic: dead}}}`))
		require.NoError(t, err)
		return s
	}
	v := servers{cluster: cluster}
	has := func(topic string) int {
		t.Helper()
		n, err := cluster.MaxMessageBytes(t.Context(), topic)
		require.NoError(t, err)
		return n
	}
	wide := parse(", max_value_bytes: 2MiB")
	_, err := v.EnsureTopics(t.Context(), wide)
	require.NoError(t, err)
	require.GreaterOrEqual(t, has("out"), wide.RecordBytes())
	require.GreaterOrEqual(t, has("late"), 3_000_000+sideHeaders)
	require.GreaterOrEqual(t, has("dead"), 3_000_000+sideHeaders)
	require.GreaterOrEqual(t, has(ledger.Topic("wide")), ledgerRow+4*ledgerLane)

	wider := parse(", max_value_bytes: 4MiB")
	_, err = v.EnsureTopics(t.Context(), wider)
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "topic out has max.message.bytes=")
	require.ErrorContains(t, err, "a result row may be that large, and could never be published")
	require.ErrorContains(t, err, "or give a smaller event.max_value_bytes")
	require.NoError(t, cluster.SetTopic(t.Context(), "out", source.SettingMaxMessageBytes, "1048588"))
	_, err = v.EnsureTopics(t.Context(), parse(""))
	require.NoError(t, err, "what a spec takes by default fits what a topic takes by default")
	require.NoError(t, cluster.SetTopic(t.Context(), "dead", source.SettingMaxMessageBytes, "1000"))
	_, err = v.EnsureTopics(t.Context(), parse(""))
	require.NoError(t, err, "dead letters are cut")
}
