package contract

import (
	"slices"
	"strings"

	"millrace/pipeline/report"
)

// Bounds of what travels about recoveries.
const (
	MaxRecoveryLanes = 500
	MaxDecisionLanes = 100 // of a decision about all lanes
	MaxStormEvents   = 50
	MaxChoices       = 8
	MaxText          = 2000 // bytes of a detail, a note or a reason
)

// BoundBatch cuts a batch down to what may travel.
func BoundBatch(b report.RecoveryBatch) report.RecoveryBatch {
	if extra := len(b.Lanes) - MaxRecoveryLanes; extra > 0 {
		b.Lanes, b.More = b.Lanes[:MaxRecoveryLanes], b.More+extra
	}
	if b.Storm != nil {
		short := *b.Storm
		short.Timeline = short.Timeline[max(0, len(short.Timeline)-MaxStormEvents):]
		b.Storm = &short
	}
	b.Reason = Cut(b.Reason)
	return b
}

// BoundLanes keeps the lanes that may travel, those with an incident first where not all can. The input is not changed.
func BoundLanes(lanes []report.RecoveredLane) (kept []report.RecoveredLane, more int) {
	kept = slices.Clone(lanes)
	if len(kept) > MaxRecoveryLanes {
		slices.SortStableFunc(kept, func(a, b report.RecoveredLane) int { return quiet(a) - quiet(b) })
		kept, more = kept[:MaxRecoveryLanes], len(kept)-MaxRecoveryLanes
	}
	for i := range kept {
		kept[i].Note = Cut(kept[i].Note)
		if inc := kept[i].Incident; inc != nil {
			short := *inc
			short.Detail = Cut(short.Detail)
			short.Choices = short.Choices[:min(len(short.Choices), MaxChoices)]
			kept[i].Incident = &short
		}
	}
	return kept, more
}

func quiet(l report.RecoveredLane) int {
	if l.Incident != nil {
		return 0
	}
	return 1
}

// Cut shortens a text to MaxText bytes.
func Cut(text string) string { return cutTo(text, MaxText) }

// cutTo shortens a text to a number of bytes.
func cutTo(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}

// BoundChange cuts a change of a level down to what may travel.
func BoundChange(c report.LevelChange) report.LevelChange {
	c.Reason = Cut(c.Reason)
	c.Numbers = c.Numbers[:min(len(c.Numbers), MaxLevelNumbers)]
	return c
}
