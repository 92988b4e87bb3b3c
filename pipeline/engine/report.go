package engine

import (
	"cmp"
	"slices"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// Bounds of reports, so that they fit the control plane whatever the number of lanes.
const (
	maxRows    = 200 // lanes of a batch up to which each has a row
	slowRows   = 100 // beyond: the slowest
	maxTrouble = 100 // and those in trouble
	maxDetail  = 300 // bytes of an error
)

// StepReport sums up one step of a batch.
type StepReport struct {
	Batch   int64     `json:"batch"`
	Step    string    `json:"step"`
	By      string    `json:"by,omitempty"`
	Lanes   int       `json:"lanes"`
	Done    int       `json:"done"`
	Parked  int       `json:"parked"` // in this step or before
	Gone    int       `json:"gone"`
	Slices  int       `json:"slices"`
	Entries int64     `json:"entries"`
	Bytes   int64     `json:"bytes"`
	Reread  int64     `json:"reread"`
	Commits int64     `json:"commits"` // brought home from journals
	Started time.Time `json:"started,omitzero"`
	Ms      float64   `json:"ms"`   // from the first lane's start to the last lane's end
	Busy    float64   `json:"busy"` // ms of all lanes together
	Slowest string    `json:"slowest,omitempty"`
	Most    float64   `json:"most"` // ms of the slowest lane
	Trouble []Trouble `json:"trouble,omitempty"`
}

// Trouble is a lane that did not get through a step, or needed more than one try.
type Trouble struct {
	Lane     string `json:"lane"`
	Incident string `json:"incident,omitempty"` // kind
	Error    string `json:"error,omitempty"`
	Tries    int    `json:"tries"`
}

// LaneReport is one lane of a batch.
type LaneReport struct {
	Lane      string               `json:"lane"`
	Token     store.Token          `json:"token,omitempty"` // of the acquisition
	Outcome   string               `json:"outcome,omitempty"`
	From      int64                `json:"from"` // epoch of the owner before
	To        int64                `json:"to"`   // epoch of the new owner
	Entries   int64                `json:"entries"`
	Bytes     int64                `json:"bytes"`
	Committed int64                `json:"committed"`
	Start     int64                `json:"start"`
	LogStart  int64                `json:"log_start"`
	LogEnd    int64                `json:"log_end"`
	Reread    int64                `json:"reread"`
	Steps     map[string]float64   `json:"steps"` // ms
	Tries     int                  `json:"tries"` // of the step that needed most
	Journal   *report.SettledChain `json:"journal,omitempty"`
	Decision  *lane.Decision       `json:"decision,omitempty"`
	Incident  *lane.Incident       `json:"incident,omitempty"`
	Error     string               `json:"error,omitempty"`

	ms float64
}

// BatchReport is everything recorded of a batch. Sums are exact; of more than 200 lanes only the slowest and those in
// trouble have rows.
type BatchReport struct {
	Batch
	Closed  time.Time    `json:"closed,omitzero"` // zero while lanes are under way
	Count   int          `json:"count"`
	Resumed int          `json:"resumed"`
	Parked  int          `json:"parked"`
	Gone    int          `json:"gone"`
	By      string       `json:"by"` // temporal, inline or mixed
	Steps   []StepReport `json:"steps"`
	Rows    []LaneReport `json:"rows"`
	Cut     int          `json:"cut,omitempty"` // lanes without a row
}

// step sums up one step.
func (b *batch) step(name string) StepReport {
	i := slices.Index(lane.Steps[:], name)
	b.r.mu.Lock()
	if b.final != nil {
		defer b.r.mu.Unlock()
		return b.final.Steps[i]
	}
	r := StepReport{Batch: b.ID, Step: name, By: b.by[name], Lanes: len(b.lanes)}
	lanes := b.lanes
	b.r.mu.Unlock()
	var end time.Time
	for _, a := range lanes {
		steps, outcome := a.Results()
		s := &steps[i]
		if s.Done && s.Error == "" {
			r.Done++
		}
		if !s.Done || s.Incident != nil {
			switch outcome {
			case lane.OutcomeParked:
				r.Parked++
			case lane.OutcomeGone:
				r.Gone++
			}
		}
		r.Slices += s.Slices
		r.Entries += s.Entries
		r.Bytes += s.Bytes
		r.Reread += s.Reread
		if s.Journal != nil {
			r.Commits += s.Journal.Commits
		}
		r.Busy += s.Ms
		if s.Tries > 0 {
			if r.Started.IsZero() || s.Started.Before(r.Started) {
				r.Started = s.Started
			}
			if last := s.Started.Add(time.Duration(s.Ms * float64(time.Millisecond))); last.After(end) {
				end = last
			}
		}
		if r.Slowest == "" || s.Ms > r.Most {
			r.Slowest, r.Most = s.Lane, s.Ms
		}
		if (s.Error != "" || s.Tries > 1) && len(r.Trouble) < maxTrouble {
			t := Trouble{Lane: s.Lane, Error: cut(s.Error), Tries: s.Tries}
			if s.Incident != nil {
				t.Incident = s.Incident.Kind
			}
			r.Trouble = append(r.Trouble, t)
		}
	}
	if !r.Started.IsZero() {
		r.Ms = float64(end.Sub(r.Started).Microseconds()) / 1000
	}
	return r
}

// describe returns everything recorded.
func (b *batch) describe() BatchReport {
	b.r.mu.Lock()
	if b.final != nil {
		defer b.r.mu.Unlock()
		return *b.final
	}
	if b.MidRun {
		defer b.r.mu.Unlock()
		return b.describeParked()
	}
	out := BatchReport{Batch: b.Batch, Closed: b.closed, Count: len(b.lanes)}
	out.Lanes = nil // the rows name them
	lanes := b.lanes
	b.r.mu.Unlock()
	for _, name := range lane.Steps {
		s := b.step(name)
		out.Steps = append(out.Steps, s)
		switch {
		case s.By == "" || name == lane.StepResume:
		case out.By == "":
			out.By = s.By
		case out.By != s.By:
			out.By = "mixed"
		}
	}
	for _, a := range lanes {
		row := describeLane(a)
		switch row.Outcome {
		case lane.OutcomeResumed:
			out.Resumed++
		case lane.OutcomeParked:
			out.Parked++
		case lane.OutcomeGone:
			out.Gone++
		}
		out.Rows = append(out.Rows, row)
	}
	out.bound()
	return out
}

// bound keeps the rows that a report has room for, by the names of the lanes.
func (r *BatchReport) bound() {
	if len(r.Rows) > maxRows {
		slices.SortFunc(r.Rows, func(x, y LaneReport) int { return cmp.Compare(y.ms, x.ms) })
		kept, troubled := r.Rows[:slowRows:slowRows], 0
		for _, row := range r.Rows[slowRows:] {
			if row.Outcome != lane.OutcomeResumed && troubled < maxTrouble {
				kept = append(kept, row)
				troubled++
			}
		}
		r.Cut = len(r.Rows) - len(kept)
		r.Rows = kept
	}
	slices.SortFunc(r.Rows, func(x, y LaneReport) int { return cmp.Compare(x.Lane, y.Lane) })
}

func describeLane(a *lane.Acquisition) LaneReport {
	steps, outcome := a.Results()
	row := LaneReport{
		Lane: a.Lane().String(), Token: a.Token(), Outcome: outcome, Committed: -1, Start: -1, LogStart: -1, LogEnd: -1, Steps: make(map[string]float64),
	}
	for i := range steps {
		s := &steps[i]
		if s.Tries == 0 {
			continue
		}
		row.To, row.ms = s.Epoch, row.ms+s.Ms
		row.Steps[s.Step] = s.Ms
		row.Tries = max(row.Tries, s.Tries)
		row.Committed, row.Start = max(row.Committed, s.Committed), max(row.Start, s.Start)
		row.LogStart, row.LogEnd = max(row.LogStart, s.LogStart), max(row.LogEnd, s.LogEnd)
		row.Reread += s.Reread
		if s.Error != "" {
			row.Error = cut(s.Error)
		}
		if s.Journal != nil {
			row.Journal = s.Journal
		}
		if s.Decision != nil {
			row.Decision = s.Decision
		}
		if s.Incident != nil {
			row.Incident = s.Incident
		}
		switch s.Step {
		case lane.StepAcquire:
			row.From = s.From
		case lane.StepRestore:
			row.Entries, row.Bytes = s.Entries, s.Bytes
		}
	}
	return row
}

func cut(text string) string {
	if len(text) > maxDetail {
		return text[:maxDetail]
	}
	return text
}
