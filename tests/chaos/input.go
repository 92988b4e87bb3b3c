package chaos

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// variant is a pipeline and the kind of its input.
type variant struct {
	name    string
	yaml    string
	flights bool // real input, else synthetic
	// idle: the pipeline has an idle timeout. A lane that was idle has agreed that older events are late, which the
	// oracle knows nothing of. So the input of such a pipeline is never older than a window takes, except for records that
	// are late by a day; and the broker is not restarted, after which a producer's partitions go on in any order.
	idle bool
}

const flightsHead = `
name: chaos
source: {topics: [chaos], format: json}
event:
  key: [origin]
  time: {field: scheduled, unit: s}
aggregates:
  n:         {func: count}
  delay_sum: {func: sum, field: delay, type: int}
  delay_avg: {func: avg, field: delay}
  delay_min: {func: min, field: delay}
  delay_max: {func: max, field: delay}
  first_to:  {func: first, field: destination}
  last_to:   {func: last, field: destination}
`

const syntheticHead = `
name: chaos
source: {topics: [chaos], format: json}
event:
  key: [k, "on"]
  time: {field: t, unit: ms}
aggregates:
  n:     {func: count}
  sum:   {func: sum, field: v, type: int}
  share: {func: sum, field: f}
  mean:  {func: avg, field: v, type: int}
  low:   {func: min, field: v, type: int}
  high:  {func: max, field: f}
  first: {func: first, field: id}
  last:  {func: last, field: id}
where: v != 7
`

const sinks = `
results:     {kafka: {topic: chaos.results}}
late:        {kafka: {topic: chaos.late}}
dead_letter: {kafka: {topic: chaos.dead}}
lane: {buckets: 16}
`

var variants = []variant{
	{name: "flights by hour", flights: true, yaml: flightsHead + `
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 4h, idle_timeout: 0s}
allowed_lateness: 6h` + sinks},
	{name: "flights by hour and day", flights: true, yaml: flightsHead + `
windows: [{name: hourly, size: 1h}, {name: daily, size: 24h}]
watermark: {out_of_orderness: 45m, idle_timeout: 0s}
allowed_lateness: 0s` + sinks},
	{name: "flights by sliding hour", flights: true, yaml: flightsHead + `
windows: [{name: sliding, size: 1h, slide: 10m}, {name: hourly, size: 1h}]
watermark: {out_of_orderness: 45m, idle_timeout: 0s}
allowed_lateness: 2h` + sinks},
	{name: "synthetic by minute", yaml: syntheticHead + `
windows: [{name: minute, size: 1m}]
watermark: {out_of_orderness: 20s, idle_timeout: 0s}
allowed_lateness: 0s` + sinks},
	{name: "synthetic, idle lanes", idle: true, yaml: syntheticHead + `
windows: [{name: minute, size: 1m}, {name: five, size: 5m, slide: 1m}]
watermark: {out_of_orderness: 30s, idle_timeout: 2s}
allowed_lateness: 2m` + sinks},
}

func (p *Plan) variant() variant {
	for _, v := range variants {
		if v.name == p.Variant {
			return v
		}
	}
	return variant{}
}

// noon is when synthetic events begin, in ms.
const noon = int64(1_699_963_200_000)

// disorder is how much older than the newest a synthetic event is at most: within what an idle pipeline's window takes.
const disorder = 100 * time.Second

// record is what the feed sends.
type record struct {
	partition int32
	value     []byte
}

// Input makes a plan's records. lines are the flights.
func (p *Plan) input(lines [][]byte) []record {
	v := p.variant()
	if v.flights {
		lines = lines[min(p.Start, len(lines)-p.Events):][:p.Events]
		records := make([]record, len(lines))
		for i, line := range lines {
			records[i] = record{int32(i) % p.Partitions, line}
		}
		return records
	}
	rng := rand.New(rand.NewPCG(p.Seed, 2))
	span := 90 * time.Minute
	keys := 1 + rng.IntN(60)
	records := make([]record, p.Events)
	for i := range records {
		n := int32(i) % p.Partitions
		if p.Quiet && n == p.Partitions-1 && i > p.Events/3 {
			n = rng.Int32N(p.Partitions - 1)
		}
		if p.Refused && n == p.Partitions-1 && i > p.Events/3 {
			records[i] = record{n, heartbeat(i)}
			continue
		}
		value := synthetic(rng, i, noon+int64(span)/1e6*int64(i)/int64(p.Events), keys, i > p.Events/10)
		if p.Wide && i%widePause == 0 {
			value = widen(value, widest/2+i/widePause*widest/50)
		}
		records[i] = record{n, value}
	}
	return records
}

// heartbeat is a record that is refused: no JSON, no event, or one that is far ahead.
func heartbeat(i int) []byte {
	switch i % 3 {
	case 0:
		return []byte("ping")
	case 1:
		return fmt.Appendf(nil, `{"heartbeat":%d}`, i)
	}
	return fmt.Appendf(nil, `{"k":"a","on":true,"t":%d,"v":1,"f":1,"id":%d}`, farAhead, i)
}

// farAhead is in the year 2200, in ms.
const farAhead = 7_258_118_400_000

const (
	// widest is the limit of a text in pipelines with wide texts, in bytes.
	widest = 300 << 10
	// widePause is how many events come for one with a wide text.
	widePause = 1000
)

// widen makes the id of an event a text of the given size as it is published. Those above the limit belong on the
// dead-letter topic.
func widen(value []byte, size int) []byte {
	head, id, found := bytes.Cut(value, []byte(`"id":`))
	if !found {
		return value
	}
	id = bytes.TrimSuffix(id, []byte("}"))
	wide := bytes.Repeat([]byte("w"), size-len(id)-2)
	return slices.Concat(head, []byte(`"id":"`), id, wide, []byte(`"}`))
}

// synthetic makes one record at about time ms: seldom one that is no event, or far ahead, or, once the pipeline is warm, late.
func synthetic(rng *rand.Rand, id int, ms int64, keys int, warm bool) []byte {
	t := ms
	switch dice := rng.IntN(1000); {
	case dice < 5:
		return pick(rng, []byte(`{"k":`), []byte(`[1]`), []byte(`{"k":"a","on":true,"v":1,"f":1,"id":1}`),
			fmt.Appendf(nil, `{"k":"","on":true,"t":%d,"v":1,"f":1,"id":%d}`, ms, id), []byte(`{"k":"a","on":true,"t":1,"v":"x","f":1,"id":1}`))
	case dice < 8:
		t = farAhead
	case dice < 18 && warm:
		t -= int64(24 * time.Hour / time.Millisecond)
	case dice < 400:
		t -= rng.Int64N(int64(disorder / time.Millisecond))
	}
	key, v := rng.IntN(keys), int64(rng.IntN(1000))-500
	if rng.IntN(200) == 0 {
		key, v = 0, 1<<62-rng.Int64N(1000) // the sums of some windows are more than an int64 holds
	}
	return fmt.Appendf(nil, `{"k":"key-%d","on":%t,"t":%d,"v":%d,"f":%d.%d,"id":%d}`, key, id%3 == 0, t, v, rng.IntN(1000), pick(rng, 0, 5, 25, 75), id)
}
