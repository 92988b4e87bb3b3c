package activities

import (
	"fmt"
	"slices"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// applied splits lanes into those that have adopted a generation and those that have not.
func applied(states []contract.LaneState, generation int64, now time.Time) contract.Applied {
	var got contract.Applied
	for _, l := range states {
		if l.Found && l.Generation >= generation {
			got.Lanes = append(got.Lanes, receipt(l))
			continue
		}
		got.Missing = append(got.Missing, report.LaneMissing{
			Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Asks: l.Asks,
			Reason: whyMissing(l, fmt.Sprintf("it follows generation %d of %d", l.Generation, generation), now),
		})
	}
	return got
}

// drained splits the lanes of ends into those that have committed to their end and those that have not. A partition without records
// needs no lane. A lane that asks has not, wherever it stands: of a log that lost its end it has read more than there is.
func drained(states []contract.LaneState, ends []report.LaneEnd, now time.Time) contract.Applied {
	type lane struct {
		topic     string
		partition int32
	}
	byLane := make(map[lane]contract.LaneState, len(states))
	for _, l := range states {
		byLane[lane{l.Topic, l.Partition}] = l
	}
	var got contract.Applied
	for _, end := range ends {
		l, ok := byLane[lane{end.Topic, end.Partition}]
		if !ok {
			l = contract.LaneState{Topic: end.Topic, Partition: end.Partition, Offset: -1}
		}
		if (l.Found && l.Offset >= end.End || end.End == 0) && !l.Asks {
			got.Lanes = append(got.Lanes, receipt(l))
			continue
		}
		got.Missing = append(got.Missing, report.LaneMissing{
			Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Want: end.End, Asks: l.Asks,
			Reason: whyMissing(l, fmt.Sprintf("it has committed to offset %d of %d", l.Offset, end.End), now),
		})
	}
	return got
}

func receipt(l contract.LaneState) report.LaneReceipt {
	return report.LaneReceipt{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Owner: l.Owner}
}

// whyMissing says what is known about a lane that has not done what was asked.
func whyMissing(l contract.LaneState, behind string, now time.Time) string {
	switch {
	case l.Trouble != "":
		return l.Trouble
	case l.Outage != "":
		return l.Outage + "; " + behind
	case !l.Found || l.Owner == "":
		return "no worker has acquired it"
	case l.UpdatedAt > 0:
		return fmt.Sprintf("%s; last commit %s ago", behind, now.Sub(time.UnixMilli(l.UpdatedAt)).Round(time.Second))
	}
	return behind
}

// anyAsks reports whether a missing lane waits for a decision: waiting for the lane is in vain until somebody makes it.
func anyAsks(missing []report.LaneMissing) bool {
	return slices.ContainsFunc(missing, func(m report.LaneMissing) bool { return m.Asks })
}

// allAsk reports whether nothing but decisions is missing.
func allAsk(missing []report.LaneMissing) bool {
	return !slices.ContainsFunc(missing, func(m report.LaneMissing) bool { return !m.Asks })
}

// askingSettles is for how long lanes have to ask before a wait for them is given up: others that are about to ask are named as
// well then, and one whose decision has just been made asks no more.
const askingSettles = 2 * time.Second

// decisionWait notices that lanes wait for decisions, and no more are about to.
type decisionWait struct{ since time.Time }

func (w *decisionWait) over(asking bool, now time.Time) bool {
	if !asking {
		w.since = time.Time{}
		return false
	}
	if w.since.IsZero() {
		w.since = now
	}
	return now.Sub(w.since) >= askingSettles
}

// stall notices that missing lanes have stopped moving.
type stall struct {
	limit time.Duration
	sum   int64
	count int
	since time.Time
}

func (s *stall) stalled(missing []report.LaneMissing, now time.Time) bool {
	var sum int64
	for _, m := range missing {
		sum += m.Offset
	}
	if s.since.IsZero() || sum != s.sum || len(missing) != s.count {
		s.sum, s.count, s.since = sum, len(missing), now
	}
	return len(missing) > 0 && now.Sub(s.since) >= s.limit
}
