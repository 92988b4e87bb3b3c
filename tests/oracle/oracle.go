package oracle

import (
	"bytes"
	"slices"
	"sort"
	"time"
)

// Lane is one partition's records in the order of their offsets.
type Lane struct {
	Topic     string
	Partition int32
	Records   []Record
	Seals     []Seal  // by offset
	Accepted  []int64 // offsets of events that were accepted whatever the spec's max_jump says
}

// Seal is a time, in milliseconds, that counts like a watermark for all records from an offset on: a lane that was idle
// adopted it, because the pipeline around it was that far.
type Seal struct{ Offset, Before int64 }

// Counters count each record once: read = invalid + ahead + past + jumped + filtered + late + folded.
type Counters struct {
	Read     int64 `json:"read"`
	Invalid  int64 `json:"invalid"`
	Ahead    int64 `json:"ahead"`
	Past     int64 `json:"past,omitempty"`
	Jumped   int64 `json:"jumped,omitempty"`
	Filtered int64 `json:"filtered"`
	Late     int64 `json:"late"`
	Folded   int64 `json:"folded"`
}

// Add adds o to c.
func (c *Counters) Add(o Counters) {
	c.Read += o.Read
	c.Invalid += o.Invalid
	c.Ahead += o.Ahead
	c.Past += o.Past
	c.Jumped += o.Jumped
	c.Filtered += o.Filtered
	c.Late += o.Late
	c.Folded += o.Folded
}

// LaneResult is what one partition contributes. Watermark is in milliseconds and meaningless before the first event.
type LaneResult struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Counters  Counters `json:"counters"`
	Watermark int64    `json:"watermark"`
}

// Late is an event that came too late for some of its windows; All says it was too late for every one of them.
type Late struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Windows   []string `json:"windows"` // name/start
	All       bool     `json:"all"`
}

// Row is one window and key. Start and End are milliseconds; Key is a JSON object.
type Row struct {
	Window     string
	Start, End int64
	Key        string
	acc        *accumulator
}

// Result is the expected outcome of a whole input.
type Result struct {
	Spec  *Spec
	Rows  []Row // by window, start, key
	Lanes []LaneResult
	Late  []Late

	// ChildLate is, by roll-up and start, how many events a window lacks because they missed the windows it is made from.
	ChildLate map[string]map[int64]int64
}

// Totals sums the counters of all lanes.
func (r *Result) Totals() (c Counters) {
	for _, lane := range r.Lanes {
		c.Add(lane.Counters)
	}
	return c
}

type cell struct {
	window string
	start  int64
	key    string
}

// Run computes the result of all lanes.
func Run(s *Spec, lanes []Lane) (*Result, error) {
	dec, err := newDecoder(s)
	if err != nil {
		return nil, err
	}
	res := &Result{Spec: s}
	cells := map[cell]*Row{}
	var taken, missed []counted
	for _, lane := range lanes {
		note := func(window string, ev *event, at place, late bool) {
			if late {
				missed = append(missed, counted{window, ev, at})
			} else {
				taken = append(taken, counted{window, ev, at})
			}
		}
		if len(s.Rollups) == 0 {
			note = func(string, *event, place, bool) {}
		}
		res.Lanes = append(res.Lanes, runLane(s, dec, lane, cells, &res.Late, note))
	}
	if len(s.Rollups) > 0 {
		res.addRollups(taken, missed, cells)
	}
	for _, row := range cells {
		res.Rows = append(res.Rows, *row)
	}
	sort.Slice(res.Rows, func(i, j int) bool {
		a, b := res.Rows[i], res.Rows[j]
		if a.Window != b.Window {
			return a.Window < b.Window
		}
		if a.Start != b.Start {
			return a.Start < b.Start
		}
		return a.Key < b.Key
	})
	return res, nil
}

func runLane(s *Spec, dec *decoder, lane Lane, cells map[cell]*Row, late *[]Late,
	note func(window string, ev *event, at place, late bool)) LaneResult {
	out := LaneResult{Topic: lane.Topic, Partition: lane.Partition}
	var latest int64 // largest event time so far, nanoseconds
	seen := false
	for _, rec := range lane.Records {
		out.Counters.Read++
		ev, err := dec.decode(rec.Value)
		if err != nil {
			out.Counters.Invalid++
			continue
		}
		if time.Unix(0, ev.time).After(time.UnixMilli(rec.Timestamp).Add(s.MaxFuture)) {
			out.Counters.Ahead++
			continue
		}
		if s.MaxPast > 0 && time.Unix(0, ev.time).Before(time.UnixMilli(rec.Timestamp).Add(-s.MaxPast)) {
			out.Counters.Past++
			continue
		}
		jump := floorDiv(ev.time, 1e6) - floorDiv(latest, 1e6) // ms
		if s.MaxJump > 0 && seen && jump > s.MaxJump.Milliseconds() && !slices.Contains(lane.Accepted, rec.Offset) {
			out.Counters.Jumped++
			continue
		}
		watermark, known := floorDiv(latest, 1e6)-s.OutOfOrder.Milliseconds(), seen
		if !seen || ev.time > latest {
			latest, seen = ev.time, true
		}
		for _, seal := range lane.Seals {
			if seal.Offset <= rec.Offset && (!known || seal.Before > watermark) {
				watermark, known = seal.Before, true
			}
		}
		if ev.filtered {
			out.Counters.Filtered++
			continue
		}
		var missed []string
		folded := false
		at := place{ev.time, lane.Topic, lane.Partition, rec.Offset}
		for _, w := range s.Windows {
			for _, start := range w.starts(floorDiv(ev.time, 1e6)) {
				end := start + w.Size
				if known && end+s.Lateness.Milliseconds() <= watermark {
					missed = append(missed, w.Name+"/"+stamp(start))
					note(w.Name, ev, at, true)
					continue
				}
				folded = true
				note(w.Name, ev, at, false)
				c := cell{w.Name, start, ev.key}
				if cells[c] == nil {
					cells[c] = &Row{Window: w.Name, Start: start, End: end, Key: ev.key, acc: newAccumulator(s)}
				}
				cells[c].acc.add(ev, at)
			}
		}
		if folded {
			out.Counters.Folded++
		} else {
			out.Counters.Late++
		}
		if len(missed) > 0 {
			*late = append(*late, Late{lane.Topic, lane.Partition, rec.Offset, missed, !folded})
		}
	}
	out.Watermark = floorDiv(latest, 1e6) - s.OutOfOrder.Milliseconds()
	return out
}

// starts lists the windows that contain the instant ms.
func (w Window) starts(ms int64) []int64 {
	var out []int64
	for start := w.Offset + floorDiv(ms-w.Offset, w.Slide)*w.Slide; start+w.Size > ms; start -= w.Slide {
		out = append(out, start)
	}
	return out
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }

// RoundRobin spreads lines over partitions as `millrace feed` does: line i goes to partition i modulo n. Blank lines are
// records too.
func RoundRobin(topic string, lines [][]byte, n int, timestamp int64) []Lane {
	lanes := make([]Lane, n)
	for p := range lanes {
		lanes[p] = Lane{Topic: topic, Partition: int32(p)}
	}
	for i, line := range lines {
		lane := &lanes[i%n]
		lane.Records = append(lane.Records, Record{Offset: int64(len(lane.Records)), Timestamp: timestamp, Value: line})
	}
	return lanes
}

// Lines splits a file into its lines; a last line feed ends the last line.
func Lines(data []byte) [][]byte {
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}
