package model

import (
	"slices"

	"millrace/pipeline/lane"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// answer carries out what the operator decided about jumps, and restores the lane then.
func (l *laneProc) answer(state *fold.State) (*fold.State, store.Meta, error) {
	w, choice := l.w, l.choice
	if !answers(choice) {
		l.parked, l.halted = true, true
		w.logf("has refused too many jumps")
		return nil, store.Meta{}, errParked
	}
	l.choice = ""
	info := &commitInfo{partition: l.p, offset: state.Offset(), rulings: l.st.rulings, answers: true}
	if choice == report.ChoiceAccept {
		given := &ruling{offset: state.Offset(), before: w.now + jump, accept: true, asked: w.step + 1, effective: true}
		info.rulings = append(slices.Clone(info.rulings), given)
	}
	l.infos[state.Cursor().NextCommit().String()] = info
	meta, err := lane.Answer(w.ctx, l.st, w.program, l.id, l.token, state, choice)
	if err != nil {
		return nil, meta, err
	}
	w.out.Answers++
	w.logf("goes on: %s", choice)
	state, _, err = lane.Restore(w.ctx, l.st, w.program, l.id, l.token)
	if err == nil && state.Cursor() != meta.Cursor {
		err = store.ErrLostWrites
	}
	return state, meta, err
}

// answers reports whether a choice answers a lane that has refused too many jumps.
func answers(choice string) bool {
	return choice == report.ChoiceAccept || choice == report.ChoiceRefuse
}

// rebuild carries out what the operator decided about a lost state, or about one that is spoilt: nothing of that one stays.
func (l *laneProc) rebuild(h hint, spoilt bool) (store.Meta, error) {
	at, _, err := l.st.ReadMeta(l.w.ctx, l.id)
	if err != nil {
		return store.Meta{}, err
	}
	if at.Owner != l.token {
		return store.Meta{}, store.ErrFenced
	}
	r, err := fold.ReplayOf(at, source.Committed{Offset: h.offset, Metadata: h.text})
	if err != nil || !r.Exact() {
		l.w.fail("lane %d: nothing to rebuild from in %q: %v", l.p, h.text, err)
		return store.Meta{}, errParked
	}
	if l.rebuilt = h.rulings; at.Offset >= h.offset {
		l.rebuilt = l.w.laneTag(l.p).rulings()
	}
	l.rebuilt = l.w.used(l.p, l.rebuilt, r.Decided)
	ends, err := l.w.ends(l.p)
	if err != nil {
		return store.Meta{}, err
	}
	switch l.w.off {
	case basisThere:
		r.Basis.Watermark, r.Basis.Sealed = window.NoTime, window.NoTime
	case notAgain:
		r.Decided = 0
	}
	l.w.rebuilt[l.p] = true
	info := &commitInfo{partition: l.p, offset: r.From, rulings: l.rebuilt}
	l.infos[at.Cursor.NextCommit().String()], l.replacing = info, info
	var meta store.Meta
	if spoilt {
		l.w.out.Replaced++
		meta, err = lane.Replace(l.w.ctx, l.st, l.w.program, l.id, l.token, l.token, at, r, ends, int64(l.w.step))
	} else {
		meta, err = lane.Rebuild(l.w.ctx, l.st, l.w.program, l.id, l.token, r, ends, int64(l.w.step))
	}
	if err == nil {
		l.w.out.Rebuilds++
		l.w.logf("reads again from %d what stood at %d: %s", meta.Offset, h.offset, h.text)
	}
	return meta, err
}

// used leaves out of a history the answers that no jump below offset has used: a lane that reads again asks anew.
func (w *World) used(p int, rulings []*ruling, offset int64) []*ruling {
	read := w.reference(p, rulings).placed[:offset]
	return slices.DeleteFunc(slices.Clone(rulings), func(r *ruling) bool {
		return r.accept && !slices.ContainsFunc(read[min(r.offset, offset):], func(e placed) bool { return e.jumped })
	})
}

// lost is what an acquisition does that found a part of the state gone: it waits for the operator, whose answer is to
// read it again.
func (l *laneProc) lost(err error) error {
	if !l.w.damaged[l.p] && !l.w.mutated() {
		l.w.fail("nothing was taken from Redis, and %v", err)
	}
	l.w.logf("%v", err)
	if l.choice == report.ChoiceRebuild {
		return nil
	}
	l.w.out.Found++
	l.parked, l.partial = true, true
	return errParked
}
