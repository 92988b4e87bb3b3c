package rollup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/window"
)

// LostStateError is an incident: a window cannot be rolled up, because the state of one of its children does not stand
// anywhere any more, or is not what the ledger says. Nothing is published of it until somebody has looked.
type LostStateError struct {
	Window ledger.WindowID
	Child  ledger.WindowID
	Err    error
	WayOut string // what brings the state back
}

func (e *LostStateError) Error() string {
	text := fmt.Sprintf("incident state-lost: window %s needs the state of window %s: %v", e.Window, e.Child, e.Err)
	if e.WayOut != "" {
		text += "; " + e.WayOut
	}
	return text
}

func (e *LostStateError) Unwrap() error { return e.Err }

// errGivenUp means that the ledger has no row of a child that another one of the same window was corrected beside.
var errGivenUp = errors.New("its ledger row was given up after retention.ledger, and another child was corrected since")

// merged is the content of a window: its children's states, merged by key.
type merged struct {
	table  *agg.Table // by key as it is published
	states bool
	order  []placed // rows, as they stand in pages
	events int64
	bytes  int64 // emitted
}

// placed is a row of the table and the hash by which it is placed.
type placed struct {
	hash uint64
	row  uint32
}

// mergeChildren merges the states of a window's children, in the order of their starts, into the runner's table.
func (r *run) mergeChildren(ctx context.Context, b *books, l *level, p *parent, children []ledger.Child) (*merged, error) {
	m := &merged{table: r.table, states: l.states}
	elsewhere := make(map[int64]bool) // starts of children whose states the topic does not hold
	for again := true; again; {
		r.table.Reset()
		m.events, again = 0, false
		for _, child := range children {
			id := ledger.WindowID{Window: child.Window, Start: child.Start}
			row := b.rows[id]
			if row == nil {
				return nil, &LostStateError{Window: p.id, Child: id, Err: errGivenUp}
			}
			err := r.mergeChild(ctx, row, elsewhere[id.Start])
			var gone *publish.GoneError
			if errors.As(err, &gone) && !elsewhere[id.Start] { // what was merged of it is worth nothing
				elsewhere[id.Start], again = true, true
				break
			}
			if gone != nil || errors.Is(err, agg.ErrEntryCorrupt) || errors.Is(err, agg.ErrEntryVersion) {
				return nil, &LostStateError{p.id, id, err, r.wayOut(row)}
			}
			if err != nil {
				return nil, err
			}
			m.events += row.Events
		}
	}
	m.order = make([]placed, m.table.Len())
	counted := int64(0)
	for i := range m.order {
		m.order[i] = placed{agg.HashOfJSON(m.table.Key(uint32(i))), uint32(i)}
		counted += m.table.Count(uint32(i))
	}
	if counted != m.events {
		return nil, fmt.Errorf("%w: the states of window %s hold %d events, the rows of its children say %d; %s",
			ledger.ErrCorrupt, p.id, counted, m.events, r.recount(p.id.Start, p.end))
	}
	slices.SortFunc(m.order, func(a, b placed) int {
		if a.hash != b.hash {
			return cmp.Compare(a.hash, b.hash)
		}
		return bytes.Compare(m.table.Key(a.row), m.table.Key(b.row))
	})
	return m, nil
}

// wayOut is how the states of a child are published again: a recount of the child finds that they are gone, and its approval
// publishes the child as a whole. It counts windows of lanes only: a child that is a roll-up is made anew by the run itself, and
// when that fails, its own incident says what leads out.
func (r *run) wayOut(child *ledger.Row) string {
	if r.cfg.Spec.Window(child.Window) == nil {
		return ""
	}
	return r.recount(child.Start, child.End)
}

// recount says how the windows that lie between two times are counted again and mended.
func (r *run) recount(start, end int64) string {
	return fmt.Sprintf("run `millrace recount %s --from %s --to %s`, approve what it finds, then `millrace compact run %[1]s`",
		r.cfg.Spec.Name, window.FormatTime(start), window.FormatTime(end))
}

// mergeChild merges the states of one revision into the table: those of the states topic, or wherever they still stand. A child
// that holds nothing was published nowhere.
func (r *run) mergeChild(ctx context.Context, row *ledger.Row, elsewhere bool) error {
	if row.Keys == 0 {
		return nil
	}
	if !elsewhere {
		return r.cfg.Contents.EachState(ctx, row, func(key, state []byte) error {
			if err := r.table.MergeEntry(key, state, 0); err != nil {
				return fmt.Errorf("key %s: %w", key, err)
			}
			return nil
		})
	}
	contents, err := r.cfg.Contents.ReadStates(ctx, row)
	if err != nil {
		return err
	}
	for i := range contents {
		if err := r.table.MergeEntry(contents[i].Key, contents[i].State, 0); err != nil {
			return fmt.Errorf("key %s: %w", contents[i].Key, err)
		}
	}
	return nil
}
