package source

import (
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// recordBatch encodes a batch of n records whose values are "b"; spoil may damage it after the checksum was taken.
func recordBatch(first int64, n int32, spoil func([]byte)) []byte {
	var records []byte
	for i := range n {
		r := kmsg.Record{OffsetDelta: i, Value: []byte("b")}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		records = r.AppendTo(records)
	}
	return seal(kmsg.RecordBatch{FirstOffset: first, LastOffsetDelta: n - 1, NumRecords: n, Records: records}, spoil)
}

// emptyBatch is what compaction leaves of a batch.
func emptyBatch(first int64, lastDelta int32) []byte {
	return seal(kmsg.RecordBatch{FirstOffset: first, LastOffsetDelta: lastDelta}, nil)
}

func seal(b kmsg.RecordBatch, spoil func([]byte)) []byte {
	b.Magic, b.ProducerID, b.ProducerEpoch, b.FirstSequence = 2, -1, -1, -1
	b.FirstTimestamp, b.MaxTimestamp = 1000, 1000
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	if spoil != nil {
		spoil(raw)
	}
	return raw
}

func legacyMessage() []byte {
	m := kmsg.MessageV1{Magic: 1, Timestamp: 1000, Value: []byte("old")}
	raw := m.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[12:], crc32.ChecksumIEEE(raw[16:]))
	return raw
}

// afterEmptyBatches reads a field by name; this is the test that would notice another sarama.
func TestSaramaStillKnowsWhereEmptyBatchesEnd(t *testing.T) {
	field, ok := reflect.TypeFor[sarama.FetchResponseBlock]().FieldByName("recordsNextOffset")
	require.True(t, ok)
	require.Equal(t, reflect.TypeFor[*int64](), field.Type)
	require.EqualValues(t, -1, afterEmptyBatches(&sarama.FetchResponseBlock{}))
}

// block is a fetch response of batches; a batch is given as producer id (negative: not transactional) and kind.
func block(batches ...*sarama.RecordBatch) *sarama.FetchResponseBlock {
	b := &sarama.FetchResponseBlock{HighWaterMarkOffset: 100, LastStableOffset: 99, LogStartOffset: 1}
	for _, batch := range batches {
		b.RecordsSet = append(b.RecordsSet, &sarama.Records{RecordBatch: batch})
	}
	return b
}

func batch(first int64, producer int64, offsets ...int64) *sarama.RecordBatch {
	b := &sarama.RecordBatch{FirstOffset: first, ProducerID: producer, IsTransactional: producer >= 0, FirstTimestamp: time.UnixMilli(1000)}
	for _, o := range offsets {
		b.Records = append(b.Records, &sarama.Record{OffsetDelta: o - first, TimestampDelta: time.Duration(o) * time.Millisecond})
		b.LastOffsetDelta = int32(o - first)
	}
	return b
}

func marker(at, producer int64, kind byte) *sarama.RecordBatch {
	b := batch(at, producer, at)
	b.Control = true
	b.Records[0].Key = []byte{0, 0, 0, kind}
	return b
}

func TestDecode(t *testing.T) {
	const abort, commit, unknown = 0, 1, 9
	lastCompacted := batch(10, -1, 10, 11)
	lastCompacted.LastOffsetDelta = 9
	appendTime := batch(0, -1, 0, 1)
	appendTime.LogAppendTime, appendTime.MaxTimestamp = true, time.UnixMilli(7777)
	noTime := batch(0, -1, 0)
	noTime.FirstTimestamp = time.Time{}
	partial := &sarama.RecordBatch{PartialTrailingRecord: true}

	for _, test := range []struct {
		name    string
		block   *sarama.FetchResponseBlock
		aborted [][2]int64 // producer, first offset
		pos     int64
		offsets []int64
		times   []int64
		next    int64
		err     error
	}{
		{name: "nothing new", block: block(), pos: 5, next: 5},
		{name: "from the middle", block: block(batch(0, -1, 0, 1, 2)), pos: 1, offsets: []int64{1, 2}, next: 3, times: []int64{1001, 1002}},
		{name: "holes", block: block(batch(0, -1, 0, 4), batch(9, -1, 9)), offsets: []int64{0, 4, 9}, next: 10},
		{name: "last records compacted", block: block(lastCompacted), pos: 10, offsets: []int64{10, 11}, next: 20},
		{name: "append time", block: block(appendTime), offsets: []int64{0, 1}, times: []int64{7777, 7777}, next: 2},
		{name: "no time", block: block(noTime), offsets: []int64{0}, times: []int64{-1}, next: 1},
		{name: "marker only", block: block(marker(5, 1, commit)), pos: 5, next: 6},
		{name: "unknown marker", block: block(marker(5, 1, unknown)), pos: 5, next: 6},
		{
			name: "aborted and not", block: block(batch(0, 1, 0), batch(1, 2, 1), batch(2, -1, 2), marker(3, 1, abort), batch(4, 1, 4), marker(5, 1, commit)),
			aborted: [][2]int64{{1, 0}}, offsets: []int64{1, 2, 4}, next: 6,
		},
		{
			name: "twice aborted, listed out of order", block: block(batch(0, 1, 0), marker(1, 1, abort), batch(2, 1, 2), marker(3, 1, commit), batch(4, 1, 4), marker(5, 1, abort)),
			aborted: [][2]int64{{1, 4}, {1, 0}}, offsets: []int64{2}, next: 6,
		},
		{
			name: "one producer's plain records are not aborted", block: block(batch(0, 1, 0), func() *sarama.RecordBatch { b := batch(1, 1, 1); b.IsTransactional = false; return b }()),
			aborted: [][2]int64{{1, 0}}, offsets: []int64{1}, next: 2,
		},
		{name: "begins within an aborted transaction", block: block(batch(7, 1, 7), marker(8, 1, abort), batch(9, 1, 9)), aborted: [][2]int64{{1, 2}}, pos: 7, offsets: []int64{9}, next: 10},
		{name: "partial", block: block(partial), err: errPartial},
		{name: "partial, nothing decoded", block: &sarama.FetchResponseBlock{Partial: true}, err: errPartial},
		{name: "legacy", block: &sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{{MsgSet: &sarama.MessageSet{}}}}, err: ErrLegacyFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, a := range test.aborted {
				test.block.AbortedTransactions = append(test.block.AbortedTransactions, &sarama.AbortedTransaction{ProducerID: a[0], FirstOffset: a[1]})
			}
			pool := newRecordPool(1)
			b, err := decode(test.block, test.pos, &pool, wanted{})
			require.ErrorIs(t, err, test.err)
			if test.err != nil {
				return
			}
			var offsets, times []int64
			for _, r := range b.Records {
				offsets, times = append(offsets, r.Offset), append(times, r.Timestamp)
			}
			require.Equal(t, test.offsets, offsets)
			if test.times != nil {
				require.Equal(t, test.times, times)
			}
			require.Equal(t, test.next, b.Next)
		})
	}
}

func TestDecodeRefusesBrokenMarkers(t *testing.T) {
	b := marker(5, 1, 0)
	b.Records[0].Key = []byte{0}
	pool := newRecordPool(1)
	_, err := decode(block(b), 5, &pool, wanted{})
	var bad *undecodable
	require.ErrorAs(t, err, &bad)
}

func TestReleasedSlicesAreUsedAgain(t *testing.T) {
	pool := newRecordPool(1)
	one, err := decode(block(batch(0, -1, 0, 1, 2)), 0, &pool, wanted{})
	require.NoError(t, err)
	first := &one.Records[0]
	one.Release()
	one.Release()
	require.Nil(t, one.Records)
	two, err := decode(block(batch(3, -1, 3, 4)), 3, &pool, wanted{})
	require.NoError(t, err)
	require.Same(t, first, &two.Records[0])
	require.EqualValues(t, 3, two.Records[0].Offset)
}

func TestTracedRecordsOfABatchAreNamed(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
	first := batch(0, -1, 0, 1, 2, 3)
	carries := func(r *sarama.Record, key, value string) {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(key), Value: []byte(value)})
	}
	carries(first.Records[0], "traceparent", parent+"1") // lies before the position
	carries(first.Records[1], "traceparent", parent+"0") // its sender does not record it
	carries(first.Records[2], "other", parent+"1")
	carries(first.Records[3], "traceparent", parent+"1")
	second := batch(4, -1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
	for _, r := range second.Records {
		carries(r, "other", "")
		carries(r, "traceparent", parent+"1")
	}
	pool := newRecordPool(1)
	b, err := decode(block(first, second), 1, &pool, wanted{traces: true})
	require.NoError(t, err)
	require.Len(t, b.Traced, MostTraced)
	for i, traced := range b.Traced {
		require.Equal(t, parent+"1", traced.Parent)
		require.EqualValues(t, 3+i, b.Records[traced.Index].Offset)
	}

	b, err = decode(block(first, second), 1, &pool, wanted{})
	require.NoError(t, err)
	require.Nil(t, b.Traced)
}

// BenchmarkTracedRecords is what a record costs that is asked for a trace context: without headers, and with one of another name.
func BenchmarkTracedRecords(b *testing.B) {
	offsets := make([]int64, 4096)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	bare, other := batch(0, -1, offsets...), batch(0, -1, offsets...)
	for _, r := range other.Records {
		r.Headers = []*sarama.RecordHeader{{Key: []byte("content-type"), Value: []byte("application/json")}}
	}
	for _, c := range []struct {
		name string
		in   *sarama.RecordBatch
	}{{"headers=0", bare}, {"headers=1", other}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if appendTraced(nil, c.in, 0, 0) != nil {
					b.Fatal("none is traced")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(offsets)), "ns/record")
		})
	}
}
