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
	More    int       `json:"more,omitempty"`    // how many others of this kind its source knows of and does not name
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

// NewStanding sums up the conditions of a pipeline. phase is what the operator wants (StateRunning, StatePaused, ...), lanes the
// number of lanes of the pipeline, 0 when it is not known. The first line speaks of the worst kind; the others follow as a count.
func NewStanding(pipeline, phase string, lanes int, conditions []Condition, now time.Time) Standing {
	conditions = dropCovered(dropRepeated(conditions))
	slices.SortStableFunc(conditions, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), compareSubjects(a.Subject, b.Subject))
	})
	s := Standing{Line: phase, Healthy: true}
	for _, c := range conditions {
		s.Healthy = s.Healthy && HealthyKind(c.Kind)
	}
	all := 0
	//workflowcheck:ignore a sum does not depend on the order
	for _, n := range CountKinds(conditions) {
		all += n
	}
	if len(conditions) > 0 {
		s.Line = firstLine(pipeline, phase, lanes, conditions, all, now)
	}
	for i := range conditions {
		if c := &conditions[i]; c.Kind == ConditionLaneParked && c.Command == "" {
			c.Command = recoverLs(pipeline)
		}
	}
	s.Conditions = conditions[:min(len(conditions), MaxConditions)]
	s.More = all - len(s.Conditions)
	return s
}

// CountKinds counts conditions by kind, one that several sources know of once. What a source does not name may be what another
// one names; a condition without a command is such a one, because whoever asks for a decision names the command.
func CountKinds(conditions []Condition) map[string]int {
	counts, unnamed, uncommanded := make(map[string]int), make(map[string]int), make(map[string]int)
	for _, c := range dropRepeated(conditions) {
		counts[c.Kind]++
		unnamed[c.Kind] += c.More
		if c.Command == "" {
			uncommanded[c.Kind]++
		}
	}
	//workflowcheck:ignore sums do not depend on the order
	for kind, more := range unnamed {
		counts[kind] += max(0, more-uncommanded[kind])
	}
	return counts
}

// recoverLs is the command that lists the recoveries of a pipeline, those that ask first of all.
func recoverLs(pipeline string) string { return "millrace recover ls " + pipeline }

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

// dropRepeated keeps the first condition of each kind and subject, with the first command that one of them names: two sources may
// know of one thing. The input is not changed.
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
		default:
			kept[i].Command = cmp.Or(kept[i].Command, c.Command)
			kept[i].More = max(kept[i].More, c.More)
		}
	}
	return kept
}

// dropCovered leaves out the override of a worker where the order on all workers means the same. The input is not changed.
func dropCovered(conditions []Condition) []Condition {
	return slices.DeleteFunc(slices.Clone(conditions), func(c Condition) bool {
		dependency, _, ofWorker := strings.Cut(c.Subject, onWorker)
		return ofWorker && (c.Kind == ConditionOverride || c.Kind == ConditionClosingSuspended) &&
			slices.ContainsFunc(conditions, func(o Condition) bool { return o.Kind == c.Kind && o.Subject == dependency })
	})
}

// onWorker stands between a dependency and a worker in a subject.
const onWorker = " on "

// firstLine renders the line of the worst kind. all is the number of conditions, those included that nobody names; what the line
// does not speak of follows as a count.
func firstLine(pipeline, phase string, lanes int, conditions []Condition, all int, now time.Time) string {
	worst := conditions[0]
	state, known := stuckState(worst.Kind)
	if !known {
		return phase
	}
	same := conditions
	if i := slices.IndexFunc(conditions, func(c Condition) bool { return c.Kind != worst.Kind }); i > 0 {
		same = conditions[:i]
	}
	count, told := CountKinds(same)[worst.Kind], 1
	if strings.Contains(state.Line, "{lanes}") {
		told = count
	}
	text := state.Line
	if worst.Reason == "" {
		text = strings.NewReplacer(": {reason}", "", " ({reason})", "", "({reason}) ", "").Replace(text)
	}
	line := strings.NewReplacer("{phase}", phase, "{lanes}", countLanes(count, lanes), "{subject}", worst.Subject,
		"{reason}", shortReason(worst.Reason), "{since}", sinceText(worst.Since, now), "{command}", worst.Command,
		"{decide}", decideText(pipeline, same)).Replace(text)
	if others := all - told; others > 0 {
		line += fmt.Sprintf("; and %d more", others)
	}
	return line
}

// countLanes is "1 of 4 lanes", or "1 lane" where nobody knows how many there are.
func countLanes(n, of int) string {
	switch {
	case of > 0:
		return fmt.Sprintf("%d of %d lanes", n, of)
	case n == 1:
		return "1 lane"
	}
	return fmt.Sprintf("%d lanes", n)
}

// decideText says where to decide about lanes: the one recovery that asks, or the list of them where several do, or none has
// told yet that it does.
func decideText(pipeline string, parked []Condition) string {
	var asking []string
	for _, c := range parked {
		if c.Command != "" && !slices.Contains(asking, c.Command) {
			asking = append(asking, c.Command)
		}
	}
	switch len(asking) {
	case 0:
		return "see `" + recoverLs(pipeline) + "`"
	case 1:
		return "decide with `" + asking[0] + "`"
	}
	return fmt.Sprintf("%d recoveries ask, see `%s`", len(asking), recoverLs(pipeline))
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
