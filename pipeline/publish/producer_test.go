package publish

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
)

// batching is a producer whose partitions are given by the value of a record and whose batches have
// two records, with a gap of ten offsets behind each.
type batching struct {
	Producer
	appended map[source.TopicPartition]int
	missing  bool // an acknowledgement
}

func (b *batching) Append(_ context.Context, r *Record) error {
	r.Partition = int32(r.Value[0] - '0')
	b.appended[source.TopicPartition{Topic: r.Topic, Partition: r.Partition}]++
	return nil
}

func (b *batching) Flush(context.Context) (flushed []source.Appended, err error) {
	for tp, n := range b.appended {
		for first := int64(100); n > 0; first, n = first+12, n-2 {
			flushed = append(flushed, source.Appended{TopicPartition: tp, First: first, Records: min(n, 2)})
		}
	}
	if b.missing {
		flushed = flushed[1:]
	}
	return flushed, nil
}

func TestSendSaysWhereEachRecordStands(t *testing.T) {
	records := func() []Record {
		var all []Record
		for _, c := range []string{"a0", "a1", "b0", "a0", "a0", "b0", "a1", "b0", "a0", "a0"} {
			all = append(all, Record{Topic: c[:1], Value: []byte(c[1:])})
		}
		return all
	}
	sent := records()
	require.NoError(t, Send(t.Context(), &batching{appended: map[source.TopicPartition]int{}}, sent))
	var at []string
	for _, r := range sent {
		at = append(at, fmt.Sprintf("%s%d@%d", r.Topic, r.Partition, r.Offset))
	}
	require.Equal(t, []string{
		"a0@100", "a1@100", "b0@100", "a0@101", "a0@112", "b0@101", "a1@101", "b0@112", "a0@113", "a0@124",
	}, at)
	err := Send(t.Context(), &batching{appended: map[source.TopicPartition]int{}, missing: true}, records())
	require.ErrorIs(t, err, source.ErrNoOffset)
}

func TestWhatADeliveryErrorIs(t *testing.T) {
	in := func(err error) error { return fmt.Errorf("append to t/0: %w", err) }
	large := &source.TooLargeError{Topic: "t"}
	other := errors.New("connection reset")
	for _, c := range []struct {
		name     string
		err      error
		want     error
		same     bool
		tooLarge bool
	}{
		{"none", nil, nil, true, false},
		{"fenced", in(sarama.ErrProducerFenced), ErrFenced, false, false},
		{"epoch", in(sarama.ErrInvalidProducerEpoch), ErrFenced, false, false},
		{"too large for the client", in(large), large, true, true},
		{"too large for the broker", in(sarama.ErrMessageSizeTooLarge), sarama.ErrMessageSizeTooLarge, false, true},
		{"refused", in(sarama.ErrTopicAuthorizationFailed), sarama.ErrTopicAuthorizationFailed, true, false},
		{"connection", in(other), other, true, false},
		{"unreachable", in(source.ErrUnreachable), source.ErrUnreachable, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := deliveryError(c.err)
			require.ErrorIs(t, got, c.want)
			require.Equal(t, c.tooLarge, errors.Is(got, source.ErrRecordTooLarge))
			require.Equal(t, c.same, fmt.Sprint(got) == fmt.Sprint(c.err))
		})
	}
}
