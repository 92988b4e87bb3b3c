package model

import (
	"slices"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// park lets the operator be asked about an incident, and judges whether there may be one.
func (l *laneProc) park(inc *report.Incident) {
	w := l.w
	l.incident = inc
	switch inc.Kind {
	case report.IncidentJump:
	case report.IncidentStateLost, report.IncidentCorrupt:
		l.partial = inc.Kind == report.IncidentCorrupt || l.started() && !l.overtaken()
		if l.partial {
			w.out.Found++
		}
		if l.partial && !w.damaged[l.p] && (!w.mutated() || w.is(newestWins)) {
			w.fail("nothing was taken from Redis, and %v", inc)
		}
	default:
		if !w.mutated() {
			w.fail("lane %d parks: %v", l.p, inc)
		}
	}
	w.logf("parks: %v", inc)
}

// started reports whether Redis knows a state of the lane.
func (l *laneProc) started() bool {
	offset, found := l.w.laneTag(l.p).hashes["mr:{"+l.id.String()+"}:meta"]["offset"]
	return found && atoi(offset) >= 0
}

// overtaken reports whether the state that Redis knows is of another owner than this process has become.
func (l *laneProc) overtaken() bool {
	token := l.holder.Token()
	return token != "" && l.w.meta(l.p, "owner") != string(token)
}

// decide is the operator's answer to the lane's incident.
func (l *laneProc) decide(choice string) {
	w := l.w
	i := slices.IndexFunc(l.incident.Choices, func(c report.Choice) bool { return c.Name == choice })
	if lost := l.incident.Kind == report.IncidentStateLost; i < 0 || lost && !l.incident.Choices[i].Exact {
		w.fail("lane %d: nothing to rebuild exactly from in %q: %+v", l.p, w.hints[l.p].text, l.incident)
		return
	}
	_, err := l.decisions.Decide(l.incident, l.holder.Token(), l.incident.ID, choice, "operator", time.UnixMilli(int64(w.step)))
	if err != nil {
		w.fail("lane %d: decide %s: %v", l.p, choice, err)
		return
	}
	w.logf("the operator answers partition %d: %s", l.p, choice)
	l.decided, l.choice = true, choice
}

// carryOut notes what a call stands for by which an acquisition carries a decision out, before it is made. at is the meta
// that it follows.
func (l *laneProc) carryOut(at store.Meta, next *store.MetaUpdate) *commitInfo {
	w := l.w
	info := &commitInfo{partition: l.p, offset: next.Offset}
	if l.choice != report.ChoiceRebuild {
		info.answers, info.rulings = true, l.st.rulings
		if l.choice == report.ChoiceAccept {
			given := &ruling{offset: next.Offset, before: w.now + jump, accept: true, asked: w.step, effective: true}
			info.rulings = append(slices.Clone(info.rulings), given)
		}
		return info
	}
	h := w.hints[l.p]
	if info.rulings = h.rulings; at.Offset >= h.offset {
		info.rulings = w.laneTag(l.p).rulings()
	}
	info.rulings = w.used(l.p, info.rulings, next.Decided)
	switch w.off {
	case basisThere:
		next.Watermark, next.Sealed = window.NoTime, window.NoTime
	case notAgain:
		next.Decided = 0
	}
	w.rebuilt[l.p] = true
	return info
}

// carriedOut counts what was decided once Redis has it.
func (l *laneProc) carriedOut() {
	if l.choice == report.ChoiceRebuild {
		l.w.out.Rebuilds++
	} else {
		l.w.out.Answers++
	}
	l.w.logf("goes on as decided: %s", l.choice)
}

// used leaves out of a history the answers that no jump below offset has used: a lane that reads again asks anew.
func (w *World) used(p int, rulings []*ruling, offset int64) []*ruling {
	read := w.reference(p, rulings).placed[:offset]
	return slices.DeleteFunc(slices.Clone(rulings), func(r *ruling) bool {
		return r.accept && !slices.ContainsFunc(read[min(r.offset, offset):], func(e placed) bool { return e.jumped })
	})
}
