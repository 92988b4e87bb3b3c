package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Condition is one thing that keeps a pipeline from its work, or that a person should know of.
type Condition struct {
	Kind    string    `json:"kind"`              // one of the kinds in StuckStates
	Subject string    `json:"subject,omitempty"` // the lane, window, worker, dependency or workflow concerned
	Reason  string    `json:"reason,omitempty"`  // one line
	Since   time.Time `json:"since,omitzero"`    // zero when nobody knows
	Until   time.Time `json:"until,omitzero"`    // when it ends by itself; zero when it does not, or when that is not known
	Command string    `json:"command,omitempty"` // leads out
}

// Standing is how a pipeline, or a process, is: one line, whether that is well, and the conditions behind it.
type Standing struct {
	Line       string      `json:"line"`
	Healthy    bool        `json:"healthy"`              // data flows and windows close, or an operator wants it otherwise
	Conditions []Condition `json:"conditions,omitempty"` // the worst first, at most MaxConditions
	More       int         `json:"more,omitempty"`       // conditions left out of the list
}

// MaxConditions bounds the conditions that travel or are shown together.
const MaxConditions = 100

// NewStanding sums conditions up. phase is what the operator wants (StateRunning, StatePaused, ...), lanes the number of lanes of
// the pipeline, 0 when it is not known. The first line speaks of the worst kind; the others follow as a count.
func NewStanding(phase string, lanes int, conditions []Condition, now time.Time) Standing {
	conditions = dropRepeated(conditions)
	slices.SortStableFunc(conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), compareSubjects(a.Subject, b.Subject))
	})
	s := Standing{Line: phase, Healthy: true}
	for _, c := range conditions {
		s.Healthy = s.Healthy && HealthyKind(c.Kind)
	}
	if len(conditions) > 0 {
		s.Line = firstLine(phase, lanes, conditions, now)
	}
	s.Conditions = conditions[:min(len(conditions), MaxConditions)]
	s.More = len(conditions) - len(s.Conditions)
	return s
}

// compareSubjects orders lanes by topic and then by the number of their partition, and everything else as text.
func compareSubjects(a, b string) int {
	topicA, partitionA, isLaneA := cutPartition(a)
	topicB, partitionB, isLaneB := cutPartition(b)
	if isLaneA && isLaneB && topicA == topicB {
		return cmp.Compare(partitionA, partitionB)
	}
	return cmp.Compare(a, b)
}

func cutPartition(lane string) (topic string, partition int, ok bool) {
	topic, number, found := cutLast(lane, "/")
	partition, err := strconv.Atoi(number)
	return topic, partition, found && err == nil
}

// dropRepeated keeps one condition per kind and subject: the one that names a command, else the first. Two sources may know of
// one thing.
func dropRepeated(conditions []Condition) []Condition {
	type key struct{ kind, subject string }
	at := make(map[key]int, len(conditions))
	kept := make([]Condition, 0, len(conditions))
	for _, c := range conditions {
		i, known := at[key{c.Kind, c.Subject}]
		switch {
		case !known:
			at[key{c.Kind, c.Subject}] = len(kept)
			kept = append(kept, c)
		case kept[i].Command == "" && c.Command != "":
			kept[i].Command = c.Command
		}
	}
	return kept
}

// firstLine renders the line of the worst kind and says how many other conditions there are.
func firstLine(phase string, lanes int, conditions []Condition, now time.Time) string {
	worst := conditions[0]
	state, known := stuckState(worst.Kind)
	if !known {
		return phase
	}
	same := 0
	for _, c := range conditions {
		if c.Kind == worst.Kind {
			same++
		}
	}
	count := fmt.Sprint(same)
	if lanes > 0 {
		count = fmt.Sprintf("%d of %d", same, lanes)
	}
	text := state.Line
	if worst.Reason == "" {
		text = strings.NewReplacer(": {reason}", "", " ({reason})", "", "({reason}) ", "").Replace(text)
	}
	line := strings.NewReplacer("{phase}", phase, "{n}", count, "{subject}", worst.Subject, "{reason}", shortReason(worst.Reason),
		"{since}", sinceText(worst.Since, now), "{command}", worst.Command).Replace(text)
	if others := len(conditions) - same; others > 0 {
		line += fmt.Sprintf("; and %d more", others)
	}
	return line
}

// lineLimit bounds the reason inside a first line, in bytes; the whole reason stands with its condition.
const lineLimit = 120

// shortReason is the first line of a reason, cut at lineLimit.
func shortReason(reason string) string {
	reason, _, _ = strings.Cut(reason, "\n")
	if len(reason) > lineLimit {
		reason = strings.ToValidUTF8(reason[:lineLimit], "") + "..."
	}
	return reason
}

// sinceText is the time of day in UTC, with the date unless it is today's.
func sinceText(since, now time.Time) string {
	since = since.UTC()
	switch {
	case since.IsZero():
		return "an unknown time"
	case since.Format(time.DateOnly) == now.UTC().Format(time.DateOnly):
		return since.Format("15:04:05")
	}
	return since.Format("2006-01-02 15:04:05")
}
