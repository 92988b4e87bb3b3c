package model

import (
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/store"
)

// Rules of recounts.
const (
	sealsAgain    Rule = "a recount adopts the seals that were adopted in between"
	ownCovered    Rule = "a recount takes for a window nothing at or above what its own row covers"
	basisTime     Rule = "a recount begins with the greatest event time that the lane had seen"
	basisSealed   Rule = "a recount begins with the seal that the lane had adopted"
	basisCounters Rule = "a recount begins with the counters of the lane"
	endsFirst     Rule = "a recount reads nothing above the ends asked first"
	ownCommits    Rule = "a recount goes on from its own commits"
	guardThere    Rule = "what a recount finds is written beside its guard only"
	guardOwned    Rule = "what a recount finds is written by the owner of its guard only"
	endFences     Rule = "the end of a recount fences before it deletes"
	baseRevision  Rule = "a correction is published on the revision that it was compared with"
	baseChecksum  Rule = "a correction is published on the checksum that it was compared with"
	approvedOnce  Rule = "an approval that is repeated does nothing"
	certifiesBase Rule = "a certificate is about the revision that was counted again"
)

// twistPlan changes a plan as the rule that is off would have prevented.
func (w *World) twistPlan(p *plan.Plan, k *logs) {
	for i := range p.Lanes {
		l := &p.Lanes[i]
		cuts := func(s store.Seal) bool {
			return slices.ContainsFunc(p.Windows, func(win plan.Window) bool { return win.Ends[i] == s.Offset && win.Deadline == s.Before })
		}
		switch w.off {
		case sealsAgain:
			l.Seals = slices.DeleteFunc(l.Seals, func(s store.Seal) bool { return !cuts(s) })
		case ownCovered:
			named := w.namedSeals(l.Partition)
			l.Seals = slices.DeleteFunc(l.Seals, func(s store.Seal) bool { return !slices.Contains(named, s) })
		case basisTime:
			l.Basis.Watermark = store.NoTime
		case basisSealed:
			l.Basis.Sealed = store.NoTime
		case basisCounters:
			l.Basis.Counters = store.Counters{}
		case endsFirst:
			l.End = k.w.parts[l.Partition].end()
			for n := range p.Windows {
				p.Windows[n].Ends[i] = l.End
			}
		}
	}
}

// namedSeals are the seals of a lane that rows and its meta name as such. That a final row covers a lane up to some offset is as
// good as a seal there.
func (w *World) namedSeals(p int32) (seals []store.Seal) {
	for _, rows := range w.ledger.rows {
		for i := range rows {
			if c, ok := rows[i].Cover(topic, p); ok {
				seals = append(seals, c.Seals...)
			}
		}
	}
	meta, _, err := w.lab.store.ReadMeta(w.ctx, laneID(int(p)))
	if err != nil {
		w.fail("meta of lane %d: %v", p, err)
	}
	return append(seals, meta.Seals...)
}

// twistCall does what the rule that is off would have prevented.
func (one *runner) twistCall(args []string) (reply any, done bool) {
	w := one.r.w
	_, write := guarded(args)
	switch {
	case w.is(endFences) && strings.HasPrefix(args[0], "evalsha"):
		done = slices.ContainsFunc(args[3:], func(a string) bool { return strings.HasPrefix(a, "removed:") })
	case w.is(guardThere) && write:
		if done = true; args[6] == "1" {
			_, _ = w.redis.do([]string{"unlink", args[4]})
		}
		_, _ = w.redis.do(slices.Concat([]string{"hset", args[4]}, args[7:]))
	case w.is(guardOwned) && write:
		if owner := w.redis.tag(hashTag(args)).hashes[args[3]]["owner"]; !store.Token(owner).Removed() {
			args[5] = owner
		}
	}
	return int64(1), done
}

// twistBase changes what a correction or a certificate says of its base. What this recount itself has published is left alone:
// that an approval finds its own work is another rule.
func (r *recount) twistBase(one *result.Counted) {
	w := r.w
	if !w.is(baseRevision) && !w.is(baseChecksum) && !w.is(certifiesBase) {
		return
	}
	row := r.latest(one.Row.ID())
	if row == nil || row.Replay != nil && row.Replay.ID == r.id {
		return
	}
	if w.is(baseRevision) || w.is(certifiesBase) && one.Equal {
		one.BaseRevision = row.Revision
	}
	if w.is(baseChecksum) || w.is(certifiesBase) && one.Equal {
		one.BaseChecksum = row.Checksum
	}
}

// latest returns the row of a window that the ledger ends with, nil without one.
func (rs *recounting) latest(id ledger.WindowID) *ledger.Row {
	rs.steady = true
	defer func() { rs.steady = false }()
	rows, err := ledger.Latest(rs.w.ctx, rs.w.kafka, pipeline)
	if err != nil {
		rs.w.fail("ledger: %v", err)
	}
	for i := range rows {
		if rows[i].ID() == id {
			return &rows[i]
		}
	}
	return nil
}
