package contract

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// ReplayInput starts a Replay, whose workflow id names the pipeline and the replay: replay:<pipeline>:<id>.
type ReplayInput struct {
	Version   int             `json:"version,omitempty"`
	Pipeline  string          `json:"pipeline"`
	From      time.Time       `json:"from,omitzero"`       // start of the first window
	To        time.Time       `json:"to,omitzero"`         // end of the last one at the latest
	Yesterday bool            `json:"yesterday,omitempty"` // instead: the day in UTC before the one of the scheduled time
	Window    string          `json:"window,omitempty"`    // only windows of this name
	Spec      json.RawMessage `json:"spec,omitempty"`      // count with this spec instead of the pipeline's
	Lateness  string          `json:"lateness,omitempty"`  // one of Lateness...; empty: as read
	FromLate  bool            `json:"from_late,omitempty"` // count in what stands in the late topic
	Recount   bool            `json:"recount,omitempty"`   // compare what was published with Kafka, and certify it
	Scope     string          `json:"scope,omitempty"`     // of a recount, one of Scope...; empty: whole, unless that costs too much
	Rate      int64           `json:"rate,omitempty"`      // records a second; 0: as fast as the live pipeline allows
	DryRun    bool            `json:"dry_run,omitempty"`   // end after saying what it would cost
	Unknown   []string        `json:"-"`
	Wrong     string          `json:"-"`
}

const (
	replayFields = "pipeline, from, to, yesterday, window, spec, lateness, from_late, recount, scope, rate, dry_run"
	wantInstant  = "a time as RFC 3339, such as 2001-01-31T00:00:00Z"
	wantRange    = `"from" and "to", or "yesterday": true`
)

// MaxReplayRate bounds the rate of a replay, in records a second.
const MaxReplayRate = 100_000_000

var wantRate = fmt.Sprintf("whole records a second, 1 to %d, or 0 for what a twentieth of a processor folds", MaxReplayRate)

// UnmarshalJSON collects unknown fields, which are refused by name.
func (in *ReplayInput) UnmarshalJSON(data []byte) error {
	type plain ReplayInput
	return decodeKnown(data, (*plain)(in), wants{
		"from": wantInstant, "to": wantInstant, "spec": "a spec as JSON", "rate": wantRate,
	}, &in.Unknown, &in.Wrong)
}

// Validate refuses unknown fields by name and whatever does not go together.
func (in ReplayInput) Validate() error {
	what := in.Kind()
	if err := refuse(what, in.Wrong, in.Unknown, replayFields); err != nil {
		return err
	}
	if in.Pipeline == "" {
		return fmt.Errorf(`%s: pipeline is missing; want {"pipeline":"orders","from":...,"to":...}`, what)
	}
	if err := spec.CheckName(in.Pipeline); err != nil {
		return fmt.Errorf("%s: pipeline: %w", what, err)
	}
	if err := in.checkRange(what); err != nil {
		return err
	}
	switch {
	case in.Lateness != "" && in.Lateness != LatenessAsRead && in.Lateness != LatenessNone:
		return fmt.Errorf("%s: lateness is %q; want %q or %q", what, in.Lateness, LatenessAsRead, LatenessNone)
	case in.FromLate && in.Lateness == LatenessNone:
		return fmt.Errorf("%s: from_late counts in what was late as read; with lateness %q nothing is late: leave one of them out",
			what, LatenessNone)
	case in.Recount && (len(in.Spec) > 0 || in.FromLate || in.Lateness == LatenessNone):
		return fmt.Errorf("%s: a recount counts as the pipeline did: leave out spec, from_late and lateness, or make it a replay", what)
	case in.Scope != "" && !in.Recount:
		return fmt.Errorf("%s: scope is of a recount; leave it out", what)
	case in.Scope != "" && in.Scope != ScopeWhole && in.Scope != ScopeFirstOffset:
		return fmt.Errorf("%s: scope is %q; want %q or %q", what, in.Scope, ScopeWhole, ScopeFirstOffset)
	case in.Rate < 0 || in.Rate > MaxReplayRate:
		return fmt.Errorf("%s: rate is %d; want %s", what, in.Rate, wantRate)
	}
	return nil
}

func (in ReplayInput) checkRange(what string) error {
	given := !in.From.IsZero() || !in.To.IsZero()
	switch {
	case in.Yesterday && given:
		return fmt.Errorf("%s: yesterday is true and from or to is given; want %s", what, wantRange)
	case in.Yesterday:
		return nil
	case in.From.IsZero() || in.To.IsZero():
		return fmt.Errorf("%s: the range is missing; want %s", what, wantRange)
	case !in.From.Before(in.To):
		return fmt.Errorf("%s: from is %s and to is %s; want a range that ends after its start", what,
			in.From.UTC().Format(time.RFC3339), in.To.UTC().Format(time.RFC3339))
	}
	return nil
}

// Kind is what people call it.
func (in ReplayInput) Kind() string {
	if in.Recount {
		return recountFor
	}
	return "replay"
}

// Late is which events of the range are late.
func (in ReplayInput) Late() string {
	if in.Lateness == "" {
		return LatenessAsRead
	}
	return in.Lateness
}

// Range is the range that is asked for. scheduled is when a schedule has started the workflow, or when somebody has.
func (in ReplayInput) Range(scheduled time.Time) (from, to time.Time) {
	if !in.Yesterday {
		return in.From.UTC(), in.To.UTC()
	}
	const day = 24 * time.Hour
	to = scheduled.UTC().Truncate(day)
	return to.Add(-day), to
}

// replayIDPattern is what may stand behind the pipeline's name in the id of a Replay. It becomes part of the names of keys in Redis. A
// schedule appends a time to the id that it is given.
var replayIDPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$`)

// CheckReplayID returns an error that says what would be valid when a replay cannot have this id.
func CheckReplayID(id string) error {
	if !replayIDPattern.MatchString(id) {
		return fmt.Errorf("%q is not an id of a replay; want 1 to 100 of A-Z a-z 0-9 . _ : -, a letter or digit first", id)
	}
	return nil
}

// ReplayRef names a replay, and the shadow that it reads with.
type ReplayRef struct {
	Pipeline string `json:"pipeline"`
	ID       string `json:"id"`
}

// ReplayAsk is what a Replay asks its activities: its input with the range worked out.
type ReplayAsk struct {
	ReplayRef
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Window   string    `json:"window,omitempty"`
	Lateness string    `json:"lateness"`
	FromLate bool      `json:"from_late,omitempty"`
	Recount  bool      `json:"recount,omitempty"`
	Scope    string    `json:"scope,omitempty"`
	Rate     int64     `json:"rate,omitempty"`
}

// PlanReplayInput asks what a replay would read, and whether it can be made.
type PlanReplayInput struct {
	Ask  ReplayAsk       `json:"ask"`
	Spec json.RawMessage `json:"spec,omitempty"` // to count with; nil: the pipeline's
}

// PlannedReplay is the plan with the specs that it was made for: what follows uses them, whatever the pipeline is started with
// meanwhile.
type PlannedReplay struct {
	Plan ReplayPlan      `json:"plan"`
	Own  json.RawMessage `json:"own"`  // of the pipeline
	Spec json.RawMessage `json:"spec"` // to count with
}

// ReplayPlan says what a replay reads and what that costs.
type ReplayPlan struct {
	Windows    int               `json:"windows"`             // of the range that are counted again
	First      *report.WindowRef `json:"first,omitempty"`     // of the windows
	Last       *report.WindowRef `json:"last,omitempty"`      // of the windows
	Records    int64             `json:"records"`             // to read
	Bytes      int64             `json:"bytes,omitempty"`     // of them, as far as can be told beforehand
	RedisBytes int64             `json:"redis_bytes"`         // most that the shadow will hold, estimated
	Seconds    int64             `json:"seconds"`             // that reading will take, estimated
	Rate       int64             `json:"rate,omitempty"`      // records a second that the estimate assumes
	Scope      string            `json:"scope,omitempty"`     // of a recount
	SpecSame   bool              `json:"spec_same,omitempty"` // it counts with the spec that has published the windows
	Lanes      []ReplayLane      `json:"lanes,omitempty"`     // at most MaxReplayLanes
	More       int               `json:"more,omitempty"`      // lanes left out
	Notes      []string          `json:"notes,omitempty"`

	LeftOut int          `json:"left_out,omitempty"` // windows of the range that cannot be counted again
	Why     []LeftWindow `json:"why,omitempty"`      // the first MaxLeftWindows of them
}

// LeftWindow is a window that cannot be counted again, and why.
type LeftWindow struct {
	Window *report.WindowRef `json:"window,omitempty"` // nil: all of them
	Reason string            `json:"reason"`
	Detail string            `json:"detail"`
}

// String is the reason for a person.
func (w LeftWindow) String() string {
	if w.Window == nil {
		return w.Detail
	}
	return w.Window.String() + ": " + w.Detail
}

// ReplayLane is what a replay reads of one partition.
type ReplayLane struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Start     int64  `json:"start"`
	End       int64  `json:"end"` // the first offset that is not read
}

// Bounds of what a Replay says.
const (
	MaxReplayLanes    = 100
	MaxLeftWindows    = 20       // windows that a plan says why they are left out
	MaxDifferences    = 50       // windows in a summary
	MaxWrongDetail    = 400      // bytes of what is wrong with a place
	MaxDiffPage       = 64 << 10 // bytes of a page of a diff
	MaxDiffPages      = 100      // pages that a run shows through its history
	ReplayRevealEvery = 10       // lanes shown on the page of the workflow
)

// ReplayRangeInput reads a range in a shadow.
type ReplayRangeInput struct {
	Ask  ReplayAsk       `json:"ask"`
	Own  json.RawMessage `json:"own"`
	Spec json.RawMessage `json:"spec"`
}

// ReplayProgress is how far a ReplayRange has come: the details of its heartbeats.
type ReplayProgress struct {
	Read    int64            `json:"read"`    // of Records
	Records int64            `json:"records"` // to read, in all
	Rate    float64          `json:"records_per_second"`
	Limit   int64            `json:"limit,omitempty"` // of the rate; 0: none
	Windows int              `json:"windows"`         // to compare, in all
	Done    int              `json:"done"`            // windows compared
	Waits   string           `json:"waits,omitempty"` // what it waits for, one line
	Worker  string           `json:"worker,omitempty"`
	Lanes   []ReplayLanePart `json:"lanes,omitempty"` // those with most to read first, at most MaxReplayLanes
	More    int              `json:"more,omitempty"`  // lanes left out
}

// ReplayLanePart is how far one lane of a shadow has come.
type ReplayLanePart struct {
	ReplayLane
	Offset int64   `json:"offset"` // next to read, as committed
	Rate   float64 `json:"records_per_second"`
}

// Percent is the part that is read, rounded down; 100 only at the end.
func (p ReplayProgress) Percent() int {
	if p.Records <= 0 {
		return 0
	}
	return int(min(100, 100*p.Read/p.Records))
}

// Remaining is how long the rest will take at the present rate; 0 when that cannot be told.
func (p ReplayProgress) Remaining() time.Duration {
	if p.Rate <= 0 || p.Read >= p.Records {
		return 0
	}
	return time.Duration(float64(p.Records-p.Read) / p.Rate * float64(time.Second)).Round(time.Second)
}

// String is the progress in one line.
func (p ReplayProgress) String() string {
	text := fmt.Sprintf("%d %% read, %d of %d records at %.0f/s", p.Percent(), p.Read, p.Records, p.Rate)
	if p.Limit > 0 {
		text += fmt.Sprintf(" (limit %d/s)", p.Limit)
	}
	if left := p.Remaining(); left > 0 {
		text += ", " + left.String() + " left"
	}
	text += fmt.Sprintf("; %d of %d windows compared", p.Done, p.Windows)
	if p.Waits != "" {
		text += "; it waits: " + p.Waits
	}
	return text
}
