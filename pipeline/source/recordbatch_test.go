package source

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What sarama is given of a batch is a field that it does not export.
func TestSaramaKeepsEncodedRecordsWhereWePutThem(t *testing.T) {
	field, found := reflect.TypeFor[sarama.RecordBatch]().FieldByName("compressedRecords")
	require.True(t, found)
	require.Equal(t, reflect.TypeFor[[]byte](), field.Type)
	raw := []byte("records")
	batch := (&sealedBatch{packed: &raw, records: 3}).forSarama(producerID{})
	require.Equal(t, "records", string(reflect.ValueOf(batch).Elem().FieldByIndex(field.Index).Bytes()))
	require.Len(t, batch.Records, 3)
}

func TestVarintSize(t *testing.T) {
	for _, n := range []int64{
		0, 1, -1, 63, -64, 64, -65, 8191, 8192, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64,
	} {
		require.Len(t, binary.AppendVarint(nil, n), varintSize(n), "%d", n)
	}
}

// Another library reads what was encoded.
func TestRecordsOfABatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	field := func() []byte {
		switch n := rng.IntN(4); n {
		case 0:
			return nil
		default:
			b := make([]byte, rng.IntN(100)*(n-1)*(n-1))
			for i := range b {
				b[i] = byte(rng.IntN(256))
			}
			return b
		}
	}
	for range 200 {
		var want []kmsg.Record
		var b openBatch
		total, grown := 0, 0
		for delta := range 1 + rng.IntN(300) {
			r := kmsg.Record{OffsetDelta: int32(delta), Key: field(), Value: field(), Headers: []kmsg.Header{}}
			var headers []Header
			for h := range rng.IntN(3) {
				r.Headers = append(r.Headers, kmsg.Header{Key: fmt.Sprint("h", h), Value: field()})
				headers = append(headers, Header{r.Headers[h].Key, r.Headers[h].Value})
			}
			more := b.add(r.Key, r.Value, headers)
			require.LessOrEqual(t, more, RecordSize(r.Key, r.Value, headers))
			total += RecordSize(r.Key, r.Value, headers)
			grown += more
			want = append(want, r)
		}
		require.Equal(t, grown, b.size())
		raw := *b.raw
		for i := range want {
			length, n := binary.Varint(raw)
			var got kmsg.Record
			require.NoError(t, got.ReadFrom(raw[:n+int(length)]))
			got.Length = 0
			if got.Headers == nil {
				got.Headers = []kmsg.Header{}
			}
			require.Equal(t, want[i], got)
			raw = raw[n+int(length):]
		}
		require.Empty(t, raw)
		records := len(want)
		sealed, err := b.seal(7)
		require.NoError(t, err)
		require.LessOrEqual(t, len(*sealed.packed), grown, "compression adds nothing")
		require.Equal(t, records, sealed.records)
		require.Zero(t, b.size())
		putBuffer(sealed.packed)
	}
}

// A window may have a million rows: what is allocated of a batch does not grow with its rows.
func TestBatchesAllocateNothingForARecord(t *testing.T) {
	key, value := []byte("key"), []byte("value")
	headers := []Header{{Key: "mr-revision", Value: []byte("1")}}
	var b openBatch
	allocated := testing.AllocsPerRun(20, func() {
		for range 5000 {
			b.add(key, value, headers)
		}
		sealed, err := b.seal(0)
		require.NoError(t, err)
		require.Len(t, sealed.forSarama(producerID{}).Records, 5000)
		putBuffer(sealed.packed)
	})
	require.Less(t, allocated, 50.0) // the pools are emptied by the garbage collector now and then
}

// BenchmarkBatch encodes and compresses batches. One operation is one record.
func BenchmarkBatch(b *testing.B) {
	var open openBatch
	var key, value []byte
	headers := []Header{{Key: "mr-window", Value: []byte("hour")}}
	b.ReportAllocs()
	for i := range b.N {
		key = strconv.AppendInt(append(key[:0], `{"origin":"ATL","n":`...), int64(i), 10)
		value = append(append(value[:0], `{"pipeline":"p","window":"hour","start":978307200000,"key":`...), key...)
		value = strconv.AppendInt(append(value, `,"values":{"n":`...), int64(i%1000), 10)
		open.add(key, value, headers)
		if open.size() > batchBytes || i == b.N-1 {
			sealed, err := open.seal(0)
			require.NoError(b, err)
			putBuffer(sealed.packed)
		}
	}
}

func TestABatchHasTheTimeOfItsFirstRecord(t *testing.T) {
	var b openBatch
	before := time.Now()
	b.add(nil, []byte("v"), nil)
	sealed, err := b.seal(0)
	require.NoError(t, err)
	batch := sealed.forSarama(producerID{4, 2})
	require.WithinRange(t, batch.FirstTimestamp, before, time.Now())
	require.Equal(t, batch.FirstTimestamp, batch.MaxTimestamp)
	require.Equal(t, []any{int64(4), int16(2), true}, []any{batch.ProducerID, batch.ProducerEpoch, batch.IsTransactional})
}
