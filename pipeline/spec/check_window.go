package spec

import (
	"fmt"
	"time"
)

// Bounds that keep closing a window and placing an event cheap. A slice is as wide as the greatest common divisor of
// all sizes, slides and offsets.
const (
	maxSlicesPerWindow = 10_000
	maxWindowsPerSlice = 1_000
)

func checkWindows(windows []Window, fail report) {
	if len(windows) == 0 {
		fail("windows", "", missing, "at least one, e.g. [{name: hourly, size: 1h}]")
	}
	names := make(map[string]bool)
	sound := len(windows) > 0
	for i, w := range windows {
		path := fmt.Sprintf("windows[%d]", i)
		checkName(path+".name", w.Name, fail)
		if names[w.Name] && w.Name != "" {
			fail(path+".name", w.Name, "is given twice", "each window under a name of its own")
		}
		names[w.Name] = true
		if !checkWindow(path, w, fail) {
			sound = false
		}
	}
	if sound {
		checkSlices(windows, fail)
	}
}

// checkWindow reports whether the window's durations can be reckoned with.
func checkWindow(path string, w Window, fail report) bool {
	sound := true
	note := func(path, value, problem, want string) {
		sound = false
		fail(path, value, problem, want)
	}
	if w.Size == 0 {
		note(path+".size", "", missing, "e.g. 1h, 90s or 1d")
		return false
	}
	checkDuration(path+".size", w.Size, Duration(time.Millisecond), note)
	if !sound {
		return false
	}
	checkDuration(path+".slide", w.Slide, Duration(time.Millisecond), note)
	checkDuration(path+".offset", w.Offset, 0, note)
	if !sound {
		return false
	}
	if w.Slide > w.Size {
		note(path+".slide", w.Slide.String(), "is longer than the size "+w.Size.String()+
			": events between two windows would be in none", "at most the size")
	}
	if w.Offset >= w.Slide {
		note(path+".offset", w.Offset.String(), "is not shorter than the slide "+w.Slide.String(), "0s up to the slide")
	}
	return sound
}

func checkSlices(windows []Window, fail report) {
	var width Duration
	for _, w := range windows {
		width = gcd(gcd(gcd(width, w.Size), w.Slide), w.Offset)
	}
	var holding Duration
	for i, w := range windows {
		if slices := w.Size / width; slices > maxSlicesPerWindow {
			fail(fmt.Sprintf("windows[%d].size", i), w.Size.String(), fmt.Sprintf(
				"takes %d slices of %s, the greatest common divisor of all sizes, slides and offsets", slices, width),
				fmt.Sprintf("at most %d slices: rounder durations", maxSlicesPerWindow))
		}
		holding += (w.Size + w.Slide - 1) / w.Slide
	}
	if holding > maxWindowsPerSlice {
		fail("windows", "", fmt.Sprintf("put one event into %d windows at once", holding),
			fmt.Sprintf("at most %d: fewer windows or longer slides", maxWindowsPerSlice))
	}
}

func gcd(a, b Duration) Duration {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
