package contract

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/report"
)

// CarryOutJob asks a pipeline's closer for something beside closing: it alone writes to the slots of the ledger while the pipeline
// runs. A job that was carried out gives the same answer again.
type CarryOutJob struct {
	ID       string          `json:"id"`
	Kind     string          `json:"kind"` // one of Job...
	Pipeline string          `json:"pipeline"`
	ReplyTo  string          `json:"reply_to"`         // workflow that is told with SignalCarriedOut
	Spec     json.RawMessage `json:"spec,omitempty"`   // of the pipeline
	Body     json.RawMessage `json:"body,omitempty"`   // names and ranges, never rows; at most MaxJobBody
	Report   *JobReport      `json:"report,omitempty"` // what earlier runs of it have booked; the closer fills it in
	Trace    string          `json:"trace,omitempty"`  // W3C trace context of whoever asks, where that is traced

	// Tries is how often the job is tried before the next one gets its turn, 0 for ever; Trouble is why it has not succeeded then.
	// The closer fills them in.
	Tries   int    `json:"tries,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// Bounds of what a closer keeps of jobs, so that its state stays well below what Temporal takes.
const (
	MaxJobs       = 20       // that wait to be carried out
	JobTries      = 5        // of a job that fails, until the next one gets its turn
	MaxJobAnswers = 3        // the latest, in case one was lost on its way
	MaxJobBody    = 64 << 10 // bytes
	maxJobProblem = 300      // bytes of a window's problem
)

// ShadowJob is the body of a job about what a replay has found.
type ShadowJob struct {
	Replay   string `json:"replay"`   // its id
	Checksum string `json:"checksum"` // of the diff
	Lateness string `json:"lateness"` // as-read, none or from-late
	Scope    string `json:"scope,omitempty"`
	Reason   string `json:"reason,omitempty"` // of the approval
}

// RollupJob is the body of a job that rolls final windows up.
type RollupJob struct {
	UpperBound int64 `json:"upper_bound"` // ms: windows that end at or before it
}

// CarriedOut says what became of a job.
type CarriedOut struct {
	ID      string     `json:"id"`
	Report  *JobReport `json:"report,omitempty"`
	Problem string     `json:"problem,omitempty"` // why it cannot be carried out; final

	// Unfinished means that it was called off before it was done, or, with Trouble, that it has failed so often that others come
	// first; whoever asked for it is told about Trouble, and waits on.
	Unfinished bool   `json:"unfinished,omitempty"`
	Trouble    string `json:"trouble,omitempty"`
}

// JobReport is what a job came to, window by window.
type JobReport struct {
	Counts  []JobCount      `json:"counts,omitempty"`  // windows by outcome, those that a person should look at first
	Windows []CarriedWindow `json:"windows,omitempty"` // at most MaxCarried, those that were not done first
	More    int             `json:"more,omitempty"`    // windows left out of the list
	Rollup  *report.Rollup  `json:"rollup,omitempty"`  // of a job that rolls windows up, once it is done

	Families []CarriedFamily `json:"families,omitempty"` // counts by family, over all attempts
}

// JobCount is how many windows had an outcome.
type JobCount struct {
	Outcome string `json:"outcome"` // one of Carried...
	Windows int    `json:"windows"`
}

// CarriedFamily counts the windows of a family by what became of them.
type CarriedFamily struct {
	Name      string `json:"name"`
	First     int    `json:"first,omitempty"`     // published for the first time
	Corrected int    `json:"corrected,omitempty"` // published again
	Moved     int    `json:"moved,omitempty"`
	Failed    int    `json:"failed,omitempty"`
	Gone      int    `json:"gone,omitempty"`  // nothing was left to be archived
	Bytes     int64  `json:"bytes,omitempty"` // of the files that were archived
}

// CarriedWindow is what became of one window.
type CarriedWindow struct {
	report.WindowRef
	Outcome  string `json:"outcome"` // one of Carried...
	Revision int    `json:"revision,omitempty"`
	Problem  string `json:"problem,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"` // of the file in which it was archived

	// Rollup is what a job that rolls windows up has come to; then this is about no window.
	Rollup *report.Rollup `json:"rollup,omitempty"`
}

// MaxCarried bounds the windows in a JobReport.
const MaxCarried = 500

// carriedRank orders outcomes, those that a person should look at first.
func carriedRank(outcome string) int {
	return slices.Index([]string{
		CarriedFailed, CarriedMoved, CarriedGone, CarriedPublished, CarriedCertified, CarriedUnchanged, CarriedBefore,
	}, outcome)
}

// lookedAtFirst reports whether a person should look at windows with this outcome before others.
func lookedAtFirst(outcome string) bool { return carriedRank(outcome) <= carriedRank(CarriedMoved) }

// Count is how many windows had an outcome.
func (r JobReport) Count(outcome string) int {
	for _, c := range r.Counts {
		if c.Outcome == outcome {
			return c.Windows
		}
	}
	return 0
}

// Booked is how many windows the report is about.
func (r *JobReport) Booked() int {
	n := 0
	if r != nil {
		for _, c := range r.Counts {
			n += c.Windows
		}
	}
	return n
}

// Clone is a report of its own.
func (r *JobReport) Clone() *JobReport {
	return &JobReport{
		Counts: slices.Clone(r.Counts), Windows: slices.Clone(r.Windows), More: r.More, Rollup: r.Rollup, Families: slices.Clone(r.Families),
	}
}

// String counts the windows by outcome in one line.
func (r JobReport) String() string {
	var parts []string
	for _, c := range r.Counts {
		parts = append(parts, fmt.Sprintf("%d %s", c.Windows, c.Outcome))
	}
	if len(parts) == 0 {
		return "no window"
	}
	return strings.Join(parts, ", ")
}

// Add books what became of a window.
func (r *JobReport) Add(w CarriedWindow) {
	if w.Rollup != nil {
		r.Rollup = w.Rollup
		return
	}
	r.count(w.Outcome)
	r.countFamily(w)
	w.Problem = cutTo(w.Problem, maxJobProblem)
	at := len(r.Windows)
	if lookedAtFirst(w.Outcome) {
		if other := slices.IndexFunc(r.Windows, func(o CarriedWindow) bool { return !lookedAtFirst(o.Outcome) }); other >= 0 {
			at = other
		}
	}
	r.Windows = slices.Insert(r.Windows, at, w)
	if len(r.Windows) > MaxCarried {
		r.Windows = r.Windows[:MaxCarried]
		r.More++
	}
}

func (r *JobReport) countFamily(w CarriedWindow) {
	at := slices.IndexFunc(r.Families, func(f CarriedFamily) bool { return f.Name == w.Window })
	if at < 0 {
		at = len(r.Families)
		r.Families = append(r.Families, CarriedFamily{Name: w.Window})
	}
	f := &r.Families[at]
	switch {
	case w.Outcome == CarriedPublished && w.Revision <= 1:
		f.First++
	case w.Outcome == CarriedPublished:
		f.Corrected++
	case w.Outcome == CarriedMoved:
		f.Moved++
	case w.Outcome == CarriedFailed:
		f.Failed++
	case w.Outcome == CarriedGone:
		f.Gone++
	}
	f.Bytes += w.Bytes
}

func (r *JobReport) count(outcome string) {
	for i := range r.Counts {
		if r.Counts[i].Outcome == outcome {
			r.Counts[i].Windows++
			return
		}
	}
	r.Counts = append(r.Counts, JobCount{outcome, 1})
	slices.SortFunc(r.Counts, func(a, b JobCount) int { return cmp.Compare(carriedRank(a.Outcome), carriedRank(b.Outcome)) })
}
