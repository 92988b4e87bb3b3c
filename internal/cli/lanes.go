package cli

import (
	"context"
	"fmt"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// laneLine is one lane as status shows it. Redis is the truth about it, the broker about its end; what only the hot path
// knows comes from its last heartbeat.
type laneLine struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	State     string         `json:"state"`
	Reason    string         `json:"reason,omitempty"`
	Choices   []string       `json:"choices,omitempty"` // what can be decided about it
	Epoch     int64          `json:"epoch"`
	Offset    int64          `json:"offset"` // committed: the next to read; -1 before the first commit
	End       int64          `json:"end"`
	Lag       int64          `json:"lag"`
	Watermark *int64         `json:"watermark_ms"` // null before the first event
	Idle      bool           `json:"idle"`
	Rate      float64        `json:"records_per_second"`
	Slices    int            `json:"slices"`
	Counters  store.Counters `json:"counters"`
	UpdatedAt int64          `json:"updated_at_ms"`    // of the last commit, by the worker's clock
	Fenced    bool           `json:"fenced,omitempty"` // by a removal that has not ended

	Refused []report.RefusedRecords `json:"refused,omitempty"` // why, since its owner took it

	// StateFormat is as Redis has it: 1 for entries in fields, 2 for pages. The other two are what its hot path says.
	StateFormat int               `json:"state_format,omitempty"`
	KeepsFields string            `json:"keeps_fields,omitempty"` // why it does not turn to pages
	Pages       *report.LanePages `json:"pages,omitempty"`
}

func (l *laneLine) name() string { return fmt.Sprintf("%s/%d", l.Topic, l.Partition) }

// lanesView is all lanes of a pipeline, and what follows from them.
type lanesView struct {
	Lanes     []laneLine
	Watermark int64 // least of the lanes that are not idle, ms; window.NoTime while one has none
	Open      int   // windows with events whose end lies beyond the watermark
	Waiting   int   // windows past their end that still take late events
}

// States of lanes as Redis alone knows them; a hot path that has a lane says more.
const (
	stateNew       = "new"        // nobody has committed for it
	stateCommitted = "committed"  // somebody has
	stateFenced    = "fenced"     // by a removal that has not ended
	stateBad       = "unreadable" // what is stored cannot be read
)

// readLanes looks at every lane as the closer does. asked are the ends that earlier looks have asked for, nil for a look that
// stands alone: it is repeated when a lane claims to be idle and its log goes on, for which the closer has earlier looks.
func readLanes(ctx context.Context, state survey.State, topics survey.Topics, s *spec.Spec, asked *survey.Asked) (lanesView, error) {
	plan, err := window.NewPlan(s)
	if err != nil {
		return lanesView{}, err
	}
	alone := asked == nil
	if alone {
		asked = newAsked(s)
	}
	cfg := survey.Config{Spec: s, Plan: plan, State: state, Topics: topics, Parallel: 4, Lenient: true, Asked: asked}
	v, err := survey.Take(ctx, cfg)
	if alone && err == nil && v.Unproved() {
		select {
		case <-time.After(min(s.Lane.CommitInterval.Std(), lookAgain)):
			v, err = survey.Take(ctx, cfg)
		case <-ctx.Done():
		}
	}
	if err != nil {
		return lanesView{}, reached(ctx, err)
	}
	view := lanesView{Watermark: v.Watermark}
	for i := range v.Lanes {
		view.Lanes = append(view.Lanes, newLaneLine(&v.Lanes[i], s))
	}
	for _, ref := range v.Open(plan) {
		switch {
		case plan.End(ref) > view.Watermark:
			view.Open++
		case plan.Deadline(ref) > view.Watermark:
			view.Waiting++
		}
	}
	return view, nil
}

// lookAgain bounds how long a look that stands alone waits for lanes to commit.
const lookAgain = 1500 * time.Millisecond

func newAsked(s *spec.Spec) *survey.Asked {
	return survey.NewAsked(survey.TrustEnds(s.Lane.CommitInterval.Std()), time.Now)
}

func newLaneLine(l *survey.Lane, s *spec.Spec) laneLine {
	line := laneLine{
		Topic: l.ID.Topic, Partition: l.ID.Partition, State: stateNew, Offset: store.NotStarted, End: l.Ends.End,
		Lag: l.Ends.End - l.Ends.Start,
	}
	if l.Bad != nil {
		line.State, line.Reason = stateBad, l.Bad.Error()
	}
	if !l.Found {
		return line
	}
	line.State, line.Epoch, line.Offset = stateCommitted, l.Meta.Owner.Epoch(), l.Meta.Offset
	line.Lag = max(0, l.Ends.End-max(l.Meta.Offset, l.Ends.Start))
	if l.Meta.Watermark != store.NoTime {
		line.Watermark = &l.Meta.Watermark
	}
	line.StateFormat = l.Meta.Format
	line.Idle, line.Slices, line.Counters, line.UpdatedAt = l.Idle, l.Held, l.Meta.Counters, l.Meta.UpdatedAt
	switch {
	case l.Meta.Owner.Removed():
		line.State, line.Fenced, line.Idle = stateFenced, true, false
		line.Reason = "a removal has fenced it and has not ended"
	case l.Gone:
		line.Reason = l.Why
	case l.Meta.StateID != s.StateID():
		line.Reason = "state of another spec (" + l.Meta.StateID + ")"
	}
	return line
}

// rates fills in what only two looks can tell.
func (v *lanesView) rates(before *lanesView, elapsed time.Duration) {
	if before == nil || elapsed <= 0 {
		return
	}
	earlier := make(map[string]int64, len(before.Lanes))
	for i := range before.Lanes {
		earlier[before.Lanes[i].name()] = before.Lanes[i].Counters.Read
	}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		if was, ok := earlier[l.name()]; ok && l.Counters.Read >= was {
			l.Rate = float64(l.Counters.Read-was) / elapsed.Seconds()
		}
	}
}

// totals sums the counters of all lanes.
func (v *lanesView) totals() store.Counters {
	var sum store.Counters
	for i := range v.Lanes {
		sum.Add(v.Lanes[i].Counters)
	}
	return sum
}

// sentence says what became of the records.
func sentence(c store.Counters) string {
	text := fmt.Sprintf("%s read: %d folded, %d late, %d filtered, %d invalid, %d too far ahead",
		counted(c.Read, "record"), c.Folded, c.Late, c.Filtered, c.Invalid, c.Ahead)
	if c.Past > 0 {
		text += fmt.Sprintf(", %d too far in the past", c.Past)
	}
	if c.Jumped > 0 {
		text += fmt.Sprintf(", %d jumped", c.Jumped)
	}
	return text
}
