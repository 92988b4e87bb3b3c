package cli

import (
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

// benchSource makes the records of a workload. Their event times rise from benchStart over the span of the workload, up to
// its disorder out of order. They are followed by closing records, one for every partition when the partitions take turns,
// which move every lane's watermark past the end of every window that holds a record.
type benchSource struct {
	rand    *rand.Rand
	zipf    *rand.Zipf // nil: keys are uniform
	load    workload
	made    int64
	closing int64 // closing records that are left to make
}

// benchStart is fixed, so that programs of different days make the same records.
var benchStart = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// benchUser is the number in the name of the first key.
const benchUser = 1_000_000_000

// benchEvent is what the pipeline reads of a record.
type benchEvent struct{ at, key, amount int64 }

// newBenchSource makes the workload's records and closing ones behind them.
func newBenchSource(load workload, closing int32) *benchSource {
	b := &benchSource{rand: rand.New(rand.NewPCG(1, 2)), load: load, closing: int64(closing)}
	if load.distribution == keysZipf {
		b.zipf = rand.NewZipf(b.rand, 1.1, 1, uint64(load.keys-1))
	}
	return b
}

// draw returns what is in the next record, and its item; false when there are no more but closing ones.
func (b *benchSource) draw() (e benchEvent, item int64, ok bool) {
	if b.made == b.load.records {
		return e, 0, false
	}
	disorder := b.load.disorder()
	e.at = benchStart + int64(float64(b.made)/float64(b.load.records)*float64(b.load.covered()-disorder)) + b.rand.Int64N(disorder)
	b.made++
	if b.zipf != nil {
		e.key = int64(b.zipf.Uint64())
	} else {
		e.key = b.rand.Int64N(b.load.keys)
	}
	e.amount = b.rand.Int64N(100_000)
	return e, b.rand.Int64N(10_000), true
}

// next returns the next record in memory of its own, or io.EOF.
func (b *benchSource) next() (key, value []byte, err error) {
	e, item, ok := b.draw()
	switch {
	case ok:
	case b.closing > 0:
		b.closing--
		// No window holds both this and another record, and the watermark comes to the latest end of a window of those.
		e = benchEvent{at: benchStart + b.load.covered() + b.load.size() + b.load.outOfOrderness()}
	default:
		return nil, nil, io.EOF
	}
	value = make([]byte, 0, 96)
	value = append(value, `{"at":`...)
	value = strconv.AppendInt(value, e.at, 10)
	value = append(value, `,"user":"user-`...)
	value = strconv.AppendInt(value, benchUser+e.key, 10)
	value = append(value, `","amount":`...)
	value = strconv.AppendInt(value, e.amount, 10)
	value = append(value, `,"item":"sku-`...)
	value = strconv.AppendInt(value, 10_000+item, 10)
	return nil, append(value, `"}`...), nil
}
