package contract

import (
	"fmt"
	"strings"
	"time"

	"millrace/pipeline/report"
)

// laneStateParked and laneStateBlocked are states of lanes, as the hot path names them.
const (
	laneStateParked  = "parked"
	laneStateBlocked = "blocked"
)

// ChildConditions says what of a child's state a person should know. It understands the pipeline's children and the recoveries,
// degradations and journal replays that report to it. journal says that the pipeline's lanes overflow into a journal.
func ChildConditions(pipeline string, journal bool, c ChildState) []Condition {
	one := func(kind, subject, reason, command string) []Condition {
		return []Condition{{Kind: kind, Subject: subject, Reason: reason, Since: c.Since, Command: command}}
	}
	switch {
	case strings.HasPrefix(c.ID, RecoverLanesPrefix(pipeline)):
		return recoveryConditions(pipeline, c)
	case strings.HasPrefix(c.ID, DegradePrefix(pipeline)):
		return degradeConditions(pipeline, journal, c)
	case strings.HasPrefix(c.ID, replayWALPrefix(pipeline)):
		switch c.State {
		case StateDeciding:
			return one(ConditionJournalAsks, c.ID, c.Note, fmt.Sprintf("millrace wal decide %s CHOICE --disk %s", pipeline,
				strings.TrimPrefix(c.ID, replayWALPrefix(pipeline))))
		case StateHostGone:
			return one(ConditionJournalWaits, c.ID, c.Note, "")
		}
		return nil
	case c.ID == CompactID(pipeline):
		return one(ConditionCompactFails, c.ID, c.Note, "millrace compact ls "+pipeline)
	case strings.HasPrefix(c.ID, ReplayPrefix(pipeline)):
		return replayConditions(pipeline, c)
	case c.State == ChildEnded && c.Starts > 0:
		return one(ConditionChildEnded, c.ID, c.Note, "temporal workflow show --workflow-id "+c.ID)
	case c.ID == CloseWindowsID(pipeline):
		return closingConditions(pipeline, c)
	case c.State == ChildSeeking:
		reason := c.Note
		if reason == "" {
			reason = "no worker has taken it yet"
		}
		return one(ConditionSeeking, c.ID, reason, "")
	}
	return nil
}

func closingConditions(pipeline string, c ChildState) []Condition {
	var all []Condition
	for _, w := range c.Waits {
		blocked := Condition{
			Kind: ConditionClosingBlocked, Subject: "window " + w.For, Reason: w.Why, Since: w.Since,
			Command: "temporal workflow describe --workflow-id " + w.ID,
		}
		if w.Since.IsZero() { // a closer of an older release did not say it
			blocked.Since = c.Since
		}
		if w.ID == "" {
			blocked.Command = "temporal workflow list --query 'WorkflowType=\"" + WorkflowCloseWindow +
				"\" AND ExecutionStatus=\"Running\"'"
		}
		all = append(all, blocked)
	}
	sayMore(all, c.MoreWaits)
	if c.State == ChildBlocked {
		all = append(all, Condition{
			Kind: ConditionClosingFails, Subject: CloseWindowsID(pipeline), Reason: c.Note, Since: c.Since,
			Command: "temporal workflow describe --workflow-id " + c.ID,
		})
	}
	return all
}

func recoveryConditions(pipeline string, c ChildState) []Condition {
	kind, command := ConditionLaneParked, "millrace recover decide "+c.ID+" --all CHOICE"
	switch c.State {
	case StateDeciding:
	case StateHostGone:
		kind = ConditionHostGone
	default:
		return nil
	}
	if len(c.Waits) == 0 {
		return []Condition{{Kind: kind, Subject: c.ID, Reason: c.Note, Since: c.Since, Command: command}}
	}
	var all []Condition
	for _, w := range c.Waits {
		all = append(all, Condition{Kind: kind, Subject: w.For, Reason: w.Why, Since: c.Since, Command: command})
	}
	sayMore(all, c.MoreWaits)
	return all
}

// replayConditions reads a Replay's report: its only wait names what it is, a replay or a recount.
func replayConditions(pipeline string, c ChildState) []Condition {
	if c.State != StateAsking {
		return nil
	}
	kind := ConditionReplayAsks
	if len(c.Waits) > 0 && c.Waits[0].For == recountFor {
		kind = ConditionRecountDiffers
	}
	id := strings.TrimPrefix(c.ID, ReplayPrefix(pipeline))
	return []Condition{{
		Kind: kind, Subject: c.ID, Reason: c.Note, Since: c.Since, Command: "millrace replay show " + pipeline + " " + id,
	}}
}

// recountFor is what a recount with a diff waits for, as it tells the pipeline.
const recountFor = "recount"

// AskingWaits is what a Replay with a diff tells the pipeline.
func (in ReplayInput) AskingWaits() ChildWaits { return ChildWaits{Waits: []Wait{{For: in.Kind()}}} }

// sayMore notes at the last of some conditions how many others a report had no room for.
func sayMore(named []Condition, more int) {
	if n := len(named); n > 0 {
		named[n-1].More = more
	}
}

// degradeConditions reads a Degrade's report: its state is the highest level of the machines that it follows.
func degradeConditions(pipeline string, journal bool, c ChildState) []Condition {
	subject, ok := strings.CutPrefix(c.ID, DegradePrefix(pipeline))
	worker, dependency, found := cutLast(subject, ":")
	if !ok || !found {
		return nil
	}
	since := c.Since
	if !c.LevelSince.IsZero() {
		since = c.LevelSince
	}
	return levelConditions(pipeline, journal, report.DependencyStatus{
		Dependency: dependency, Level: report.Level(c.State), Since: since, Reason: c.Note, Override: c.Override, Worker: worker,
	})
}

func cutLast(text, sep string) (before, after string, found bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}

// levelConditions says what a level of degradation on a worker means, with an operator's override or without.
func levelConditions(pipeline string, journal bool, d report.DependencyStatus) []Condition {
	one := func(kind, reason, command string) []Condition {
		return []Condition{{
			Kind: kind, Subject: d.Dependency + onWorker + degradeWorker(d.Worker), Reason: reason, Since: d.Since, Command: command,
		}}
	}
	const status, auto = "millrace degrade status ", "millrace degrade auto "
	journalled := d.Level == report.LevelJournal || d.Level == report.LevelThrottled
	resultsWait := d.Level == report.LevelPaused && d.Dependency == report.DependencyResults // lanes go on
	held := d.Level == report.LevelPaused && !resultsWait
	switch ordered := d.Override != ""; {
	case ordered && held && journal: // no order makes room in a journal
		return one(ConditionHeld, overrideText(d)+"; the journal takes no more", status+pipeline)
	case ordered && (journalled || resultsWait):
		return one(ConditionClosingSuspended, overrideText(d), auto+pipeline)
	case ordered: // without a journal lanes try Redis at every level
		return one(ConditionOverride, overrideText(d), auto+pipeline)
	case held:
		return one(ConditionHeld, d.Reason, status+pipeline)
	case resultsWait:
		return one(ConditionDegraded, "results wait: "+d.Reason, status+pipeline)
	case journalled:
		return one(ConditionDegraded, string(d.Level)+": "+d.Reason, status+pipeline)
	}
	return nil
}

func overrideText(d report.DependencyStatus) string {
	text := fmt.Sprintf("%s at level %s", d.Override, d.Level)
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return text
}

// aheadAfter is how far ahead of the clock a lane's watermark may be before somebody should know: clocks and time zones are wrong by
// less, and events that are planned that far ahead are rare.
const aheadAfter = 24 * time.Hour

// EngineConditions says what of a hot path's state a person should know. journal says that its lanes overflow into a journal.
func EngineConditions(e EngineStatus, journal bool, now time.Time) []Condition {
	var all []Condition
	for i := range e.Lanes {
		l := &e.Lanes[i]
		name := fmt.Sprintf("%s/%d", l.Topic, l.Partition)
		if l.RefusesAll {
			all = append(all, Condition{
				Kind: ConditionRefusing, Subject: name, Reason: l.Reason, Command: "millrace status " + e.Pipeline + " " + name,
			})
		}
		if mark := time.UnixMilli(l.Watermark).UTC(); mark.Sub(now) > aheadAfter {
			all = append(all, Condition{
				Kind: ConditionWatermarkAhead, Subject: name, Command: "millrace watermark reset " + e.Pipeline + " --from ... --dry-run",
				Reason: fmt.Sprintf("it is %s, ahead of the clock: what is older counts as late", mark.Format(time.RFC3339)),
			})
		}
		switch l.State {
		case laneStateParked:
			all = append(all, Condition{Kind: ConditionLaneParked, Subject: name, Reason: l.Reason})
		case laneStateBlocked:
			all = append(all, Condition{Kind: ConditionLaneBlocked, Subject: name, Reason: l.Reason})
		}
	}
	for _, d := range e.Dependencies {
		all = append(all, levelConditions(e.Pipeline, journal, d)...)
	}
	if e.Reason != "" {
		all = append(all, Condition{Kind: ConditionEngineTrouble, Subject: ReplicaID(e.Pipeline, e.Replica), Reason: e.Reason})
	}
	if e.Unread != "" {
		all = append(all, Condition{Kind: ConditionCommandsUnread, Subject: ReplicaID(e.Pipeline, e.Replica), Reason: e.Unread})
	}
	if s := e.Storm; s != nil {
		all = append(all, Condition{
			Kind: ConditionStorm, Subject: ReplicaID(e.Pipeline, e.Replica), Since: s.Since,
			Reason: fmt.Sprintf("%d changes of assignment, recoveries are held back by %d ms", s.Changes, s.Delay),
		})
	}
	return all
}

// LongTransaction is how long rows go out in a transaction before that is a condition of its own.
const LongTransaction = 10 * time.Second

// CloserConditions says what of a closer's state a person should know now.
func CloserConditions(pipeline string, d CloseDueDetails, now time.Time) []Condition {
	var all []Condition
	if t := d.Open; t != nil && now.Sub(time.UnixMilli(t.Since)) >= LongTransaction {
		all = append(all, Condition{
			Kind: ConditionLongTransaction, Subject: "window " + t.Window.String(), Since: time.UnixMilli(t.Since).UTC(),
			Reason: fmt.Sprintf("%d rows of revision %d so far; readers of the result topic wait for its end", t.Rows, t.Revision),
		})
	}
	if d.Problem != "" {
		all = append(all, Condition{Kind: ConditionClosingFails, Subject: CloseWindowsID(pipeline), Reason: d.Problem})
	}
	for _, f := range d.Failing {
		all = append(all, Condition{Kind: ConditionClosingBlocked, Subject: "window " + f.String(), Reason: f.Problem})
	}
	if w := d.Waiting; w.Held {
		all = append(all, Condition{Kind: ConditionWatermarkHeld, Subject: w.Lane, Reason: w.For, Since: time.UnixMilli(w.Since).UTC()})
	}
	if d.Results != nil {
		all = append(all, levelConditions(pipeline, false, *d.Results)...)
	}
	return all
}

// ProcessConditions are the kinds that a worker process can see by itself: those in its metrics and in /health.
func ProcessConditions() (kinds []string) {
	for _, s := range stuckStates {
		if s.Process {
			kinds = append(kinds, s.Kind)
		}
	}
	return kinds
}

// IntentConditions says what an operator wants of the pipeline, other than that it runs.
func IntentConditions(pipeline, phase, note string, since time.Time) []Condition {
	kinds := map[string]string{
		StateStarting: ConditionStarting, StatePaused: ConditionPaused, StateDraining: ConditionDraining,
		StateStopping: ConditionStopping, StateStopped: ConditionStopped,
	}
	kind, ok := kinds[phase]
	if !ok {
		return nil
	}
	command := ""
	switch phase {
	case StatePaused:
		command = "millrace resume " + pipeline
	case StateStopped:
		command = "millrace start FILE"
	}
	return []Condition{{Kind: kind, Reason: note, Since: since, Command: command}}
}
