package source_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/source"
)

// TestCommittedRecordsComeWithTheirHeadersWhenAsked: and from the offset asked for, in the middle of a batch too.
func TestCommittedRecordsComeWithTheirHeadersWhenAsked(t *testing.T) {
	ctx := t.Context()
	broker, err := dev.StartKafka(ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	cfg := source.Config{Brokers: []string{broker.Addr()}}
	cluster, err := source.NewCluster(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	_, err = cluster.EnsureTopic(ctx, source.TopicSpec{Name: "late", Partitions: 1})
	require.NoError(t, err)
	send, err := source.NewProducer(ctx, cfg)
	require.NoError(t, err)
	defer send.Close()
	var want [][]source.Header
	var side []source.SideRecord
	for _, headers := range [][]source.Header{
		{{Key: "mr-reason", Value: []byte("late")}, {Key: "mr-offset", Value: []byte("7")}}, {}, {{Key: "x", Value: []byte("y")}},
	} {
		want = append(want, headers)
		side = append(side, source.SideRecord{Topic: "late", Key: []byte("k"), Value: []byte("v"), Headers: headers})
	}
	require.NoError(t, send.Send(ctx, side))
	tp := source.TopicPartition{Topic: "late"}
	for from := range int64(4) {
		var got [][]source.Header
		next, err := cluster.ReadCommittedHeaders(ctx, tp, from, func(r source.Record, headers []source.Header) error {
			require.Equal(t, from+int64(len(got)), r.Offset)
			got = append(got, headers)
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, int64(3), next)
		require.Len(t, got, int(3-from))
		for i := range got {
			require.ElementsMatch(t, want[from+int64(i)], got[i])
		}
	}
}
