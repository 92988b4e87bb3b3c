package lane

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const testSpec = `
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

func mustProgram(t testing.TB) *Program {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(testSpec))
	require.NoError(t, err)
	p, err := Compile(s)
	require.NoError(t, err)
	return p
}

func testStore(t testing.TB) (*store.Store, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{server.Addr()}
	client, err := store.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return store.New(client), server
}

var testLane = store.LaneID{Pipeline: "orders", Topic: "orders", Partition: 0}

// kafkaTime is the timestamp of every test record, in ms.
const kafkaTime = 1_700_000_000_000

func record(offset int64, value string) source.Record {
	return source.Record{Offset: offset, Timestamp: kafkaTime, Value: []byte(value)}
}

func eventAt(offset int64, key string, ms, v int64) source.Record {
	return record(offset, fmt.Sprintf(`{"k":%q,"t":%d,"v":%d}`, key, ms, v))
}

func batch(records ...source.Record) *source.Batch {
	b := &source.Batch{Records: records}
	if n := len(records); n > 0 {
		b.Next = records[n-1].Offset + 1
	}
	return b
}

// randomLog makes records that are out of order, now and then invalid, too far ahead or filtered.
func randomLog(rng *rand.Rand, n int) []source.Record {
	log := make([]source.Record, n)
	clock := int64(kafkaTime - 3_600_000)
	for i := range log {
		clock += rng.Int64N(2_000)
		at := clock - rng.Int64N(90_000)
		switch rng.IntN(40) {
		case 0:
			log[i] = record(int64(i), `{"k":`)
		case 1:
			log[i] = eventAt(int64(i), "a", kafkaTime+7_200_000, 1)
		case 2:
			log[i] = eventAt(int64(i), "a", at, 13)
		default:
			log[i] = eventAt(int64(i), fmt.Sprintf("key-%d", rng.IntN(30)), at, rng.Int64N(1000)-500)
		}
	}
	return log
}

// contents lists every entry's published values and every slice's stat.
func contents(s *State) map[string]string {
	out := map[string]string{
		"counters": fmt.Sprint(s.counters), "offset": fmt.Sprint(s.offset),
		"watermark": fmt.Sprint(s.Watermark()), "effective": fmt.Sprint(s.effective),
	}
	for _, sl := range s.slices {
		out[sl.stat.String()] = fmt.Sprint(sl.stat.FirstOffset, sl.stat.LastOffset, sl.stat.Folded)
		var sum int64
		for row := range uint32(sl.table.Len()) {
			sum += sl.table.Count(row)
			out[sl.stat.String()+"/"+string(sl.table.Key(row))] = string(sl.table.AppendValues(nil, row))
		}
		out[sl.stat.String()+"/sum"] = fmt.Sprint(sum == sl.stat.Folded)
	}
	return out
}

func conserve(t *testing.T, c store.Counters) {
	t.Helper()
	require.Equal(t, c.Read, c.Invalid+c.Ahead+c.Filtered+c.Duplicate+c.Late+c.Folded)
}

// sideLog collects side records.
type sideLog struct {
	mu      sync.Mutex
	records []source.SideRecord
	fail    error
}

func (s *sideLog) Send(_ context.Context, records []source.SideRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.records = append(s.records, records...)
	return nil
}

func (s *sideLog) count(reason string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.records {
		if headerOf(r, "mr-reason") == reason {
			n++
		}
	}
	return n
}

func headerOf(r source.SideRecord, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

var quiet = slog.New(slog.DiscardHandler)

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 10*time.Second, 2*time.Millisecond, what)
}
