package verify

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// lateMarkers is a cluster of a ledger and a results topic, in which the marker of a transaction
// comes to the results later than to the ledger.
type lateMarkers struct {
	Kafka
	began time.Time
	late  time.Duration
}

func (k *lateMarkers) Partitions(_ context.Context, topic string) ([]int32, error) {
	if topic == ledger.StatesTopic("flights") {
		return nil, source.ErrUnknownTopic
	}
	return []int32{0}, nil
}

func (k *lateMarkers) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends := make(map[source.TopicPartition]source.Ends)
	for _, tp := range tps {
		e := source.Ends{End: 8, HighWatermark: 8}
		if tp.Topic == "results" {
			written := 4 + int64(time.Since(k.began)/time.Millisecond) // others go on writing
			e = source.Ends{End: 2, HighWatermark: written}
			if time.Since(k.began) >= k.late {
				e.End = written - 1
			}
		}
		ends[tp] = e
	}
	return ends, nil
}

func TestAwaitMarkers(t *testing.T) {
	for _, c := range []struct {
		name         string
		late, waited time.Duration
	}{
		{"only what others write meanwhile is hidden", 0, markerPause},
		{"a marker is late", 120 * time.Millisecond, 150 * time.Millisecond},
		{"a transaction stays open", time.Hour, markerPatience},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &spec.Spec{Name: "flights"}
				s.Results.Kafka = &spec.KafkaSink{Topic: "results"}
				began := time.Now()
				require.NoError(t, awaitMarkers(t.Context(), &Config{Spec: s, Kafka: &lateMarkers{began: began, late: c.late}}))
				require.Equal(t, c.waited, time.Since(began))
			})
		})
	}
}
