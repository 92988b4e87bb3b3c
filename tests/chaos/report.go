package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Outcome is what became of one seed.
type Outcome struct {
	Seed       uint64       `json:"seed"`
	Mixed      bool         `json:"mixed,omitempty"` // a fleet of two releases
	Plan       string       `json:"plan"`
	Exact      bool         `json:"exact"`
	Seconds    float64      `json:"seconds"`
	Events     int64        `json:"events"` // in the source topic
	Faults     map[Kind]int `json:"faults"` // injected
	Lost       int64        `json:"lost"`   // events that the published counts of windows lack
	Duplicated int64        `json:"duplicated"`
	Recounted  int          `json:"recounted"` // windows that were counted again and are equal
	Refused    int          `json:"refused"`   // windows that cannot be counted again any more, as the schedule explains
	Why        string       `json:"why,omitempty"`
	Logs       string       `json:"logs,omitempty"` // of a seed that failed
}

// Report is what became of all of them.
type Report struct {
	Seeds      []*Outcome   `json:"seeds"`
	Failed     []uint64     `json:"failed"`
	Faults     map[Kind]int `json:"faults"`
	Injected   int          `json:"injected"`
	Events     int64        `json:"events"`
	Lost       int64        `json:"lost"`
	Duplicated int64        `json:"duplicated"`
	Recounted  int          `json:"recounted"`
	Refused    int          `json:"refused"`
	Exact      bool         `json:"exact"`
	Seconds    float64      `json:"seconds"`
}

// summarise adds outcomes up.
func summarise(outcomes []*Outcome) *Report {
	r := &Report{Seeds: outcomes, Failed: []uint64{}, Faults: make(map[Kind]int), Exact: len(outcomes) > 0}
	for _, o := range outcomes {
		if !o.Exact {
			r.Failed, r.Exact = append(r.Failed, o.Seed), false
		}
		for kind, n := range o.Faults {
			r.Faults[kind] += n
			r.Injected += n
		}
		r.Events += o.Events
		r.Lost += o.Lost
		r.Duplicated += o.Duplicated
		r.Recounted += o.Recounted
		r.Refused += o.Refused
		r.Seconds += o.Seconds
	}
	return r
}

// write prints the table of faults, what failed, and the summary as the last line.
func (r *Report) write(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "\n%-20s %8s\n", "FAULT", "INJECTED")
	for _, kind := range Kinds {
		fmt.Fprintf(out, "%-20s %8d\n", kind, r.Faults[kind])
	}
	for _, o := range r.Seeds {
		if !o.Exact {
			target := "chaos"
			if o.Mixed {
				target = "chaos-mixed"
			}
			fmt.Fprintf(out, "FAILED seed %d: run it again with  make %s SEEDS=%d  (logs: %s)\n", o.Seed, target, o.Seed, o.Logs)
		}
	}
	if len(r.Failed) > 0 {
		fmt.Fprintf(out, "%d of %d seeds failed\n", len(r.Failed), len(r.Seeds))
	}
	fmt.Fprintf(out, "chaos: %d seeds, %d faults, %d events, %d lost, %d duplicated, %d windows recounted, %d refused\n",
		len(r.Seeds), r.Injected, r.Events, r.Lost, r.Duplicated, r.Recounted, r.Refused)
	return out.Flush()
}

// line is what is printed about a seed when it is over.
func (o *Outcome) line() string {
	state, faults := "exact", 0
	if !o.Exact {
		state = "FAILED"
	}
	for _, n := range o.Faults {
		faults += n
	}
	why := ""
	if o.Why != "" {
		why = " (" + o.Why + ")"
	}
	return fmt.Sprintf("seed %d: %s in %s, %d faults, %d events, %d lost, %d duplicated, %d windows recounted, %d refused%s", o.Seed, state,
		time.Duration(o.Seconds*float64(time.Second)).Round(time.Second/10), faults, o.Events, o.Lost, o.Duplicated, o.Recounted, o.Refused, why)
}

// count compares the counts of events, the aggregate n of every pipeline here, of all windows and keys.
func (o *Outcome) count(expected, actual []byte) error {
	want, err := counts(expected)
	if err != nil {
		return err
	}
	got, err := counts(actual)
	if err != nil {
		return err
	}
	for at, n := range want {
		o.Lost += max(0, n-got[at])
		o.Duplicated += max(0, got[at]-n)
		delete(got, at)
	}
	for _, n := range got {
		o.Duplicated += n
	}
	return nil
}

func counts(rows []byte) (map[string]int64, error) {
	counts := make(map[string]int64)
	for line := range bytes.Lines(rows) {
		var row struct {
			Window, Start string
			Key           json.RawMessage
			Values        struct{ N int64 }
		}
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, fmt.Errorf("row %q: %w", line, err)
		}
		counts[row.Window+" "+row.Start+" "+string(row.Key)] += row.Values.N
	}
	return counts, nil
}
