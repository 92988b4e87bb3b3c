// Package foldtest makes records for tests of lanes, and the spec that they fit.
package foldtest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Spec is a small pipeline.
const Spec = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
  max_future: 1h
where: "v != 13"
aggregates:
  n:    {func: count}
  sum:  {func: sum, field: v, type: int}
  last: {func: last, field: v, type: int}
windows:
  - {name: minute, size: 1m}
  - {name: five, size: 5m}
watermark: {out_of_orderness: 30s, idle_timeout: 50ms}
allowed_lateness: 20s
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
dead_letter: {kafka: {topic: orders.dead}}
lane: {chunk_fields: 64, buckets: 4, commit_interval: 20ms}
`

// Lane is a lane of that pipeline.
var Lane = store.LaneID{Pipeline: "orders", Topic: "orders", Partition: 0}

// Guarded is Spec with bounds on the past and on jumps.
func Guarded(streak int) string {
	const bounds = "max_future: 1h\n  max_past: 2h\n  max_jump: 10m\n  max_jump_streak: %d"
	return strings.Replace(Spec, "max_future: 1h", fmt.Sprintf(bounds, streak), 1)
}

// Early is an event time that is not late, in ms.
const Early = int64(KafkaTime - 3_600_000)

// Jumps makes n events from offset on that are 20 minutes ahead of what came before.
func Jumps(from int64, n int) []source.Record {
	var out []source.Record
	for i := range int64(n) {
		out = append(out, EventAt(from+i, "j", Early+1_200_000+i, 1))
	}
	return out
}

// KafkaTime is the timestamp of every test record, in ms.
const KafkaTime = 1_700_000_000_000

// Record is a record with that value.
func Record(offset int64, value string) source.Record {
	return source.Record{Offset: offset, Timestamp: KafkaTime, Value: []byte(value)}
}

// EventAt is a record with an event of that key, time in ms and value.
func EventAt(offset int64, key string, ms, v int64) source.Record {
	return Record(offset, fmt.Sprintf(`{"k":%q,"t":%d,"v":%d}`, key, ms, v))
}

// Batch is what a reader would deliver with these records.
func Batch(records ...source.Record) *source.Batch {
	b := &source.Batch{Records: records}
	if n := len(records); n > 0 {
		b.Next = records[n-1].Offset + 1
	}
	return b
}

// RandomLog makes records that are out of order, now and then invalid, too far ahead or filtered.
func RandomLog(rng *rand.Rand, n int) []source.Record {
	log := make([]source.Record, n)
	clock := int64(KafkaTime - 3_600_000)
	for i := range log {
		clock += rng.Int64N(2_000)
		at := clock - rng.Int64N(90_000)
		switch rng.IntN(40) {
		case 0:
			log[i] = Record(int64(i), `{"k":`)
		case 1:
			log[i] = EventAt(int64(i), "a", KafkaTime+7_200_000, 1)
		case 2:
			log[i] = EventAt(int64(i), "a", at, 13)
		default:
			log[i] = EventAt(int64(i), fmt.Sprintf("key-%d", rng.IntN(30)), at, rng.Int64N(1000)-500)
		}
	}
	return log
}

// HeaderOf is a header of a side record, "" without one.
func HeaderOf(r source.SideRecord, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// BenchLog is a log of events over several slices with the given number of keys, in no order that caches like.
func BenchLog(n, keys int) *source.Batch {
	rng := rand.New(rand.NewPCG(1, 1))
	log := make([]source.Record, n)
	for i := range log {
		log[i] = EventAt(int64(i), fmt.Sprintf("user-%010d", rng.IntN(keys)), KafkaTime-rng.Int64N(20_000), 5)
	}
	return Batch(log...)
}
