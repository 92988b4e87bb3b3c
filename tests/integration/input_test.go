package integration

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/rig"
)

// Every kind of record that is no event lands in the dead-letter topic with the reason and where it came from, and
// nothing else is disturbed by it.
func TestBadInput(t *testing.T) {
	t.Parallel()
	at := func(second int) int64 { return noon + int64(second)*1000 }
	now := time.Now()
	kinds := []struct {
		reason string
		value  []byte
	}{
		{"tombstone", nil},
		{"not_json", []byte{}},
		{"not_json", []byte(`{"k":"a","t":`)},
		{"not_json", fmt.Appendf(nil, `{"k":"a","t":%d,"v":1} {}`, at(1))},
		{"not_json", []byte("\x00\x01\x02")},
		{"bad_utf8", fmt.Appendf(nil, "{\"k\":\"\xff\",\"t\":%d,\"v\":1}", at(1))},
		{"not_object", []byte(`[1,2,3]`)},
		{"not_object", []byte(`"text"`)},
		{"missing_field", fmt.Appendf(nil, `{"t":%d,"v":1}`, at(1))},
		{"missing_field", fmt.Appendf(nil, `{"k":null,"t":%d,"v":1}`, at(1))},
		{"missing_field", []byte(`{"k":"a","v":1}`)},
		{"wrong_type", fmt.Appendf(nil, `{"k":["a"],"t":%d,"v":1}`, at(1))},
		{"wrong_type", fmt.Appendf(nil, `{"k":"a","t":%d,"v":"many"}`, at(1))},
		{"wrong_type", fmt.Appendf(nil, `{"k":"a","t":%d,"v":1.5}`, at(1))},
		{"number_range", fmt.Appendf(nil, `{"k":"a","t":%d,"v":9223372036854775808}`, at(1))},
		{"empty_key", fmt.Appendf(nil, `{"k":"","t":%d,"v":1}`, at(1))},
		{"key_too_large", fmt.Appendf(nil, `{"k":"%s","t":%d,"v":1}`, strings.Repeat("x", 9000), at(1))},
		{"too_far_ahead", fmt.Appendf(nil, `{"k":"a","t":%d,"v":1}`, now.Add(2*time.Hour).UnixMilli())},
		{"too_far_ahead", []byte(`{"k":"a","t":9223372036854,"v":1}`)},
	}
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(minutes, 2)
	w.Ready(w.Worker())
	p.Start()
	good := events(0, len(kinds)+30)
	want := make(map[rig.Place]string)
	var records []*kgo.Record
	send := func(partition int32, key, value []byte) {
		records = append(records, &kgo.Record{Topic: p.Topic(), Partition: partition, Key: key, Value: value, Timestamp: now})
		p.Remember(partition, now.UnixMilli(), value)
	}
	for i, k := range kinds {
		for partition := range int32(2) {
			send(partition, nil, good[i])
			want[rig.Place{Partition: partition, Offset: int64(len(p.Fed[partition].Records))}] = k.reason
			send(partition, fmt.Appendf(nil, "key-%d", i), k.value)
		}
	}
	require.NoError(t, p.Raw.ProduceSync(context.Background(), records...).FirstErr())
	p.Reach(p.Total())
	p.Drain()
	require.Equal(t, want, p.Side(p.Spec.DeadLetter.Kafka.Topic))
	for _, r := range p.Read(p.Spec.DeadLetter.Kafka.Topic) {
		require.True(t, bytes.HasPrefix(r.Key, []byte("key-")), "the record's own key goes with it")
		require.NotEmpty(t, rig.Headers(r)["mr-detail"])
	}
	p.RequireExact()
}
