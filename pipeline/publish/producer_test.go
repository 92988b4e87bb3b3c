package publish

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
)

// sink is a producer that takes everything and keeps nothing.
type sink struct {
	sarama.SyncProducer
	last *sarama.ProducerMessage
}

func (s *sink) SendMessages(all []*sarama.ProducerMessage) error {
	for i, m := range all {
		m.Offset = int64(i)
	}
	s.last = all[len(all)-1]
	return nil
}

// A window may have a million rows: what is allocated of a batch does not grow with its rows.
func TestBatchesAllocateOnce(t *testing.T) {
	to := &sink{}
	p := &producer{sync: to, cfg: new(source.Config)}
	records := make([]Record, 1000)
	for i := range records {
		records[i] = Record{Topic: "t", Partition: 2, Key: []byte("key"), Value: []byte("value"),
			Headers: []source.Header{{Key: "mr-revision", Value: []byte("1")}}}
	}
	records[len(records)-1].Value = nil
	require.LessOrEqual(t, testing.AllocsPerRun(10, func() { require.NoError(t, p.sendBatch(t.Context(), records)) }), 10.0)
	require.Equal(t, int64(999), records[999].Offset)
	key, err := to.last.Key.Encode()
	require.NoError(t, err)
	require.Equal(t, "key", string(key))
	require.Nil(t, to.last.Value, "a tombstone")
	require.Equal(t, []sarama.RecordHeader{{Key: []byte("mr-revision"), Value: []byte("1")}}, to.last.Headers)
}
