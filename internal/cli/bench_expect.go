package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"millrace/pipeline/source"
	"millrace/pipeline/window"
)

// windowStarts calls fn with the start of every window that an event time lies in. It knows nothing of the pipeline's plan.
func (w *workload) windowStarts(at int64, fn func(start int64)) {
	last := at - at%w.step() // windows start at multiples of the step, and no event is older than 1970
	for start := last; start > at-w.size(); start -= w.step() {
		fn(start)
	}
}

// expectedWindows returns how many events every window holds, by start.
func (w *workload) expectedWindows() map[int64]int64 {
	events := make(map[int64]int64)
	gen := newBenchSource(*w, 0)
	for {
		e, _, ok := gen.draw()
		if !ok {
			return events
		}
		w.windowStarts(e.at, func(start int64) { events[start]++ })
	}
}

// benchCell is a key in a window: what the records give and what was published in the latest revision.
type benchCell struct {
	want, have benchValues
	revision   int
}

type benchValues struct {
	Events int64 `json:"events"`
	Total  int64 `json:"total"`
	Peak   int64 `json:"peak"`
}

// benchResults compares the rows of a run with the records of its workload.
type benchResults struct {
	load  workload
	cells map[int64][]benchCell // by the window's start, then by the key's number
	rows  int64                 // published, those of earlier revisions included
}

func newBenchResults(load workload) *benchResults {
	r := &benchResults{load: load, cells: make(map[int64][]benchCell)}
	gen := newBenchSource(load, 0)
	for {
		e, _, ok := gen.draw()
		if !ok {
			return r
		}
		load.windowStarts(e.at, func(start int64) {
			if r.cells[start] == nil {
				r.cells[start] = make([]benchCell, load.keys)
			}
			v := &r.cells[start][e.key].want
			v.Events++
			v.Total += e.amount
			v.Peak = max(v.Peak, e.amount)
		})
	}
}

// add takes a record of the result topic.
func (r *benchResults) add(record []byte) error {
	var row struct {
		Start string `json:"start"`
		Key   struct {
			User string `json:"user"`
		} `json:"key"`
		Revision int         `json:"revision"`
		Values   benchValues `json:"values"`
		Deleted  bool        `json:"deleted"`
	}
	if err := json.Unmarshal(record, &row); err != nil {
		return fmt.Errorf("result row %s: %w", record, err)
	}
	start, err := window.ParseTime(row.Start)
	if err != nil {
		return fmt.Errorf("result row %s: %w", record, err)
	}
	cells := r.cells[start]
	number, err := strconv.ParseInt(strings.TrimPrefix(row.Key.User, "user-"), 10, 64)
	key := number - benchUser
	if err != nil || key < 0 || key >= int64(len(cells)) {
		return fmt.Errorf("result row %s: no record of the workload is in this window with this key", record)
	}
	r.rows++
	c := &cells[key]
	if row.Revision <= c.revision {
		return fmt.Errorf("result row %s: revision %d of the row was published before it", record, c.revision)
	}
	c.have, c.revision = row.Values, row.Revision
	if row.Deleted {
		c.have = benchValues{}
	}
	return nil
}

// check returns an error unless every row of every window is what the records give.
func (r *benchResults) check() error {
	for start, cells := range r.cells {
		for key := range cells {
			if c := &cells[key]; c.want != c.have {
				return fmt.Errorf("wrong result: window %s, key user-%d: published %+v, but the records give %+v",
					instant(start), benchUser+int64(key), c.have, c.want)
			}
		}
	}
	return nil
}

// checkResults reads the result topic and returns how many rows it holds.
func (r *benchRun) checkResults(ctx context.Context) (rows int64, err error) {
	topic := r.spec.Results.Kafka.Topic
	partitions, err := r.srv.cluster.Partitions(ctx, topic)
	if err != nil {
		return 0, reached(ctx, err)
	}
	results := newBenchResults(r.load.workload)
	for _, p := range partitions {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		_, err := r.srv.cluster.ReadCommitted(ctx, tp, 0, func(record source.Record) error { return results.add(record.Value) })
		if err != nil {
			return 0, err
		}
	}
	return results.rows, results.check()
}
