package cli

import (
	"fmt"
	"io"
	"time"

	"millrace/pipeline/spec"
)

// measured is the result of a benchmark. What is nil was not measured or is not known.
type measured struct {
	Servers      string `json:"servers"` // embedded or real
	Workload     string `json:"workload"`
	Topic        string `json:"topic"` // "" for one of the run's own
	Records      int64  `json:"records"`
	Keys         int64  `json:"keys"`
	Distribution string `json:"keys_distribution"`
	Partitions   int32  `json:"partitions"`
	Window       int64  `json:"window_ms"`
	Slide        int64  `json:"slide_ms"`
	Span         int64  `json:"span_ms"`
	CPUs         int    `json:"cpus"`
	Go           string `json:"go"`

	// Of a consumer that throws every record away, with the CPU of this process. Ratio is the pipeline's rate over the consumer's.
	BarePerSecond   *float64 `json:"bare_events_per_second"`
	BareCPUPerEvent *float64 `json:"bare_cpu_ns_per_event"`
	Ratio           *float64 `json:"ratio"`
	// Of a lane by itself: decoding, folding and snapshots.
	AllocsPerEvent *float64 `json:"allocs_per_event"`
	LaneNsPerEvent *float64 `json:"lane_ns_per_event"`

	// Rate and engine's CPU of Committed, under the names that scripts knew before it.
	PipelinePerSecond float64 `json:"pipeline_events_per_second"`
	CPUPerEvent       float64 `json:"cpu_ns_per_event"`

	Committed phaseCost `json:"committed"` // from the first lane's ownership to the commit of the last record
	Published phaseCost `json:"published"` // from the same instant to the last row of the last window
	Windows   int       `json:"windows_closed"`
	Rows      int64     `json:"rows_published"`
	// RowsPerSecond is over the whole run, to the last row.
	RowsPerSecond float64 `json:"rows_per_second"`

	FieldsPerSecond  float64 `json:"redis_fields_per_second"`
	FieldsPerEvent   float64 `json:"redis_fields_per_event"`
	LongestCommitGap float64 `json:"longest_commit_gap_ms"`

	EngineMemoryPeak *int64 `json:"engine_rss_peak_bytes"`
	RedisMemoryRead  *int64 `json:"redis_memory_peak_bytes_committed"` // the most until the last record was committed
	RedisMemoryPeak  *int64 `json:"redis_memory_peak_bytes_published"`
}

// phaseCost is what the pipeline has taken since the first lane was owned.
type phaseCost struct {
	Seconds         float64     `json:"seconds"`
	EventsPerSecond float64     `json:"events_per_second"`
	CPU             cpuPerEvent `json:"cpu_ns_per_event"`
}

// cpuPerEvent is CPU time in nanoseconds per event. Embedded servers are one process, real ones are Redis and Kafka.
type cpuPerEvent struct {
	Engine  float64  `json:"engine"`
	Redis   *float64 `json:"redis"`
	Kafka   *float64 `json:"kafka"`
	Servers *float64 `json:"servers"`
	Sum     *float64 `json:"sum"` // nil unless every process is known
}

func newPhaseCost(elapsed time.Duration, spent cpuTimes, records int64) phaseCost {
	n := float64(records)
	part := func(name string) *float64 {
		cpu, known := spent[name]
		if !known {
			return nil
		}
		perEvent := float64(cpu) / n
		return &perEvent
	}
	c := cpuPerEvent{Engine: float64(spent[partEngine]) / n, Redis: part(partRedis), Kafka: part(partKafka), Servers: part(partServers)}
	sum := c.Engine
	switch {
	case c.Servers != nil:
		sum += *c.Servers
		c.Sum = &sum
	case c.Redis != nil && c.Kafka != nil:
		sum += *c.Redis + *c.Kafka
		c.Sum = &sum
	}
	return phaseCost{Seconds: elapsed.Seconds(), EventsPerSecond: n / elapsed.Seconds(), CPU: c}
}

func newMeasured(w *workload, topic string) measured {
	return measured{
		Workload: w.name, Topic: topic, Records: w.records, Keys: w.keys, Distribution: w.distribution, Partitions: w.partitions,
		Window: w.size(), Slide: w.step(), Span: w.covered(),
	}
}

// notKnown stands where a number is absent.
const notKnown = "not known"

func (m *measured) draw(w io.Writer) error {
	windows := "windows of " + milliseconds(m.Window)
	if m.Slide != m.Window {
		windows += " every " + milliseconds(m.Slide)
	}
	fmt.Fprintf(w, "%s: %d records over %s, %d keys (%s), %d partitions, %s\n%s servers, %d CPUs, %s\n", m.Workload, m.Records,
		milliseconds(m.Span), m.Keys, m.Distribution, m.Partitions, windows, m.Servers, m.CPUs, m.Go)
	t := &table{}
	if m.Published.CPU.Servers != nil {
		t.row("", "seconds", "events/s", "CPU per event: engine", "servers", "sum")
	} else {
		t.row("", "seconds", "events/s", "CPU per event: engine", "Redis", "Kafka", "sum")
	}
	m.Committed.draw(t, "to the last commit")
	m.Published.draw(t, "to the last row")
	if err := t.write(w, ""); err != nil {
		return err
	}
	if m.Ratio != nil {
		fmt.Fprintf(w, "bare sarama consumption  %s events/s, %.0f ns CPU per event; ratio %.2f\n",
			short(*m.BarePerSecond), *m.BareCPUPerEvent, *m.Ratio)
		fmt.Fprintf(w, "lane by itself           %.4f allocations per event, %.0f ns per event\n", *m.AllocsPerEvent, *m.LaneNsPerEvent)
	}
	_, err := fmt.Fprintf(w, `Redis                    %s fields/s, %.3f per event, longest gap between commits %.0f ms
published                %d windows, %d rows, %s rows/s; every row is right
most memory              engine %s; Redis %s to the last commit, %s to the last row
`, short(m.FieldsPerSecond), m.FieldsPerEvent, m.LongestCommitGap, m.Windows, m.Rows, short(m.RowsPerSecond),
		mebibytes(m.EngineMemoryPeak), mebibytes(m.RedisMemoryRead), mebibytes(m.RedisMemoryPeak))
	return err
}

func (c *phaseCost) draw(t *table, until string) {
	ns := func(v float64) string { return fmt.Sprintf("%.0f ns", v) }
	known := func(v *float64) string {
		if v == nil {
			return notKnown
		}
		return ns(*v)
	}
	cells := []any{until, fmt.Sprintf("%.1f", c.Seconds), short(c.EventsPerSecond), ns(c.CPU.Engine)}
	if c.CPU.Servers != nil {
		cells = append(cells, known(c.CPU.Servers))
	} else {
		cells = append(cells, known(c.CPU.Redis), known(c.CPU.Kafka))
	}
	t.row(append(cells, known(c.CPU.Sum))...)
}

func milliseconds(ms int64) string {
	return spec.Duration(time.Duration(ms) * time.Millisecond).String()
}

func mebibytes(n *int64) string {
	if n == nil {
		return notKnown
	}
	return fmt.Sprintf("%.0f MiB", float64(*n)/(1<<20))
}
