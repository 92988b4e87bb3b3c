package plan

import (
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/window"
)

// Reasons why a window, or a whole request, is refused.
const (
	ReasonRange       = "range"        // no window lies in the range, or a family is unknown
	ReasonNotFinal    = "not-final"    // lanes may still revise the window
	ReasonTombstoned  = "tombstoned"   // the ledger has given the window's row up
	ReasonTrimmed     = "log-trimmed"  // the log no longer holds what has to be read
	ReasonTruncated   = "log-cut"      // the log ends below what the row covers
	ReasonCompacted   = "compacted"    // the source topic keeps only the last record of each key
	ReasonOtherTopic  = "other-topic"  // the topic was deleted and made again
	ReasonOtherTopics = "other-topics" // the spec that counts reads other topics
	ReasonEra         = "era"          // a lane got another past in between
	ReasonControl     = "control"      // it is not known under which seals a lane decided
	ReasonNotExact    = "not-exact"    // the row does not say exactly which events it holds
	ReasonNoLate      = "no-late"      // there is no late topic to count from
	ReasonVersion     = "version"      // a row of a version without anchors
	ReasonCorrected   = "corrected"    // a replay has published what a recount does not count
)

// Refusal says why a window, or everything when Window is empty, cannot be counted again, and what can be done.
type Refusal struct {
	Window string `json:"window,omitempty"`
	Start  int64  `json:"start,omitempty"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	// Earliest is where the windows begin that the log still holds whole, ms; 0 when the reason is another.
	Earliest int64 `json:"earliest,omitempty"`
}

// String is the refusal for people.
func (r Refusal) String() string {
	if r.Window == "" {
		return r.Detail
	}
	return ledger.WindowID{Window: r.Window, Start: r.Start}.String() + ": " + r.Detail
}

// RefusedError says that nothing of what was asked for can be counted again.
type RefusedError struct{ Refusals []Refusal }

// refusedError puts the windows last that only have to be waited for: what keeps the others out is what is to be known.
func refusedError(refusals []Refusal) *RefusedError {
	slices.SortStableFunc(refusals, func(a, b Refusal) int {
		switch open := a.Reason == ReasonNotFinal; {
		case open == (b.Reason == ReasonNotFinal):
			return 0
		case open:
			return 1
		}
		return -1
	})
	return &RefusedError{Refusals: refusals}
}

// shownRefusals is how many refusals an error's text holds.
const shownRefusals = 3

func (e *RefusedError) Error() string {
	var b strings.Builder
	b.WriteString("nothing can be counted again")
	for i, r := range e.Refusals {
		if i == shownRefusals {
			fmt.Fprintf(&b, "; and %d more windows", len(e.Refusals)-i)
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep)
		b.WriteString(r.String())
	}
	return b.String()
}

// Reason is the reason of the first refusal.
func (e *RefusedError) Reason() string {
	if len(e.Refusals) == 0 {
		return ""
	}
	return e.Refusals[0].Reason
}

func refuseAll(reason, format string, args ...any) error {
	return &RefusedError{Refusals: []Refusal{{Reason: reason, Detail: fmt.Sprintf(format, args...)}}}
}

func refuse(id ledger.WindowID, reason, format string, args ...any) *Refusal {
	return &Refusal{Window: id.Window, Start: id.Start, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func refuseTrimmed(id ledger.WindowID, f *Facts, earliest int64) *Refusal {
	r := refuse(id, ReasonTrimmed, "the log of %s/%d begins at offset %d, and records of the window lay below it",
		f.Topic, f.Partition, f.LogStart)
	if earliest != window.NoTime {
		r.Earliest = earliest
		r.Detail += "; windows that begin at " + window.FormatTime(earliest) + " or later can be counted again"
	}
	return r
}
