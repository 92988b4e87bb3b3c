package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
	"millrace/pipeline/window"
	"millrace/tests/oracle"
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
	revisions := w.judgeResults()
	for _, id := range sortedKeys(w.ledger.rows) {
		w.judgeWindow(id, revisions, exempt(w.refOf(id)))
	}
	w.judgeOracle(revisions, exempt)
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
			seen := strings.Contains(t.Problem, store.ErrPartialLoss.Error()) || strings.Contains(t.Problem, agg.ErrEntryCorrupt.Error())
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

// judgeResults collects the rows of every revision; none may stand twice.
func (w *World) judgeResults() map[revisionID][]ledger.ResultRow {
	revisions := map[revisionID][]ledger.ResultRow{}
	seen := map[string]bool{}
	err := ledger.ReadResults(w.ctx, w.kafka, resultsTo, pipeline, func(r ledger.ResultRow) error {
		id := revisionID{windowID{r.Window, r.Start}, r.Revision}
		name := fmt.Sprint(id, r.Revision, string(r.Key))
		if seen[name] {
			w.fail("%s: revision %d of key %s is published twice", id, r.Revision, r.Key)
		}
		seen[name] = true
		r.Key, r.Values = bytes.Clone(r.Key), bytes.Clone(r.Values)
		revisions[id] = append(revisions[id], r)
		return nil
	})
	if err != nil {
		w.fail("results: %v", err)
	}
	w.out.Revisions = len(revisions)
	return revisions
}

// judgeWindow follows the ledger rows of one window.
func (w *World) judgeWindow(id windowID, revisions map[revisionID][]ledger.ResultRow, exempt bool) {
	rows := w.ledger.rows[id]
	var last *ledger.Row
	for i := range rows {
		row := &rows[i]
		switch {
		case last == nil && row.Revision != 1, last != nil && row.Revision != last.Revision && row.Revision != last.Revision+1:
			w.fail("%s: revision %d comes out of order", id, row.Revision)
		case last != nil && last.Final:
			w.fail("%s: revision %d (%s) follows the final row", id, row.Revision, row.Reason)
		case last != nil && row.Revision == last.Revision && (row.Checksum != last.Checksum || row.Keys != last.Keys):
			w.fail("%s: revision %d changed", id, row.Revision)
		case last != nil && row.Revision != last.Revision && row.Checksum == last.Checksum:
			w.fail("%s: revision %d says what revision %d said", id, row.Revision, last.Revision)
		case row.Final && !row.Exact:
			w.fail("%s: the final row is not exact", id)
		}
		var sum ledger.Checksum
		for _, r := range revisions[revisionID{id, row.Revision}] {
			sum.Add(r)
		}
		if sum.Rows() != row.Keys || sum.String() != row.Checksum {
			w.fail("%s: revision %d has %d rows with checksum %s, its ledger row says %d and %s", id, row.Revision,
				sum.Rows(), sum.String(), row.Keys, row.Checksum)
		}
		if !exempt {
			w.judgeContent(id, row, revisions[revisionID{id, row.Revision}])
			w.judgeWatermark(id, row)
		}
		last = row
	}
	if last.Final {
		w.out.Finals++
	}
	for rev := last.Revision + 1; rev < last.Revision+3; rev++ {
		if len(revisions[revisionID{id, rev}]) > 0 {
			w.fail("%s: revision %d is published and has no ledger row", id, rev)
		}
	}
}

// judgeContent compares a revision with the events below the offsets it covers.
func (w *World) judgeContent(id windowID, row *ledger.Row, published []ledger.ResultRow) {
	ref := w.refOf(id)
	want := map[string]values{}
	events := int64(0)
	for _, lane := range row.Lanes {
		p := int(lane.Partition)
		decided := w.reference(p, w.laneTag(p).rulings())
		for i := range lane.Offset {
			e, pl := &w.parts[p].events[i], &decided.placed[i]
			if !pl.folded || e.ms < ref.Start || e.ms >= row.End || w.plan.Deadline(ref) <= pl.wm {
				continue
			}
			key := fmt.Sprintf(`{"k":"%c"}`, e.key)
			v := want[key]
			want[key] = values{v.N + 1, v.Sum + e.v}
			events++
		}
	}
	got := map[string]values{}
	for _, r := range published {
		var v values
		if err := json.Unmarshal(r.Values, &v); err != nil {
			w.fail("%s: %v", id, err)
		}
		got[string(r.Key)] = v
	}
	for key := range got {
		if !row.Exact && got[key].N >= want[key].N {
			got[key], events = want[key], events+got[key].N-want[key].N // it may hold more than it covers, never less
		}
	}
	maps.DeleteFunc(got, func(_ string, v values) bool { return v.N == 0 })
	if !maps.Equal(got, want) || events != row.Events {
		w.fail("%s: revision %d (%s, final %t, closed in step %d by %s) has %v, %d events; the events below its offsets %+v make %v, %d",
			id, row.Revision, row.Reason, row.Final, row.ClosedAt/stepMs, row.By, got, row.Events, row.Lanes, want, events)
	}
}

// judgeWatermark: what is closed by the watermark was closed when every lane that was not idle had passed its end. One
// that was left out had read and committed all that stood in its log when its closer asked, not long before.
func (w *World) judgeWatermark(id windowID, row *ledger.Row) {
	if row.Reason == ledger.ReasonFlush || row.Reason == ledger.ReasonDrain {
		return
	}
	i := slices.IndexFunc(w.closers, func(c *closerProc) bool { return c.name == row.By })
	looks := w.closers[i].looks
	lastBefore := func(step int) *look {
		n, _ := slices.BinarySearchFunc(looks, step+1, func(l look, step int) int { return l.step - step })
		return &looks[max(n-1, 0)]
	}
	now := lastBefore(int(row.ClosedAt / stepMs))
	asked := lastBefore(now.step - trust)
	for _, lane := range row.Lanes {
		p := int(lane.Partition)
		mark := w.reference(p, w.laneTag(p).rulings()).at(w.setup, lane.Offset)
		if mark >= row.End {
			continue
		}
		if int(row.ClosedAt/stepMs) < w.steps {
			w.out.Idle++
			if lane.Offset < now.ends[p] {
				w.out.Steady++
			}
		}
		if lane.Offset < asked.ends[p] {
			w.fail("%s: revision %d (%s) was closed when lane %d at %d had not passed its end, and %d offsets waited", id,
				row.Revision, row.Reason, p, lane.Offset, asked.ends[p]-lane.Offset)
		}
	}
}

// judgeOracle compares the last revision of every window with the oracle, which shares no code with the pipeline.
func (w *World) judgeOracle(revisions map[revisionID][]ledger.ResultRow, exempt func(window.Ref) bool) {
	res, err := oracle.Run(w.oracle, w.oracleLanes())
	if err != nil {
		w.fail("oracle: %v", err)
		return
	}
	exempted := map[windowID]bool{}
	res.Rows = slices.DeleteFunc(res.Rows, func(r oracle.Row) bool {
		id := windowID{r.Window, r.Start}
		if exempt(w.refOf(id)) {
			exempted[id] = true
		}
		return exempted[id]
	})
	w.out.Exempt = len(exempted)
	var want, got bytes.Buffer
	if err := res.WriteJSON(&want); err != nil {
		w.fail("oracle: %v", err)
	}
	for _, id := range sortedWindows(w.ledger.rows) {
		rows := w.ledger.rows[id]
		published := slices.SortedFunc(slices.Values(revisions[revisionID{id, rows[len(rows)-1].Revision}]), func(a, b ledger.ResultRow) int {
			return bytes.Compare(a.Key, b.Key)
		})
		for _, r := range published {
			if max(r.Edition, ledger.Edition) != w.ended+1 {
				w.fail("%s: a row is of edition %d, the last that ended is %d", id, r.Edition, w.ended)
			}
			r.Edition = 0 // the oracle knows none
			if text, err := r.MarshalJSON(); err == nil && !exempt(w.refOf(id)) {
				got.Write(append(text, '\n'))
			}
		}
	}
	diff, err := oracle.Compare(&want, &got, oracle.Options{})
	if err != nil {
		w.fail("compare: %v", err)
	} else if !diff.Equal() {
		w.fail("the oracle says otherwise: %s", diff)
	}
}

// oracleLanes are the logs with what the lanes were told and answered.
func (w *World) oracleLanes() (lanes []oracle.Lane) {
	for p := range w.parts {
		l := oracle.Lane{Topic: topic, Partition: int32(p)}
		for _, r := range w.parts[p].records {
			if r.Value != nil {
				l.Records = append(l.Records, oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp, Value: r.Value})
			}
		}
		rulings := w.laneTag(p).rulings()
		for i := range w.reference(p, rulings).placed {
			if w.reference(p, rulings).placed[i].jumped {
				l.Accepted = append(l.Accepted, int64(i))
			}
		}
		for _, s := range rulings {
			if s.accept {
				continue
			}
			l.Seals = append(l.Seals, oracle.Seal{Offset: s.offset, Before: s.before})
		}
		lanes = append(lanes, l)
	}
	return lanes
}

func sortedWindows[V any](m map[windowID]V) []windowID {
	return slices.SortedFunc(maps.Keys(m), func(a, b windowID) int {
		if n := strings.Compare(a.name, b.name); n != 0 {
			return n
		}
		return int(min(1, max(-1, a.start-b.start)))
	})
}

// judgeViews: what Redis shows of a window is the ledger's last word, unless Redis itself lost it.
func (w *World) judgeViews() {
	for _, id := range sortedKeys(w.ledger.rows) {
		wid := store.WindowID{Pipeline: pipeline, Window: id.name, Start: id.start}
		if w.redis.tag(wid.String()).lost > 0 {
			continue
		}
		rows := w.ledger.rows[id]
		last := rows[len(rows)-1]
		p, _, err := w.lab.store.Published(w.ctx, wid)
		var shown ledger.Row
		if err == nil && p.Current.Revision > 0 {
			err = json.Unmarshal(p.Row, &shown)
		}
		// A closer that was overtaken may show its own row again after the view expired. Readers
		// compare it with the ledger, and the next sweep removes it.
		outdated := shown.Revision < last.Revision || shown.Revision == last.Revision && !shown.Final && last.Final
		if (last.Final || last.Events == 0) && w.due(last.ClosedAt) && err == nil && outdated {
			w.out.Expired++
			continue
		}
		if err != nil || shown.Revision != last.Revision || shown.Final != last.Final {
			w.fail("%s: Redis shows revision %d (final %t), the ledger has %d (final %t): %v", id, shown.Revision, shown.Final,
				last.Revision, last.Final, err)
			continue
		}
		rev, err := w.lab.store.ReadRevision(w.ctx, wid, last.Revision, func([]byte) error { return nil })
		var prepared ledger.Row
		if err == nil {
			err = json.Unmarshal(rev.Header, &prepared)
		}
		if err != nil || prepared.Checksum != last.Checksum {
			w.fail("%s: the content of revision %d in Redis has checksum %s, published was %s: %v", id, last.Revision,
				prepared.Checksum, last.Checksum, err)
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
