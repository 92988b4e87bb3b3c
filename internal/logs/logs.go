// Package logs makes the logger of a worker: what a person reads at night, with durations and sizes in words, and the
// levels of Temporal's SDK corrected by what its lines mean here.
package logs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// New returns a logger of one line per event: JSON, or text for people. verbose adds what is only for a closer look. A line that is
// written with a context that has a span says which.
func New(out io.Writer, text, verbose bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: readable}
	if verbose {
		options.Level = slog.LevelDebug
	}
	if text {
		return slog.New(traced{slog.NewTextHandler(out, options)})
	}
	return slog.New(traced{slog.NewJSONHandler(out, options)})
}

// readable writes durations as 1.23s and sizes, which are numbers whose name ends in bytes, as 8.0 MiB.
func readable(_ []string, a slog.Attr) slog.Attr {
	isSize := a.Key == "bytes" || strings.HasSuffix(a.Key, "_bytes")
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(Duration(a.Value.Duration()))
	case slog.KindInt64:
		if isSize {
			a.Value = slog.StringValue(Size(a.Value.Int64()))
		}
	case slog.KindUint64:
		if isSize {
			a.Value = slog.StringValue(Size(int64(a.Value.Uint64())))
		}
	}
	return a
}

// Duration renders d with three digits, or in whole seconds from a minute on: 951ns, 1.23s, 2m5s.
func Duration(d time.Duration) string {
	step := time.Second
	if abs := d.Abs(); abs < time.Minute {
		for step = 1; abs >= 1000*step; {
			step *= 10
		}
	}
	text := d.Round(step).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Size renders a number of bytes with one digit behind the point: 512 B, 8.0 MiB.
func Size(n int64) string {
	if n > -1024 && n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for units := len(sizeUnits) - 1; unit < units && (value <= -1023.95 || value >= 1023.95); unit++ {
		value /= 1024
	}
	return fmt.Sprintf("%.1f %s", value, sizeUnits[unit])
}

var sizeUnits = []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
