package model

import (
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
	"millrace/pipeline/window"
)

// values is what the model compares of a key without the oracle.
type values struct {
	N   int64 `json:"n"`
	Sum int64 `json:"sum"`
}

type revisionID struct {
	windowID
	revision int
}

// judge looks at everything that was published, and at Redis, when all is at rest.
func (w *World) judge() {
	w.current = nil
	for s := range slots { // a dead closer's transaction hides what follows until its timeout
		if p, err := w.kafka.Open(w.ctx, s); err == nil {
			_ = p.Close()
		}
	}
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	lost := w.lostRulings()
	exempt := func(r window.Ref) bool { return w.plan.Deadline(r) <= lost }
	w.judgeSeals()
	w.judgeIncidents(exempt)
	w.judgeLanes()
	w.judgeJournals()
	w.judgeLate(lost)
	revisions, contents := w.judgeResults(), map[windowID]map[string]ledger.ResultRow{}
	for _, id := range sortedKeys(w.ledger.rows) {
		contents[id] = w.judgeWindow(id, revisions, exempt(w.refOf(id)))
	}
	w.judgeOracle(contents, exempt)
	w.judgeViews()
	w.verify()
}

// lostRulings is the highest seal that was committed once and is not in force any more: Redis lost it, and events that
// were late under it may have come to count. So may, the other way round, a seal that a lane adopted while it read again
// what a forgotten state had decided. Windows up to there are not judged.
func (w *World) lostRulings() int64 {
	lost := int64(window.NoTime)
	for p := range w.parts {
		kept := w.laneTag(p).rulings()
		for _, s := range w.applied[p] {
			if s.effective && (s.rewrites || !slices.Contains(kept, s)) {
				lost = max(lost, s.before)
			}
		}
	}
	return lost
}

// judgeSeals: an event that stood in the log when its lane asked for the end must not become late by the seal.
func (w *World) judgeSeals() {
	for p := range w.parts {
		rulings := w.laneTag(p).rulings()
		ref := w.reference(p, rulings)
		for i := range w.parts[p].events {
			e, pl := &w.parts[p].events[i], &ref.placed[i]
			if e.kind != good || pl.refused || pl.wm == pl.own {
				continue
			}
			gen, late := w.plan.Place(w.plan.SliceStart(e.ms), pl.own)
			if gen == pl.gen && late == pl.late {
				continue
			}
			for _, s := range rulings {
				if !s.accept && s.before == pl.wm && s.offset <= int64(i) && e.at < s.asked-1 && !s.rewrites {
					w.fail("lane %d: offset %d stood in the log when seal %+d was adopted at %d, and became late by it",
						p, i, s.before-origin, s.offset)
				}
			}
		}
	}
}

func (w *World) judgeIncidents(exempt func(window.Ref) bool) {
	for _, c := range w.closers {
		for _, t := range c.incidents {
			seen := slices.ContainsFunc([]error{store.ErrPartialLoss, agg.ErrEntryCorrupt, page.ErrCorrupt}, func(err error) bool {
				return strings.Contains(t.Problem, err.Error())
			})
			if slices.Contains(w.damaged, true) && seen {
				continue // it was, and for a long time, and what is published now is judged
			}
			if !exempt(w.refOf(windowID{t.Window, t.Start})) {
				w.fail("%s reports: %s", c.name, t.Problem)
			}
		}
	}
}

// judgeLanes: everything was read, counted and, where it was let go, dropped.
func (w *World) judgeLanes() {
	for p := range w.parts {
		t := w.laneTag(p)
		ref := w.reference(p, t.rulings())
		end := w.parts[p].end()
		if at := atoi(w.meta(p, "offset")); at != end {
			w.fail("lane %d stands at %d, the log ends at %d", p, at, end)
		}
		got := countersOf(t.hashes["mr:{"+t.name+"}:meta"])
		if want := ref.counters(end); got != want {
			w.fail("lane %d: counters are %+v, should be %+v", p, got, want)
		}
		w.judgePages(p)
		w.out.Late += got.Late
		for i := range ref.placed {
			if ref.placed[i].jumped {
				w.out.Jumped++
			}
		}
		for _, member := range slices.Sorted(maps.Keys(t.zsets["mr:{"+t.name+"}:slices"])) {
			if id, err := store.ParseSliceID(member); err == nil && w.plan.LastDeadline(id.Start) <= w.dropBefore(p) {
				w.fail("lane %d: slice %s was never dropped", p, member)
			}
		}
	}
}

func (w *World) dropBefore(p int) int64 {
	return atoi(w.laneTag(p).hashes["mr:{"+laneID(p).String()+"}:ctl"]["drop_before"])
}

// judgeLate: every late event stands in the late topic. One that was not late in the end does only if Redis lost the
// seal that made it late, or everything while the lane was writing it again.
func (w *World) judgeLate(lost int64) {
	seen := map[[2]int64]bool{}
	for _, r := range w.side {
		if r.reason == "late" {
			seen[[2]int64{int64(r.partition), r.offset}] = true
		}
	}
	for p := range w.parts {
		ref := w.reference(p, w.laneTag(p).rulings())
		for i := range ref.placed {
			pl, at := &ref.placed[i], [2]int64{int64(p), int64(i)}
			switch {
			case pl.late && !seen[at]:
				w.fail("lane %d: late offset %d is not in the late topic", p, i)
			case !pl.late && seen[at] && !w.void[at] && w.plan.LastDeadline(w.plan.SliceStart(w.parts[p].events[i].ms)) > lost:
				w.fail("lane %d: offset %d is in the late topic and counts", p, i)
			}
		}
	}
}

// verify runs what `millrace verify` runs.
func (w *World) verify() {
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.lab.store, Kafka: w.kafka, Slots: slots, Input: true,
		Now: func() time.Time { return time.UnixMilli(w.clock()) }})
	if err != nil {
		w.fail("verify: %v", err)
		return
	}
	for _, p := range v.Problems {
		if p.Kind == verify.ProblemView && w.redisLost() {
			continue
		}
		w.fail("verify finds: %+v", p)
	}
}

func (w *World) redisLost() bool {
	for _, t := range w.redis.tags {
		if t.lost > 0 {
			return true
		}
	}
	return false
}
