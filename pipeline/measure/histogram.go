package measure

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// scale is the upper bounds of a histogram's buckets; a last bucket without one follows.
type scale struct {
	micros  []int64   // rising
	seconds []float64 // the same
}

// newScale returns steps bounds for each doubling, from first up to doublings doublings of it, rounded to whole microseconds.
func newScale(first time.Duration, steps, doublings int) *scale {
	s := &scale{}
	for i := range steps*doublings + 1 {
		bound := int64(math.Round(float64(first.Microseconds()) * math.Exp2(float64(i)/float64(steps))))
		s.micros = append(s.micros, bound)
		s.seconds = append(s.seconds, float64(bound)/1e6)
	}
	return s
}

// Scales. A quantile that is interpolated between two bounds is off by less than their distance: 12 % on the fine scale at the
// very worst, and a few per cent where values are spread over some buckets.
var (
	fine   = newScale(time.Millisecond, 6, 21)     // 1 ms to 35 min, 12 % apart
	medium = newScale(100*time.Microsecond, 2, 21) // 0.1 ms to 3.5 min, 41 % apart
	slow   = newScale(time.Millisecond, 2, 24)     // 1 ms to 4.7 h, 41 % apart
	coarse = newScale(50*time.Microsecond, 1, 21)  // 50 us to 1.7 min, doubling
)

// Trace names the span during which a value was measured. The zero value is none.
type Trace struct {
	TraceID [16]byte
	SpanID  [8]byte
}

// Exemplar is a value that a trace explains.
type Exemplar struct {
	Trace
	Value float64 // seconds
	At    time.Time
}

// Histogram counts durations by bucket. Its methods may be called from any goroutine; a nil one takes and has nothing.
type Histogram struct {
	scale     *scale
	counts    []atomic.Uint64            // one more than the scale has bounds
	sum       atomic.Int64               // microseconds: a thousand years of seconds, also for a billion events
	exemplars []atomic.Pointer[Exemplar] // the latest of each bucket
}

func newHistogram(s *scale) *Histogram {
	n := len(s.micros) + 1
	return &Histogram{scale: s, counts: make([]atomic.Uint64, n), exemplars: make([]atomic.Pointer[Exemplar], n)}
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h.ObserveN(d, 1) }

// ObserveN counts n values of one duration. A negative one, which two clocks may come to, counts as none at all.
func (h *Histogram) ObserveN(d time.Duration, n int64) {
	if h == nil || n <= 0 {
		return
	}
	micros := max(0, d.Microseconds())
	h.counts[h.bucketOf(micros)].Add(uint64(n))
	h.sum.Add(micros * n)
}

// Explain notes that a trace shows how a duration, which is counted elsewhere, came about.
func (h *Histogram) Explain(d time.Duration, by Trace, now time.Time) {
	if h == nil || by == (Trace{}) {
		return
	}
	h.exemplars[h.bucketOf(max(0, d.Microseconds()))].Store(&Exemplar{Trace: by, Value: max(0, d.Seconds()), At: now})
}

// bucketOf is the index of the first bound that is not below.
func (h *Histogram) bucketOf(micros int64) int {
	i, _ := slices.BinarySearch(h.scale.micros, micros)
	return i
}

// Counts is a histogram at one moment.
type Counts struct {
	Bounds    []float64 // seconds, rising; not to be changed
	Buckets   []uint64  // one more than bounds, each without those below
	Count     uint64
	Sum       float64 // seconds
	Exemplars []Exemplar
}

// Counts reads the histogram. Values that are added meanwhile may be missing from the sum.
func (h *Histogram) Counts() Counts {
	if h == nil {
		return Counts{}
	}
	c := Counts{Bounds: h.scale.seconds, Buckets: make([]uint64, len(h.counts)), Sum: float64(h.sum.Load()) / 1e6}
	for i := range h.counts {
		c.Buckets[i] = h.counts[i].Load()
		c.Count += c.Buckets[i]
		if e := h.exemplars[i].Load(); e != nil {
			c.Exemplars = append(c.Exemplars, *e)
		}
	}
	return c
}

// Quantile interpolates the q-quantile in seconds as Prometheus does; NaN without a value.
func (c *Counts) Quantile(q float64) float64 {
	if c.Count == 0 {
		return math.NaN()
	}
	rank, below := q*float64(c.Count), 0.0
	for i, n := range c.Buckets {
		if n == 0 || below+float64(n) < rank {
			below += float64(n)
			continue
		}
		if i == len(c.Bounds) {
			return c.Bounds[i-1]
		}
		low := 0.0
		if i > 0 {
			low = c.Bounds[i-1]
		}
		return low + (c.Bounds[i]-low)*(rank-below)/float64(n)
	}
	return c.Bounds[len(c.Bounds)-1]
}
