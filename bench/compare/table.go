package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// result is what one run of millrace bench printed.
type result map[string]any

// pair is the results of both programs in one round.
type pair [2]result

func read(text []byte) (result, error) {
	var r result
	err := json.Unmarshal(text, &r)
	return r, err
}

// metric is a number of a result. Its scale turns it into the unit that it is shown in.
type metric struct {
	name   string
	field  string // names of nested objects with dots between
	format string
	scale  float64
}

var metrics = []metric{
	{"events/s to the last commit", "committed.events_per_second", "%.0f", 1},
	{"events/s to the last row", "published.events_per_second", "%.0f", 1},
	{"rows/s", "rows_per_second", "%.0f", 1},
	{"CPU per event, engine, ns", "published.cpu_ns_per_event.engine", "%.0f", 1},
	{"CPU per event, Redis, ns", "published.cpu_ns_per_event.redis", "%.0f", 1},
	{"CPU per event, Kafka, ns", "published.cpu_ns_per_event.kafka", "%.0f", 1},
	{"CPU per event, sum, ns", "published.cpu_ns_per_event.sum", "%.0f", 1},
	{"Redis fields per event", "redis_fields_per_event", "%.3f", 1},
	{"engine RSS peak, MiB", "engine_rss_peak_bytes", "%.0f", 1 << 20},
	{"Redis memory peak, MiB", "redis_memory_peak_bytes_published", "%.0f", 1 << 20},
}

// number returns a number of the result; false when it is absent or null.
func (r result) number(field string) (float64, bool) {
	var at any = map[string]any(r)
	for name := range strings.SplitSeq(field, ".") {
		object, ok := at.(map[string]any)
		if !ok {
			return 0, false
		}
		at = object[name]
	}
	n, ok := at.(float64)
	return n, ok
}

// table renders the medians of both programs and of the ratios within each round, with the smallest and the greatest ratio, in
// Markdown. A number that one round does not have is not known.
func table(workload string, pairs []pair) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | base | new | new ÷ base |\n|---|---|---|---|\n", workload)
	for _, m := range metrics {
		var sides [2][]float64
		var ratios []float64
		for _, p := range pairs {
			before, okBefore := p[0].number(m.field)
			after, okAfter := p[1].number(m.field)
			if okBefore {
				sides[0] = append(sides[0], before/m.scale)
			}
			if okAfter {
				sides[1] = append(sides[1], after/m.scale)
			}
			if okBefore && okAfter && before != 0 {
				ratios = append(ratios, after/before)
			}
		}
		fmt.Fprintf(&b, "| %s |", m.name)
		for _, values := range sides {
			fmt.Fprintf(&b, " %s |", cell(values, len(pairs), func() string { return fmt.Sprintf(m.format, median(values)) }))
		}
		fmt.Fprintf(&b, " %s |\n", cell(ratios, len(pairs), func() string {
			return fmt.Sprintf("%.2f (%.2f to %.2f)", median(ratios), slices.Min(ratios), slices.Max(ratios))
		}))
	}
	return b.String()
}

func cell(values []float64, want int, text func() string) string {
	if len(values) < want || want == 0 {
		return "not known"
	}
	return text()
}

// median is the mean of the two in the middle when there are two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
