package source

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/traces"
)

// ErrLegacyFormat means the log holds message sets of Kafka before 0.11, which carry no offsets for transactions to rely
// on. Permanent: rewrite the topic with a newer message format.
var ErrLegacyFormat = errors.New("records in the message format of Kafka before 0.11 are not supported")

// errPartial means that not even the first record batch arrived whole.
var errPartial = errors.New("partial record batch")

// wanted is what a batch holds of its records' headers.
type wanted struct{ headers, traces bool }

// decode turns what a fetch at position pos brought into a Batch, read_committed: records of aborted transactions and
// control records are left out, but the position moves past them.
//
// The bytes of the records point into the response (or, compressed, into the batch as unpacked for it). sarama allocates
// both per response and never touches them again, so they are immutable and live as long as somebody points at them.
func decode(block *sarama.FetchResponseBlock, pos int64, pool *recordPool, want wanted) (Batch, error) {
	b := Batch{
		Next:          pos,
		HighWatermark: block.HighWaterMarkOffset,
		LastStable:    block.LastStableOffset,
		LogStart:      block.LogStartOffset,
	}
	if len(block.RecordsSet) == 0 {
		if block.Partial {
			return b, errPartial
		}
		b.Next = max(pos, afterEmptyBatches(block))
		return b, nil
	}
	n := 0
	for _, set := range block.RecordsSet {
		switch {
		case set.RecordBatch == nil:
			return b, ErrLegacyFormat
		case set.RecordBatch.PartialTrailingRecord:
			return b, errPartial // sarama keeps a partial batch only when it comes first
		}
		n += len(set.RecordBatch.Records)
	}
	from := pool.get(n)
	b.Records, b.pool = from.records, pool
	stamps := newStamper(n, from.stamps)
	aborts := newAborts(block.AbortedTransactions)
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		aborts.upTo(batch.LastOffset())
		switch {
		case batch.Control:
			if err := aborts.control(batch); err != nil {
				return Batch{}, &undecodable{err}
			}
		case batch.IsTransactional && aborts.open[batch.ProducerID]:
		default:
			if want.traces {
				b.Traced = appendTraced(b.Traced, batch, pos, len(b.Records))
			}
			b.Records = appendRecords(b.Records, batch, pos, &stamps)
			if want.headers {
				b.Headers = appendHeaders(b.Headers, batch, pos)
			}
		}
		// A compacted batch keeps its last offset when its last records are gone.
		b.Next = max(b.Next, batch.LastOffset()+1)
	}
	b.Stamps = stamps.stamps
	return b, nil
}

func appendRecords(dst []Record, batch *sarama.RecordBatch, pos int64, stamps *stamper) []Record {
	first := millis(batch.FirstTimestamp)
	for _, r := range batch.Records {
		offset := batch.FirstOffset + r.OffsetDelta
		if offset < pos {
			continue // a fetch brings whole batches
		}
		timestamp := first + int64(r.TimestampDelta/time.Millisecond)
		if batch.LogAppendTime {
			timestamp = millis(batch.MaxTimestamp)
		}
		stamps.pass(timestamp, r.Headers)
		dst = append(dst, Record{Offset: offset, Timestamp: timestamp, Key: r.Key, Value: r.Value})
	}
	return dst
}

// appendHeaders adds the headers of the records that appendRecords adds.
func appendHeaders(dst [][]Header, batch *sarama.RecordBatch, pos int64) [][]Header {
	for _, r := range batch.Records {
		if batch.FirstOffset+r.OffsetDelta < pos {
			continue
		}
		headers := make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			headers[i] = Header{Key: string(h.Key), Value: h.Value}
		}
		dst = append(dst, headers)
	}
	return dst
}

// appendTraced adds the traced ones of the records that appendRecords adds, of which the first has index next.
func appendTraced(dst []Traced, batch *sarama.RecordBatch, pos int64, next int) []Traced {
	records := batch.Records
	for len(records) > 0 && batch.FirstOffset+records[0].OffsetDelta < pos {
		records = records[1:]
	}
	for i, r := range records {
		if len(r.Headers) == 0 {
			continue
		}
		for _, h := range r.Headers {
			if len(dst) < MostTraced && string(h.Key) == traces.Header && traces.IsSampled(h.Value) {
				dst = append(dst, Traced{Index: next + i, Parent: string(h.Value)})
				break
			}
		}
	}
	return dst
}

// millis is -1 for a batch without timestamps, as on the wire.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}

// afterEmptyBatches is the offset after a response that held nothing but batches emptied by compaction, or -1. sarama
// drops such batches and keeps where they end in a field it does not export; without it a lane would ask for the same
// empty batch for ever. A test holds that the field is there.
func afterEmptyBatches(block *sarama.FetchResponseBlock) int64 {
	next := reflect.ValueOf(block).Elem().FieldByName("recordsNextOffset")
	if !next.IsValid() || next.Kind() != reflect.Pointer || next.IsNil() {
		return -1
	}
	return next.Elem().Int()
}

// aborts follows which producers are inside an aborted transaction while a response is walked through.
type aborts struct {
	ahead []*sarama.AbortedTransaction // by first offset
	open  map[int64]bool               // by producer id
}

func newAborts(list []*sarama.AbortedTransaction) aborts {
	if len(list) == 0 {
		return aborts{}
	}
	slices.SortFunc(list, func(a, b *sarama.AbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return aborts{ahead: list, open: make(map[int64]bool, len(list))}
}

// upTo opens the aborted transactions that begin at or before offset.
func (a *aborts) upTo(offset int64) {
	for len(a.ahead) > 0 && a.ahead[0].FirstOffset <= offset {
		a.open[a.ahead[0].ProducerID] = true
		a.ahead = a.ahead[1:]
	}
}

// control reads a transaction's marker: an abort ends the aborted transaction of its producer.
func (a *aborts) control(batch *sarama.RecordBatch) error {
	const abort = 0
	if len(batch.Records) == 0 {
		return nil
	}
	key := batch.Records[0].Key // version int16, type int16
	if len(key) < 4 {
		return fmt.Errorf("control record at offset %d: key of %d bytes", batch.FirstOffset, len(key))
	}
	if binary.BigEndian.Uint16(key[2:]) == abort {
		delete(a.open, batch.ProducerID)
	}
	return nil
}
