package merge

import (
	"context"
	"fmt"

	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// Prove reads the guards of lanes of a view once more: with the same owners and nothing gone
// backwards, what was read since the view belongs to it. ErrMoved otherwise.
func (m *Merger) Prove(ctx context.Context, lanes []*survey.Lane) error {
	ids := make([]store.LaneID, len(lanes))
	for i, l := range lanes {
		ids[i] = l.ID
	}
	guards, err := m.cfg.Reader.ReadGuards(ctx, ids...)
	if err != nil {
		return err
	}
	for i, l := range lanes {
		found := guards[i] != store.Guard{}
		if found != l.Found || found && !guards[i].Follows(l.Meta.Guard()) {
			return fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
		}
	}
	return nil
}

// countEvents compares the events in the entries, by part, with the events folded. Entries newer
// than their meta hold events that the meta does not count yet, so what was read with such ones
// ahead can only be too high.
func (o *Opened) countEvents(ctx context.Context, counted []int64, ahead bool) (events int64, err error) {
	for i := range o.parts {
		events += counted[i]
		if folded := o.parts[i].folded; counted[i] != folded && (!ahead || counted[i] < folded) {
			return 0, o.mismatch(ctx, &o.parts[i], counted[i])
		}
	}
	return events, nil
}

// mismatch distinguishes entries that are missing from a slice that its lane dropped meanwhile,
// because another closer has made the window final. A node is given up.
func (o *Opened) mismatch(ctx context.Context, p *part, counted int64) error {
	if p.node != nil {
		return o.dropNode(p.node, fmt.Errorf("they hold %d events, not %d", counted, p.folded))
	}
	l := &o.View.Lanes[p.lane]
	_, stats, err := o.merger.cfg.Reader.LaneView(ctx, l.ID, o.merger.stateID)
	if err != nil {
		return fmt.Errorf("lane %s: %w", l.ID, err)
	}
	for _, s := range stats {
		if s.SliceID == p.slice && s.Folded == p.folded {
			return &MissingError{Lane: l, Slice: p.slice, Entries: counted, Folded: p.folded}
		}
	}
	return fmt.Errorf("lane %s: slice %s: %w", l.ID, p.slice, ErrMoved)
}
