package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

func TestStartWarnsOfTimestampsThatNobodyBounds(t *testing.T) {
	_, cluster := startKafka(t, source.TopicSpec{Name: "producers"}, source.TopicSpec{Name: "brokers"})
	require.NoError(t, cluster.SetTopic(t.Context(), "brokers", timestampType, "LogAppendTime"))
	s := &spec.Spec{Name: "orders", Source: spec.Source{Topics: []string{"producers", "brokers"}}}
	topics, err := servers{cluster: cluster}.EnsureTopics(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, []string{"topic producers has message.timestamp.type=CreateTime without a finite message.timestamp.after.max.ms: " +
		"one record from 2099 moves the watermark for good; set it, or event.max_jump in the spec"}, topics.Warnings)
	s.Event.MaxJump = spec.Duration(time.Hour)
	topics, err = servers{cluster: cluster}.EnsureTopics(t.Context(), s)
	require.NoError(t, err)
	require.Empty(t, topics.Warnings, "max_jump bounds what one record does")
}

func TestTimestampsThatABrokerBounds(t *testing.T) {
	const unbounded = "9223372036854775807"
	for _, bound := range []struct{ name, value string }{
		{timestampAfter, "3600000"}, {timestampDiff, "86400000"}, {timestampType, "LogAppendTime"},
	} {
		settings := map[string]string{timestampType: createTime, timestampAfter: unbounded, timestampDiff: unbounded}
		require.NotEmpty(t, timestampWarning("orders", settings))
		settings[bound.name] = bound.value
		require.Empty(t, timestampWarning("orders", settings), bound.name)
	}
}
