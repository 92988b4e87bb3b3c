package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress draws one line that grows, on a terminal only, at most ten times a second. It is not safe for concurrent
// use. A nil progress draws nothing.
type progress struct {
	w       io.Writer
	label   string
	started time.Time
	drawn   time.Time
}

// newProgress returns nil unless w is a terminal.
func newProgress(w io.Writer, label string) *progress {
	if !terminal(w) {
		return nil
	}
	return &progress{w: w, label: label, started: time.Now()}
}

// Update shows that n records are done, which is the part done (0 to 1, negative: unknown) of all.
func (p *progress) Update(n int64, done float64) {
	if p == nil || time.Since(p.drawn) < 100*time.Millisecond {
		return
	}
	p.drawn = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s", bar(p.label, n, done, time.Since(p.started)))
}

// End removes the line.
func (p *progress) End() {
	if p != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func bar(label string, n int64, done float64, elapsed time.Duration) string {
	rate := float64(n) / max(elapsed.Seconds(), 1e-3)
	text := fmt.Sprintf("%s, %s/s", counted(n, "record"), short(rate))
	if done < 0 {
		return label + " " + text
	}
	const width = 30
	full := int(done * width)
	return fmt.Sprintf("%s [%s%s] %3.0f %% %s", label, strings.Repeat("=", full), strings.Repeat(" ", width-full), done*100, text)
}

// short renders a number with three digits: 950, 12.3k, 4.56M.
func short(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return fmt.Sprintf("%.3g%s", v/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.3g", v)
}
