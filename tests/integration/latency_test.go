package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/internal/telemetry"
	"millrace/pipeline/measure"
	"millrace/tests/long"
	"millrace/tests/rig"
)

// ticks counts events by key in windows of a tenth of a second.
const ticks = `
name: ticks
source: {topics: [ticks], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
aggregates:
  n: {func: count}
windows:
  - {name: tenth, size: 100ms}
watermark: {out_of_orderness: 0s}
allowed_lateness: 0s
results:     {kafka: {topic: ticks.results}}
late:        {kafka: {topic: ticks.late}}
dead_letter: {kafka: {topic: ticks.dead}}
lane: {commit_interval: 400ms}
`

// probe looks at a pipeline from outside: when each event was stamped, when Redis had it, and when windows arrived. Every field but
// windows belongs to one goroutine until that has returned.
type probe struct {
	p        *pipeline
	stamps   [][]time.Time      // by partition and offset
	readable []float64          // seconds
	arrived  map[string]float64 // by end of window
	windows  atomic.Int64       // that have arrived; safe for concurrent use
	seen     []int64            // by partition
}

// stamp sends an event to every partition, stamped now.
func (o *probe) stamp(ctx context.Context, i int) error {
	now := time.Now()
	var records []*kgo.Record
	for n := range o.p.Parts {
		value := fmt.Appendf(nil, `{"k":"k%d","t":%d}`, i%7, now.UnixMilli())
		records = append(records, &kgo.Record{Topic: o.p.Topic(), Partition: n, Value: value, Timestamp: now})
		o.stamps[n] = append(o.stamps[n], now)
	}
	return o.p.Raw.ProduceSync(ctx, records...).FirstErr()
}

// look notes which events Redis has by now.
func (o *probe) look(ctx context.Context) error {
	for n := range o.p.Parts {
		meta, found, err := o.p.Store.ReadMeta(ctx, o.p.Lane(n))
		if err != nil {
			return err
		}
		now := time.Now()
		for ; found && o.seen[n] < meta.Offset && o.seen[n] < int64(len(o.stamps[n])); o.seen[n]++ {
			o.readable = append(o.readable, now.Sub(o.stamps[n][o.seen[n]]).Seconds())
		}
	}
	return nil
}

// receive notes when the first row of each window arrives, until ctx ends.
func (o *probe) receive(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.p.Kafka.Brokers...), kgo.ConsumeTopics(o.p.Spec.Results.Kafka.Topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		for _, r := range fetches.Records() {
			var row struct {
				End      time.Time
				Revision int
			}
			if err := json.Unmarshal(r.Value, &row); err != nil {
				return err
			}
			if _, known := o.arrived[row.End.String()]; !known && row.Revision == 1 {
				o.arrived[row.End.String()] = now.Sub(row.End).Seconds()
				o.windows.Add(1)
			}
		}
	}
}

// The quantiles of the histograms on /metrics are those that somebody outside sees: a reader of Redis who waits for events, and a
// consumer of the results who waits for windows.
func TestQuantilesAreWhatOthersSee(t *testing.T) {
	feed := 8 * time.Second
	if long.Wanted {
		feed = 2 * time.Minute
	}
	own := rig.Servers{}
	if rig.HaveRedis() {
		own.Redis = rig.StartRedis(t).Addr
	}
	p := newWorld(t, own).newPipeline(ticks, 2)
	process := measure.NewProcess()
	registry, err := telemetry.NewRegistry(context.Background(), func(string) string { return "" })
	require.NoError(t, err)
	defer registry.Close(context.Background())
	registry.ObserveMeasures(process)
	h := p.measuredHotPath(process.Pipeline(p.Spec.Name))
	rig.Eventually(t, "lanes are owned", patience, func() bool {
		_, first := p.Meta(0)
		_, second := p.Meta(1)
		return first && second
	})

	o := &probe{p: p, stamps: make([][]time.Time, 2), arrived: make(map[string]float64), seen: make([]int64, 2)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failed := make(chan error, 3)
	stop := make(chan struct{})
	go func() { failed <- h.closeWhile(stop) }()
	go func() { failed <- o.receive(ctx) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	end := time.After(feed)
	for i, going := 0, true; going; i++ {
		select {
		case <-tick.C:
			if i%5 == 0 {
				require.NoError(t, o.stamp(ctx, i))
			}
			require.NoError(t, o.look(ctx))
		case <-end:
			going = false
		}
	}
	fed := int64(len(o.stamps[0]))
	rig.Eventually(t, "everything is committed", patience, func() bool {
		require.NoError(t, o.look(ctx))
		return o.seen[0] == fed && o.seen[1] == fed
	})
	close(stop)
	require.NoError(t, <-failed)
	published := int64(len(p.Ledger()))
	rig.Eventually(t, "every window that was published has arrived", patience, func() bool { return o.windows.Load() == published })
	cancel()
	require.NoError(t, <-failed)

	compareQuantiles(t, scrapeHistogram(t, registry, "millrace_event_to_readable_seconds"), o.readable)
	var arrivals []float64
	for _, took := range o.arrived {
		arrivals = append(arrivals, took)
	}
	compareQuantiles(t, scrapeHistogram(t, registry, "millrace_window_end_to_published_seconds"), arrivals)
	watermark := scrapeHistogram(t, registry, "millrace_watermark_to_published_seconds")
	require.NotZero(t, watermark.GetSampleCount())
	require.Less(t, quantile(watermark, 0.9), slices.Max(arrivals))
}

// scrapeHistogram reads a histogram from /metrics, as Prometheus does.
func scrapeHistogram(t *testing.T, r *telemetry.Registry, name string) *dto.Histogram {
	t.Helper()
	answer := httptest.NewRecorder()
	r.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	require.NoError(t, err)
	require.Contains(t, families, name)
	require.Len(t, families[name].GetMetric(), 1)
	return families[name].GetMetric()[0].GetHistogram()
}

// compareQuantiles wants p50, p90 and p99 of a histogram within 10 % of those of what was seen from outside, of about as many. Of a few
// dozen values a quantile lies anywhere between the neighbours of one of them; of thousands that makes no difference.
func compareQuantiles(t *testing.T, h *dto.Histogram, seen []float64) {
	t.Helper()
	require.NotEmpty(t, seen)
	require.InDelta(t, len(seen), h.GetSampleCount(), 2+0.02*float64(len(seen)))
	slices.Sort(seen)
	for _, q := range []float64{0.5, 0.9, 0.99} {
		k := min(len(seen)-1, int(q*float64(len(seen))))
		outside, low, high := seen[k], seen[k-1], seen[min(len(seen)-1, k+1)]
		inside := quantile(h, q)
		t.Logf("p%-2.0f  histogram %6.1f ms  probe %6.1f ms  %+5.1f %%  of %d", 100*q, 1000*inside, 1000*outside, 100*(inside/outside-1), len(seen))
		require.Greater(t, inside, 0.9*low, "p%.0f", 100*q)
		require.Less(t, inside, 1.1*high, "p%.0f", 100*q)
	}
}

// quantile is histogram_quantile of Prometheus.
func quantile(h *dto.Histogram, q float64) float64 {
	rank := q * float64(h.GetSampleCount())
	low, below := 0.0, 0.0
	for _, b := range h.GetBucket() {
		if count := float64(b.GetCumulativeCount()); count >= rank && !math.IsInf(b.GetUpperBound(), 1) {
			return low + (b.GetUpperBound()-low)*(rank-below)/(count-below)
		} else {
			low, below = b.GetUpperBound(), count
		}
	}
	return low
}
