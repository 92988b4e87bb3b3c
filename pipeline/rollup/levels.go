package rollup

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"millrace/pipeline/calendar"
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

// level is one roll-up of the spec, compiled.
type level struct {
	*spec.Rollup
	periods *calendar.Calendar
	child   calendar.Grid
	folded  string // the windows, at the bottom of the chain, that lanes fold events into
	states  bool   // another roll-up is made from this one
	keep    spec.Retention
}

// compileLevels compiles the roll-ups of a validated spec, in its order.
func compileLevels(s *spec.Spec) ([]level, error) {
	levels := make([]level, 0, len(s.Rollups))
	for i := range s.Rollups {
		r := &s.Rollups[i]
		periods, err := r.Periods()
		if err != nil {
			return nil, fmt.Errorf("roll-up %s: %w", r.Name, err)
		}
		child, ok := s.Grid(r.From)
		if !ok {
			return nil, fmt.Errorf("roll-up %s: %q is no tumbling window and no roll-up", r.Name, r.From)
		}
		levels = append(levels, level{
			Rollup: r, periods: periods, child: child, folded: s.FoldedInto(r.Name), states: s.RolledUp(r.Name), keep: s.Keeps(r.Name),
		})
	}
	return levels, nil
}

// parent is a window of a roll-up, with the rows that its children have.
type parent struct {
	id       ledger.WindowID
	end      int64
	children []*ledger.Row // by start
}

// parentsOf lists the windows of a roll-up that end at or before upper and of which a child has a row, by start.
func (l *level) parentsOf(b *books, upper int64) []*parent {
	found := make(map[int64]*parent)
	for id, row := range b.rows {
		if id.Window != l.From {
			continue
		}
		start, end := l.periods.Bounds(id.Start)
		if end > upper {
			continue
		}
		p := found[start]
		if p == nil {
			p = &parent{id: ledger.WindowID{Window: l.Name, Start: start}, end: end}
			found[start] = p
		}
		p.children = append(p.children, row)
	}
	for _, p := range found {
		p.sortChildren()
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *parent) int { return cmp.Compare(a.id.Start, b.id.Start) })
}

// parentOf is the window of that id with the rows that its children have, nil when none has one.
func (l *level) parentOf(b *books, id ledger.WindowID) *parent {
	_, end := l.periods.Bounds(id.Start)
	p := &parent{id: id, end: end}
	for child, row := range b.rows {
		if child.Window == l.From && id.Start <= child.Start && child.Start < end {
			p.children = append(p.children, row)
		}
	}
	if len(p.children) == 0 {
		return nil
	}
	p.sortChildren()
	return p
}

func (p *parent) sortChildren() {
	slices.SortFunc(p.children, func(a, b *ledger.Row) int { return cmp.Compare(a.Start, b.Start) })
}

// openChild returns the first child of a window that is not final; false when all are. An error means that a child lies in
// two of the roll-up's windows: the spec was only checked from 1970 to 2100.
func (l *level) openChild(b *books, p *parent) (child ledger.WindowID, open bool, err error) {
	for start := p.id.Start; start < p.end; {
		from, to := l.child.Bounds(start)
		if from != start || to > p.end {
			return child, false, fmt.Errorf("window %s lies in two windows of the roll-up", ledger.WindowID{Window: l.From, Start: from})
		}
		if child = (ledger.WindowID{Window: l.From, Start: start}); !b.isFinal(child, to) {
			return child, true, nil
		}
		start = to
	}
	return ledger.WindowID{}, false, nil
}

// openText says why a child of the level is not final, and what it waits for.
func (l *level) openText(b *books, child ledger.WindowID) string {
	if row := b.rows[child]; row != nil {
		return fmt.Sprintf("revision %d is not final: lanes may still revise it", row.Revision)
	}
	floor := "is not known yet"
	if at, ok := b.floors[slotFamily{b.slotOf(child), child.Window}]; ok {
		floor = "is " + window.FormatTime(at)
	}
	raised := ledger.FloorRises
	if l.folded != l.From {
		raised = "it rises as soon as nothing that " + l.From + " is made of waits any more"
	}
	return fmt.Sprintf("it has no row, and the floor of %s %s: %s", child.Window, floor, raised)
}

// finalUpTo is the end up to which all windows of a roll-up are final when none is left undone: its greatest bound at or below
// the floor of its children and upper. It returns false when they have no floor.
func (l *level) finalUpTo(b *books, upper int64) (int64, bool) {
	limit := min(b.lowestFloor(l.From), upper)
	if limit < earliest {
		return 0, false
	}
	start, end := l.periods.Bounds(limit)
	if end == limit {
		return end, true
	}
	return start, true
}

// earliest is before all events: the year 1677.
const earliest = -9_223_372_036_854

// provenance is what the row of a window is to say about its children. A child whose row was given up is as the window's
// last row names it.
func (p *parent) provenance(base *ledger.Row) []ledger.Child {
	children := make([]ledger.Child, 0, len(p.children))
	at := 0
	givenUp := func(before int64) {
		for ; base != nil && at < len(base.Children) && base.Children[at].Start < before; at++ {
			children = append(children, base.Children[at])
		}
	}
	for _, row := range p.children {
		givenUp(row.Start)
		if base != nil && at < len(base.Children) && base.Children[at].Start == row.Start {
			at++
		}
		children = append(children, ledger.Child{Window: row.Window, Start: row.Start, Revision: row.Revision, Checksum: row.Checksum})
	}
	givenUp(p.end)
	return children
}
