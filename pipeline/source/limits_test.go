package source

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// limited makes a topic that takes batches of at most the given bytes.
func (k *kafka) limited(t *testing.T, bytes string) string {
	t.Helper()
	topic, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{
		Name: unique("t"), Partitions: 1, Replication: 1, Config: map[string]string{SettingMaxMessageBytes: bytes},
	})
	require.NoError(t, err)
	return topic.Name
}

func TestMaxMessageBytes(t *testing.T) {
	k := anyKafka(t)
	plain, small := k.topic(t, 1), k.limited(t, "5000")
	n, err := k.cluster.MaxMessageBytes(within(t), plain)
	require.NoError(t, err)
	require.Equal(t, defaultMessageBytes, n)
	n, err = k.cluster.MaxMessageBytes(within(t), small)
	require.NoError(t, err)
	require.Equal(t, 5000, n)
	_, err = k.cluster.MaxMessageBytes(within(t), unique("none"))
	require.ErrorIs(t, err, ErrUnknownTopic)
}

// A record may be as large as its topic takes, not as a client library likes it; one byte more is refused, and only it.
func TestProducerFollowsTheTopicsLimits(t *testing.T) {
	k := anyKafka(t)
	large, small := k.limited(t, "5000000"), k.limited(t, "20000")
	p, err := NewProducer(t.Context(), k.cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	// Bytes that no compression makes fewer.
	noise := func(n int) []byte {
		b := make([]byte, n)
		x := uint32(2463534242)
		for i := range b {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			b[i] = byte(x)
		}
		return b
	}
	fitting := func(topic string, limit int) SideRecord {
		r := SideRecord{Topic: topic, Key: []byte("k"), Headers: []Header{{"mr-reason", []byte("late")}}}
		r.Value = noise(RecordLimit(limit) - RecordSize(r.Key, nil, r.Headers))
		return r
	}
	require.NoError(t, p.Send(within(t), []SideRecord{fitting(large, 5_000_000), fitting(small, 20_000), fitting(large, 5_000_000)}))
	over := fitting(small, 20_000)
	over.Value = append(over.Value, bytes.Repeat([]byte("x"), 600)...)
	require.ErrorIs(t, p.Send(within(t), []SideRecord{over}), ErrRecordTooLarge)

	// Small records fill batches that the topic takes.
	var many []SideRecord
	for range 500 {
		many = append(many, SideRecord{Topic: small, Key: []byte("k"), Value: noise(900)})
	}
	require.NoError(t, p.Send(within(t), many))

	// A limit that was raised is noticed when a record did not fit.
	require.NoError(t, k.cluster.SetTopic(within(t), small, SettingMaxMessageBytes, "4000000"))
	p.mu.Lock()
	p.topics[small].asked = time.Now().Add(-2 * metadataAge)
	p.mu.Unlock()
	grown := fitting(small, 4_000_000)
	require.ErrorIs(t, p.Send(within(t), []SideRecord{grown}), ErrRecordTooLarge)
	require.NoError(t, p.Send(within(t), []SideRecord{grown}))
}
