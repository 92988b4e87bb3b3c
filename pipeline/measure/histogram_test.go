package measure

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Quantiles come within the distance of two bounds of the true ones at the very worst, and within 5 % where values are spread as
// the ages of events are.
func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tests := []struct {
		name  string
		value func() float64 // seconds
		most  float64        // relative error
	}{
		{"uniform over a commit interval", func() float64 { return 0.02 + 0.5*rng.Float64() }, 0.05},
		{"exponential", func() float64 { return 0.1 * rng.ExpFloat64() }, 0.05},
		{"long tail", func() float64 { return 0.05 * math.Exp(1.2*rng.NormFloat64()) }, 0.05},
		{"one value only", func() float64 { return 0.7 }, 0.12},
		{"minutes", func() float64 { return 60 + 600*rng.Float64() }, 0.05},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHistogram(fine)
			values := make([]float64, 100_000)
			for i := range values {
				values[i] = tt.value()
				h.Observe(time.Duration(values[i] * float64(time.Second)))
			}
			slices.Sort(values)
			counts := h.Counts()
			for _, q := range []float64{0.5, 0.9, 0.99} {
				exact := values[int(q*float64(len(values)))]
				require.InEpsilon(t, exact, counts.Quantile(q), tt.most, "p%v", 100*q)
			}
		})
	}
}

func TestHistogramCounts(t *testing.T) {
	h := newHistogram(fine)
	require.True(t, math.IsNaN(new(Counts).Quantile(0.5)))
	h.Observe(-time.Second)
	h.ObserveN(time.Millisecond, 3)
	h.ObserveN(time.Hour, 0)
	h.ObserveN(100*time.Hour, 2)
	c := h.Counts()
	require.EqualValues(t, 6, c.Count)
	require.EqualValues(t, 4, c.Buckets[0], "a bound belongs to its bucket, and nothing is younger than nothing")
	require.EqualValues(t, 2, c.Buckets[len(c.Buckets)-1])
	require.InDelta(t, 0.003+2*360_000, c.Sum, 1e-6)
	require.Equal(t, c.Bounds[len(c.Bounds)-1], c.Quantile(0.99), "beyond the last bound nothing is known")
	require.Len(t, c.Buckets, len(c.Bounds)+1)
}

func TestNothingIsMeasuredWhereNobodyAsks(t *testing.T) {
	var process *Process
	p := process.Pipeline("p")
	p.Commit.Observe(time.Second)
	p.Step("restore").Observe(time.Second)
	p.Readable.Explain(time.Second, Trace{TraceID: [16]byte{1}}, time.Now())
	process.CallsTo("redis").Done("apply", OK, time.Second)
	require.Zero(t, p.Commit.Counts().Count)
	require.Empty(t, p.Steps())
}

// Exemplars are the latest of their buckets.
func TestExemplars(t *testing.T) {
	h := newHistogram(fine)
	now := time.Unix(1000, 0)
	h.Explain(time.Second, Trace{}, now)
	require.Empty(t, h.Counts().Exemplars, "no trace explains nothing")
	h.Explain(time.Second, Trace{TraceID: [16]byte{1}}, now)
	h.Explain(time.Second, Trace{TraceID: [16]byte{2}}, now)
	h.Explain(time.Minute, Trace{TraceID: [16]byte{3}}, now)
	got := h.Counts().Exemplars
	require.Len(t, got, 2)
	require.Equal(t, Exemplar{Trace{TraceID: [16]byte{2}}, 1, now}, got[0])
}

// What goroutines add beside each other is all there, and adding takes no memory.
func TestManyObserve(t *testing.T) {
	p := NewProcess().Pipeline("p")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				p.Readable.ObserveN(time.Duration(i)*time.Millisecond, 2)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 16_000, p.Readable.Counts().Count)
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Readable.ObserveN(time.Second, 5) }))
}

func TestPublished(t *testing.T) {
	process := NewProcess()
	p := process.Pipeline("p")
	p.Published(Revision{Reason: "watermark", Number: 1, Rows: 10, Bytes: 100})
	p.Published(Revision{Reason: "late", Number: 2, Rows: 11, Bytes: 110})
	p.Published(Revision{Reason: "final", Number: 2, Amends: true, Final: true, Rows: 11})
	require.Equal(t, Revisions{
		Closed: 1, Final: 1, ByReason: map[string]int64{"watermark": 1, "late": 1}, Rows: 21, Bytes: 210,
	}, p.Revisions())
	require.Same(t, p, process.Pipelines()["p"])
}

// Kinds of calls are bounded whatever operations are named.
func TestCallsAreBounded(t *testing.T) {
	p := NewProcess()
	for i := range 2 * maxCalls {
		p.CallsTo("kafka").Done(time.Duration(i).String(), OK, time.Millisecond)
	}
	require.Len(t, p.Calls.All(), maxCalls)
}

func BenchmarkObserve(b *testing.B) {
	h := newHistogram(fine)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.ObserveN(time.Duration(i&1023)*time.Millisecond, 3)
	}
}
