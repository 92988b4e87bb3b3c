package lane

import (
	"context"
	"errors"
	"time"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// comeBack says how a lane comes back whose state, or a part of it, is gone. Without an offset of the group it comes back as
// long as the log still has everything: all of it is read again.
func (p *position) comeBack() (fold.Replay, error) {
	if p.hint.Offset >= 0 || p.ends.Start > 0 {
		return fold.ReplayOf(p.meta, p.hint)
	}
	decided := max(p.meta.Offset, p.ledger.Offset)
	return fold.Replay{
		Basis: store.Basis{Known: true, Watermark: none, Sealed: none}, Decided: decided, TopicID: p.topicID,
		Seals: []store.Seal{{Offset: decided, Before: none}}, // which there were is not known
	}, nil
}

// replayOf is how the state comes back: by what is left of it outside its slices when these are gone.
func replayOf(d *report.Decision, at *position, s *fold.State) (fold.Replay, error) {
	if d.Kind == report.IncidentTruncated {
		return s.Replay(), nil
	}
	r, err := at.comeBack()
	if d.Kind == report.IncidentOtherSpec {
		r = r.UnderAnotherSpec()
	}
	return r, err
}

// carryOut rewrites the lane in Redis as the operator decided, in one call: before it the incident stands, after it the
// lane is one that goes on at another offset. It returns the new meta.
func (h *Holder) carryOut(ctx context.Context, d *report.Decision, at *position, s *fold.State) (store.Meta, error) {
	fn, err := h.rewritingFor(ctx, d, at, s)
	if err != nil {
		return store.Meta{}, err
	}
	meta, err := h.writeDecision(ctx, at, fn)
	d.Start = meta.Offset
	return meta, err
}

// rewritingFor returns the rewriting that carries a decision out. What it costs stands in the decision once it has run.
func (h *Holder) rewritingFor(ctx context.Context, d *report.Decision, at *position, s *fold.State) (fold.Rewriting, error) {
	era := d.At.UnixMilli()
	switch d.Choice {
	case report.ChoiceRebuild:
		r, err := replayOf(d, at, s)
		r.TopicID = at.topicID
		return fold.Rebuilding(r, at.ends, era, at.unusable()), err
	case report.ChoiceAccept, report.ChoiceRefuse:
		return s.AnsweringJumps(d.Choice == report.ChoiceAccept), nil
	case report.ChoiceSkip:
		to := at.ends.Start
		if skipsUnreadable(d) {
			to = d.To
		}
		return s.Skipping(to, era, &d.Lost), nil
	}
	ctl, err := h.deps.Store.ReadCtl(ctx, h.id)
	if err != nil {
		return nil, err
	}
	return func(meta store.Meta, next *store.MetaUpdate) (purge bool) {
		if d.Kind == report.IncidentOtherLog && s != nil {
			d.Lost = s.Folded()
		}
		next.Offset, next.TopicID, next.Era = at.ends.Start, at.topicID, era
		next.Sealed = ctl[0].DropBefore // windows that are final bind a lane that starts from nothing
		next.Counters.Skipped = meta.Counters.Skipped + max(0, d.Lost)
		return true
	}, nil
}

// writeDecision carries a rewriting out: as a call of the lane's chain, or in place of a state that cannot be used.
func (h *Holder) writeDecision(ctx context.Context, at *position, fn fold.Rewriting) (store.Meta, error) {
	if !at.unusable() {
		return rewriteLane(ctx, h.deps.Store, h.program, h.id, h.token, fn)
	}
	before, next := h.token, h.token
	if before == "" {
		before, next = h.unowned, h.deps.nextToken(h.unowned)
	}
	meta, err := replaceLane(ctx, h.deps.Store, h.program, h.id, before, next, at.meta, fn)
	if errors.Is(err, store.ErrOwnerChanged) && h.token != "" {
		err = errors.Join(store.ErrFenced, err)
	}
	if err == nil {
		h.token = next
	}
	return meta, err
}

// Rebuild makes a lane that is owned by owner read again from where r says, in one call: whatever stands there is dropped.
// It returns the new meta. era is the time of the decision in ms: the lane gets it as its new past if r does not bring
// back exactly the old one.
func Rebuild(ctx context.Context, st Store, p *fold.Program, id store.LaneID, owner store.Token, r fold.Replay, ends source.Ends, era int64,
) (store.Meta, error) {
	return rewriteLane(ctx, st, p, id, owner, fold.Rebuilding(r, ends, era, false))
}

// rewriteLane replaces a lane's meta, and drops all its slices if fn says so. Pages of a commit that never ended go, or they would
// count from this one on.
func rewriteLane(ctx context.Context, st Store, p *fold.Program, id store.LaneID, owner store.Token, fn fold.Rewriting) (store.Meta, error) {
	found, err := st.WholeIndex(ctx, id, p.StateID)
	meta := found.Meta
	if err != nil {
		return meta, err
	}
	if meta.Owner != owner {
		return meta, store.ErrFenced
	}
	next, purge := fold.Rewrite(meta, fn, time.Now().UnixMilli())
	call := store.Call{Prev: meta.Cursor, Next: meta.Cursor.NextCommit(), Buckets: p.Spec.Lane.Buckets, Meta: &next}
	if meta.Done != store.NoCommit {
		call.Format = store.PageFormat
		for i := range found.Slices {
			x := &found.Slices[i]
			call.Delete = store.AppendDeletes(call.Delete, x.SliceID, x.Beyond)
		}
	}
	if purge {
		for i := range found.Slices {
			call.Purge = append(call.Purge, found.Slices[i].SliceID)
		}
	}
	if _, err := st.Apply(ctx, id, p.StateID, owner, []store.Call{call}); err != nil {
		return meta, err
	}
	meta, left, err := st.ReadMeta(ctx, id)
	switch {
	case err != nil:
	case !left || meta.Owner != owner:
		err = store.ErrFenced
	case meta.Cursor.Less(call.Next):
		err = store.ErrLostWrites // forgotten already: the decision is still to be carried out
	}
	return meta, err
}

// replaceLane is rewriteLane for a lane whose state cannot be used: nothing of it stays.
func replaceLane(ctx context.Context, st Store, p *fold.Program, id store.LaneID, owner, token store.Token, known store.Meta, fn fold.Rewriting,
) (store.Meta, error) {
	next, _ := fold.Rewrite(known, fn, time.Now().UnixMilli())
	return st.Replace(ctx, id, p.StateID, owner, token, p.Spec.Lane.Buckets, &next)
}
