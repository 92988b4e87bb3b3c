// Package window plans which slice an event updates and which windows a slice feeds. A slice is the finest bucket of
// event time that all windows are made of; a slice has generations, so that an event which came too late for one of its
// windows and in time for another is counted exactly where it was in time. Everything here is arithmetic on whole
// milliseconds since the epoch: no state, no clock.
package window

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"millrace/pipeline/spec"
)

// NoTime is the watermark, in milliseconds, of a lane that has seen no event yet. Nothing is late under it.
const NoTime = math.MinInt64

// ErrPlan is wrapped by every error of NewPlan.
var ErrPlan = errors.New("windows cannot be planned")

// Ref is one window: an index into spec.Windows and the window's start in milliseconds.
type Ref struct {
	Window int
	Start  int64
}

// SliceRange names what a window takes from one slice: the generations 0 to MaxGen of the slice that begins at Start.
type SliceRange struct {
	Start  int64
	MaxGen int
}

// Plan is the slice plan of one spec. It is immutable and safe for concurrent use. Times given to its methods must lie
// in the range of time.UnixNano, in milliseconds.
type Plan struct {
	Width    int64 // length of a slice in milliseconds; slices begin at its multiples
	lateness int64
	onTime   int64 // watermarks below a slice's start plus onTime have passed none of its deadlines
	families []family
}

// family is one window of the spec: all windows [end-size, end) with end = phase + k*slide, in milliseconds.
type family struct {
	size, slide, phase int64
}

// NewPlan derives the slice plan. How many slices and windows there may be is for the check of the
// spec to say. Its errors wrap ErrPlan and name window, value and what would be valid.
func NewPlan(s *spec.Spec) (*Plan, error) {
	p := &Plan{lateness: s.AllowedLateness.Millis()}
	if len(s.Windows) == 0 {
		return nil, fmt.Errorf("%w: there is none; give at least one", ErrPlan)
	}
	if err := whole("allowed_lateness", s.AllowedLateness, 0); err != nil {
		return nil, err
	}
	for i, w := range s.Windows {
		f, err := newFamily(i, w)
		if err != nil {
			return nil, err
		}
		p.families = append(p.families, f)
		p.Width = gcd(gcd(p.Width, f.size), gcd(f.slide, f.phase))
	}
	p.onTime = p.Width + p.lateness
	return p, nil
}

func newFamily(i int, w spec.Window) (family, error) {
	slide := cmp.Or(w.Slide, w.Size)
	field := func(name string) string { return fmt.Sprintf("windows[%d].%s", i, name) }
	if err := whole(field("size"), w.Size, 1); err != nil {
		return family{}, err
	}
	if err := whole(field("slide"), slide, 1); err != nil {
		return family{}, err
	}
	if err := whole(field("offset"), w.Offset, math.MinInt64); err != nil {
		return family{}, err
	}
	if slide > w.Size {
		return family{}, fmt.Errorf("%w: %s: %s is longer than the size %s, which leaves gaps; want at most the size",
			ErrPlan, field("slide"), slide.Std(), w.Size.Std())
	}
	f := family{size: w.Size.Millis(), slide: slide.Millis()}
	f.phase = floorMod(w.Offset.Millis()+f.size, f.slide)
	return f, nil
}

// whole refuses what is not in whole milliseconds or shorter than least of them.
func whole(field string, d spec.Duration, least int64) error {
	if int64(d)%1e6 != 0 {
		return fmt.Errorf("%w: %s: %s is not valid; want whole milliseconds", ErrPlan, field, d.Std())
	}
	if d.Millis() < least {
		return fmt.Errorf("%w: %s: %s is too short; want at least %dms", ErrPlan, field, d.Std(), least)
	}
	return nil
}

// Millis returns the millisecond that an event time in nanoseconds falls in, also before 1970.
func Millis(ns int64) int64 { return floorDiv(ns, 1e6) }

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// floorDiv is a/b rounded down; b must be positive.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// floorMod is the rest of floorDiv, in [0, b).
func floorMod(a, b int64) int64 {
	m := a % b
	if m < 0 {
		m += b
	}
	return m
}
