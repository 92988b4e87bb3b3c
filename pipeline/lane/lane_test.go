package lane

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const testSpec = foldtest.Spec

func mustProgram(t testing.TB) *fold.Program {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(testSpec))
	require.NoError(t, err)
	p, err := fold.Compile(s)
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

const (
	kafkaTime = foldtest.KafkaTime
	early     = foldtest.Early
)

var (
	testLane  = foldtest.Lane
	record    = foldtest.Record
	eventAt   = foldtest.EventAt
	batch     = foldtest.Batch
	randomLog = foldtest.RandomLog
	jumps     = foldtest.Jumps
	benchLog  = foldtest.BenchLog
	headerOf  = foldtest.HeaderOf
)

// contents lists every entry's published values and every slice's stat.
func contents(s *fold.State) map[string]string {
	out := map[string]string{
		"counters": fmt.Sprint(s.Counters()), "offset": fmt.Sprint(s.Offset()),
		"watermark": fmt.Sprint(s.Watermark()), "effective": fmt.Sprint(max(s.Watermark(), s.Sealed())),
	}
	s.EachSlice(func(stat store.SliceStat, table *agg.Table) {
		out[stat.String()] = fmt.Sprint(stat.FirstOffset, stat.LastOffset, stat.Folded)
		var sum int64
		for row := range uint32(table.Len()) {
			sum += table.Count(row)
			out[stat.String()+"/"+string(table.Key(row))] = string(table.AppendValues(nil, row))
		}
		out[stat.String()+"/sum"] = fmt.Sprint(sum == stat.Folded)
	})
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

var quiet = slog.New(slog.DiscardHandler)

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 10*time.Second, 2*time.Millisecond, what)
}
