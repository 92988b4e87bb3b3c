package window

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

const hour = int64(3600_000)

func win(name string, size, slide, offset time.Duration) spec.Window {
	return spec.Window{Name: name, Size: spec.Duration(size), Slide: spec.Duration(slide), Offset: spec.Duration(offset)}
}

func newPlan(t testing.TB, lateness time.Duration, windows ...spec.Window) *Plan {
	t.Helper()
	p, err := NewPlan(&spec.Spec{Windows: windows, AllowedLateness: spec.Duration(lateness)})
	require.NoError(t, err)
	return p
}

func TestWidth(t *testing.T) {
	h, m := time.Hour, time.Minute
	for _, c := range []struct {
		name    string
		windows []spec.Window
		want    time.Duration
	}{
		{"one tumbling window", []spec.Window{win("a", h, h, 0)}, h},
		{"slide missing", []spec.Window{win("a", h, 0, 0)}, h},
		{"sliding", []spec.Window{win("a", h, 10*m, 0)}, 10 * m},
		{"slide does not divide size", []spec.Window{win("a", 25*m, 10*m, 0)}, 5 * m},
		{"daily and hourly", []spec.Window{win("a", h, h, 0), win("b", 24*h, 24*h, 0)}, h},
		{"offset", []spec.Window{win("a", h, h, 15*m)}, 15 * m},
		{"offset of whole slides", []spec.Window{win("a", h, h, 5*h)}, h},
		{"negative offset", []spec.Window{win("a", 24*h, 24*h, -5*h)}, h},
		{"milliseconds", []spec.Window{win("a", time.Second, 0, time.Millisecond)}, time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want.Milliseconds(), newPlan(t, 0, c.windows...).Width)
		})
	}
}

func TestNewPlanRefuses(t *testing.T) {
	h := time.Hour
	for _, c := range []struct {
		name     string
		lateness time.Duration
		windows  []spec.Window
		want     string
	}{
		{"no window", 0, nil, "at least one"},
		{"size zero", 0, []spec.Window{win("a", 0, 0, 0)}, "windows[0].size: 0s"},
		{"negative size", 0, []spec.Window{win("a", h, h, 0), win("b", -h, h, 0)}, "windows[1].size: -1h0m0s"},
		{"negative slide", 0, []spec.Window{win("a", h, -h, 0)}, "windows[0].slide"},
		{"gaps", 0, []spec.Window{win("a", h, 2*h, 0)}, "leaves gaps"},
		{"fraction of a millisecond", 0, []spec.Window{win("a", h+1, 0, 0)}, "whole milliseconds"},
		{"fraction in the offset", 0, []spec.Window{win("a", h, h, 1)}, "windows[0].offset"},
		{"negative lateness", -h, []spec.Window{win("a", h, h, 0)}, "allowed_lateness"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewPlan(&spec.Spec{Windows: c.windows, AllowedLateness: spec.Duration(c.lateness)})
			require.ErrorIs(t, err, ErrPlan)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestOneTumblingWindow(t *testing.T) {
	p := newPlan(t, 6*time.Hour, win("hourly", time.Hour, 0, 0))
	for _, c := range []struct {
		name string
		wm   int64
		late bool
	}{
		{"no watermark yet", NoTime, false},
		{"long before", -100 * hour, false},
		{"just before the deadline", 7*hour - 1, false},
		{"at the deadline", 7 * hour, true},
		{"long after", math.MaxInt64, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			gen, late := p.Place(0, c.wm)
			require.Equal(t, c.late, late)
			require.Equal(t, map[bool]int{false: 0, true: 1}[c.late], gen)
		})
	}
	require.Equal(t, []SliceRange{{Start: 5 * hour, MaxGen: 0}}, p.SlicesOf(Ref{Start: 5 * hour}))
	require.Equal(t, 7*hour, p.LastDeadline(0))
}

func TestHourlyAndDaily(t *testing.T) {
	p := newPlan(t, 0, win("daily", 24*time.Hour, 0, 0), win("hourly", time.Hour, 0, 0))
	start := 22 * hour
	require.Equal(t, []int64{23 * hour, 24 * hour}, p.Deadlines(start))
	require.Equal(t, []Ref{{1, 22 * hour}, {0, 0}}, p.WindowsOf(start))

	gen, late := p.Place(start, 23*hour)
	require.Equal(t, 1, gen, "late for the hour, in time for the day")
	require.False(t, late)
	require.Equal(t, []Ref{{1, 22 * hour}}, p.Missed(start, 23*hour))
	require.Nil(t, p.Missed(start, 23*hour-1))

	require.Equal(t, []SliceRange{{start, 0}}, p.SlicesOf(Ref{1, start}))
	day := p.SlicesOf(Ref{0, 0})
	require.Len(t, day, 24)
	for _, s := range day[:23] {
		require.Equal(t, 1, s.MaxGen)
	}
	require.Equal(t, 0, day[23].MaxGen, "the last hour and the day end together")
}

func TestBefore1970(t *testing.T) {
	p := newPlan(t, 0, win("hourly", time.Hour, 0, 0))
	require.Equal(t, -hour, p.SliceStart(-1))
	require.Equal(t, -hour, p.SliceStart(-hour))
	require.Equal(t, -2*hour, p.SliceStart(-hour-1))
	require.Equal(t, []Ref{{0, -hour}}, p.WindowsOf(-hour))
	require.Equal(t, int64(-1), Millis(-1))
	require.Equal(t, int64(-1), Millis(-1_000_000))
	require.Equal(t, int64(-2), Millis(-1_000_001))
	require.Equal(t, int64(0), Millis(999_999))
	require.Equal(t, p.Width, p.SliceStart(Millis(math.MaxInt64))-p.SliceStart(Millis(math.MaxInt64)-hour))
	require.LessOrEqual(t, p.SliceStart(Millis(math.MinInt64)), Millis(math.MinInt64))
}
