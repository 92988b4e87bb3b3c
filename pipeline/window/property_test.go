package window

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

// containing lists by definition every window of the spec that holds the time ms: start = offset + k*slide.
func containing(s *spec.Spec, ms int64) []Ref {
	var refs []Ref
	for i, w := range s.Windows {
		size, slide, offset := w.Size.Millis(), w.Slide.Millis(), w.Offset.Millis()
		if slide == 0 {
			slide = size
		}
		for k := (ms-size-offset)/slide - 2; offset+k*slide <= ms; k++ {
			if start := offset + k*slide; ms < start+size {
				refs = append(refs, Ref{i, start})
			}
		}
	}
	return refs
}

func randomSpec(r *rand.Rand) *spec.Spec {
	ms := func(n int64) spec.Duration { return spec.Duration(n * int64(time.Millisecond)) }
	s := &spec.Spec{AllowedLateness: ms(r.Int64N(30))}
	if r.IntN(3) == 0 {
		s.AllowedLateness = 0
	}
	unit := 1 + r.Int64N(3)
	for range 1 + r.IntN(3) {
		w := spec.Window{Size: ms(unit * (1 + r.Int64N(24)))}
		if r.IntN(2) == 0 {
			w.Slide = ms(1 + r.Int64N(w.Size.Millis()))
		}
		if r.IntN(2) == 0 {
			w.Offset = ms(r.Int64N(60) - 30)
		}
		s.Windows = append(s.Windows, w)
	}
	return s
}

// An event at time t under watermark wm reaches exactly the windows that contain t and whose end + lateness is above
// wm, each of them once, through its slice and generation.
func TestGenerationsMatchTheDefinition(t *testing.T) {
	specs := []*spec.Spec{
		{Windows: []spec.Window{win("h", 60*time.Millisecond, 10*time.Millisecond, 0)}},
		{Windows: []spec.Window{win("h", 10*time.Millisecond, 0, 0), win("d", 240*time.Millisecond, 0, 0)}},
		{Windows: []spec.Window{win("h", 10*time.Millisecond, 0, 0), win("d", 240*time.Millisecond, 0, -50*time.Millisecond)}, AllowedLateness: spec.Duration(25 * time.Millisecond)},
		{Windows: []spec.Window{win("a", 10*time.Millisecond, 0, 0), win("b", 10*time.Millisecond, 0, 0)}},
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		specs = append(specs, randomSpec(r))
	}
	for _, s := range specs {
		p, err := NewPlan(s)
		require.NoError(t, err)
		for range 15 {
			at := r.Int64N(400) - 200
			checkSlice(t, s, p, at)
			for wm := at - 60; wm < at+120; wm += 1 + r.Int64N(3) {
				checkEvent(t, s, p, at, wm)
			}
			checkEvent(t, s, p, at, NoTime)
		}
	}
}

func checkSlice(t *testing.T, s *spec.Spec, p *Plan, at int64) {
	start := p.SliceStart(at)
	require.True(t, start <= at && at < start+p.Width)
	all := containing(s, at)
	require.ElementsMatch(t, all, p.WindowsOf(start))
	deadlines := p.Deadlines(start)
	require.IsNonDecreasing(t, append([]int64{deadlines[0]}, deadlines...))
	require.Equal(t, deadlines[len(deadlines)-1], p.LastDeadline(start))
	for _, ref := range all {
		end := ref.Start + s.Windows[ref.Window].Size.Millis()
		require.Equal(t, end, p.End(ref))
		ranges := p.SlicesOf(ref)
		require.Equal(t, ref.Start, ranges[0].Start)
		require.Equal(t, end, ranges[len(ranges)-1].Start+p.Width)
	}
}

func checkEvent(t *testing.T, s *spec.Spec, p *Plan, at, wm int64) {
	start := p.SliceStart(at)
	gen, late := p.Place(start, wm)
	var want, missed []Ref
	for _, ref := range containing(s, at) {
		if p.End(ref)+s.AllowedLateness.Millis() > wm {
			want = append(want, ref)
		} else {
			missed = append(missed, ref)
		}
	}
	require.Equal(t, len(want) == 0, late, "%+v at %d wm %d", s.Windows, at, wm)
	require.Equal(t, len(missed), gen)
	require.ElementsMatch(t, missed, p.Missed(start, wm))
	if late {
		return
	}
	var got []Ref
	for _, ref := range p.WindowsOf(start) {
		for _, sl := range p.SlicesOf(ref) {
			if sl.Start == start && gen <= sl.MaxGen {
				got = append(got, ref)
			}
		}
	}
	require.ElementsMatch(t, want, got, "%+v at %d wm %d gen %d", s.Windows, at, wm, gen)
}

func TestPlaceDoesNotAllocate(t *testing.T) {
	p := newPlan(t, time.Hour, win("a", time.Hour, 10*time.Minute, 0), win("d", 24*time.Hour, 0, 0))
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Place(p.SliceStart(12345678), 99*hour) }))
}

func BenchmarkPlace(b *testing.B) {
	for _, c := range []struct {
		name string
		plan *Plan
		wm   int64
	}{
		{"tumbling", newPlan(b, 6*time.Hour, win("a", time.Hour, 0, 0)), 0},
		{"tumbling_late", newPlan(b, 0, win("a", time.Hour, 0, 0)), 3000 * hour},
		{"sliding", newPlan(b, 0, win("a", time.Hour, 10*time.Minute, 0)), 0},
		{"hourly_and_daily_passed", newPlan(b, 0, win("a", time.Hour, 0, 0), win("b", 24*time.Hour, 0, 0)), 12 * hour},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			ms := int64(0)
			for b.Loop() {
				ms = (ms + 977_777) % (24 * hour)
				c.plan.Place(c.plan.SliceStart(ms), c.wm)
			}
		})
	}
}
