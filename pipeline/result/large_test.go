package result_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// discard is a Kafka that keeps no results, so that what the closer holds is all there is.
type discard struct {
	result.Kafka
	sent  int
	pages int

	mu   sync.Mutex // pages are written beside what is sent
	peak uint64
}

// sampling looks at the memory whenever some more pages are written.
type sampling struct {
	result.State
	d *discard
}

func (s sampling) WriteDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string, written int,
	fields []store.ViewField) error {
	s.d.pages += len(fields)
	s.d.sample()
	return s.State.WriteDraft(ctx, id, v, attempt, written, fields)
}

func (d *discard) Open(ctx context.Context, slot int) (publish.Producer, error) {
	p, err := d.Kafka.Open(ctx, slot)
	return &discarding{p, d, d.sent}, err
}

func (d *discard) OpenLong(ctx context.Context, slot int) (publish.Producer, error) {
	return d.Open(ctx, slot)
}

type discarding struct {
	publish.Producer
	d       *discard
	flushed int // of d.sent
}

func (p *discarding) Append(ctx context.Context, r *publish.Record) error {
	if r.Topic != "orders.windows" {
		return p.Producer.Append(ctx, r)
	}
	if p.d.sent++; p.d.sent%10_000 == 0 {
		p.d.sample()
	}
	return nil
}

func (p *discarding) Flush(ctx context.Context) ([]source.Appended, error) {
	flushed, err := p.Producer.Flush(ctx)
	if n := p.d.sent - p.flushed; n > 0 {
		to := source.TopicPartition{Topic: "orders.windows"}
		flushed = append(flushed, source.Appended{TopicPartition: to, First: int64(p.flushed), Records: n})
	}
	p.flushed = p.d.sent
	return flushed, err
}

func (d *discard) sample() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	d.peak = max(d.peak, m.HeapAlloc)
}

// TestLargeWindowIsClosedInBoundedMemory closes a window of 250,000 keys: some 12 MB of entries make some 20 MB
// of rows. The pages of runs above a slice's last whole one hold keys of all ranges: they are held, and they are at most half of the
// slice.
func TestLargeWindowIsClosedInBoundedMemory(t *testing.T) {
	const keys = 250_000
	grown := memoryOfClosing(t, 60, keys, func(i int) string { return fmt.Sprintf("key-%d", i) })
	require.Less(t, grown, 24.0)
}

// TestWideWindowIsClosedInBoundedMemory closes a window of few keys that are long: some 80 MB of entries. How many events a
// group of buckets holds does not say how much memory it takes.
func TestWideWindowIsClosedInBoundedMemory(t *testing.T) {
	const keys, length = 1300, 60_000
	text := strings.Repeat("k", length)
	grown := memoryOfClosing(t, 30, keys, func(i int) string { return fmt.Sprintf("%s-%d", text, i) })
	require.Less(t, grown, 60.0)
}

// memoryOfClosing is by how much (MiB) memory grows while a window of one event for each key is closed, in at least pages.
func memoryOfClosing(t *testing.T, pages, keys int, key func(i int) string) float64 {
	t.Helper()
	text := strings.NewReplacer("lane: {buckets: 4, chunk_fields: 1}", "lane: {buckets: 32, chunk_fields: 512}",
		"max_future: 1000h", "max_future: 1000h\n  max_key_bytes: 65536").Replace(hourly)
	w := newWorld(t, text, 1)
	w.redis = storetest.Client(t, storetest.StartRedis(t), false)
	w.store, w.limits = store.New(w.redis), fold.DefaultLimits
	l := w.newLane(0)
	for i := range keys {
		l.event(key(i), float64(i%60), int64(i))
		if i%(keys/25) == 0 {
			l.commit()
		}
	}
	l.event("x", 61, 0)
	l.commit()
	l.log, l.state = nil, fold.NewState(l.program, l.id, "topic", 0, store.Cursor{})

	d := &discard{Kafka: w.kafka}
	c := w.closer(func(c *result.Config) {
		c.Kafka, c.State, c.ReadAhead, c.ViewPage = d, sampling{w.store, d}, result.DefaultReadAhead, 0
	})
	w.lanes = nil
	d.sample()
	before := d.peak
	r := w.round(c)
	require.Empty(t, r.Failed)
	require.Len(t, r.Closed, 1)
	require.Equal(t, int64(keys), r.Closed[0].Keys)
	require.Equal(t, keys, d.sent)
	require.Greater(t, d.pages, pages)
	grown := float64(d.peak-before) / (1 << 20)
	t.Logf("%d pages, memory grew by %.1f MiB", d.pages, grown)
	return grown
}

// BenchmarkCloseWindow reads, merges and publishes a window of 10,000 keys in 4 lanes; redis-server runs beside it.
func BenchmarkCloseWindow(b *testing.B) {
	text := strings.Replace(hourly, "lane: {buckets: 4, chunk_fields: 1}", "lane: {buckets: 16, chunk_fields: 512}", 1)
	w := newWorld(b, text, 4)
	w.redis = storetest.Client(b, storetest.StartRedis(b), false)
	w.store, w.limits = store.New(w.redis), fold.DefaultLimits
	w.lanes = nil
	for p := range 4 {
		w.lanes = append(w.lanes, w.newLane(p))
		for i := range 10_000 {
			w.lanes[p].event(fmt.Sprintf("key-%d", i), float64(i%60), int64(i))
		}
		w.lanes[p].event("x", 61, 0)
		w.lanes[p].commit()
	}
	d := &discard{Kafka: w.kafka}
	c := w.closer(func(c *result.Config) { c.Kafka, c.ReadAhead, c.ViewPage = d, result.DefaultReadAhead, 0 })
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		w.lanes[0].event("key-1", 30, 1)
		w.lanes[0].commit()
		r := w.round(c)
		require.Len(b, r.Closed, 1)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(n)/40, "ms/1000entries")
}
