package source

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTopicSettings(t *testing.T) {
	k := anyKafka(t)
	name := unique("settings")
	_, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{Name: name, Replication: 1, Compacted: true})
	require.NoError(t, err)
	found, err := k.cluster.TopicSettings(t.Context(), name, "retention.ms", "cleanup.policy")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"retention.ms": "604800000", "cleanup.policy": "compact"}, found)

	sets := func(setting string) bool {
		t.Helper()
		own, err := k.cluster.TopicSets(t.Context(), name, setting)
		require.NoError(t, err)
		return own
	}
	require.True(t, sets("cleanup.policy"))
	require.False(t, sets("retention.ms"), "it has the broker's default")

	require.NoError(t, k.cluster.SetTopic(t.Context(), name, "retention.ms", "86400000"))
	require.True(t, sets("retention.ms"))
	require.NoError(t, k.cluster.SetTopic(t.Context(), name, "cleanup.policy", "delete"))
	found, err = k.cluster.TopicSettings(t.Context(), name, "retention.ms", "cleanup.policy")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"retention.ms": "86400000", "cleanup.policy": "delete"}, found)
	require.ErrorContains(t, k.cluster.SetTopic(t.Context(), unique("nowhere"), "cleanup.policy", "delete"), "set cleanup.policy of topic")
}
