package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
	"millrace/tests/oracle"
)

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

// judgeWindow follows the ledger rows of one window, and returns the content of the last by key.
func (w *World) judgeWindow(id windowID, revisions map[revisionID][]ledger.ResultRow, exempt bool) map[string]ledger.ResultRow {
	rows := w.ledger.rows[id]
	var last *ledger.Row
	content := map[string]ledger.ResultRow{}
	for i := range rows {
		row := &rows[i]
		if last == nil || row.Revision != last.Revision {
			w.follow(id, content, row, revisions[revisionID{id, row.Revision}])
		}
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
		for _, r := range content {
			sum.Add(r)
		}
		if sum.Rows() != row.Keys || sum.String() != row.Checksum {
			w.fail("%s: revision %d has %d rows with checksum %s, its ledger row says %d and %s", id, row.Revision,
				sum.Rows(), sum.String(), row.Keys, row.Checksum)
		}
		if !exempt {
			w.judgeContent(id, row, content)
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
	return content
}

// follow makes content that of a revision: by all of its rows, or by those that it changes.
func (w *World) follow(id windowID, content map[string]ledger.ResultRow, row *ledger.Row, published []ledger.ResultRow) {
	n := len(row.Links) - 1
	if n < 0 || row.Links[n].Revision != row.Revision {
		w.fail("%s: revision %d is not the last of its links %+v", id, row.Revision, row.Links)
		return
	}
	if row.Links[n].Whole {
		clear(content)
	} else if w.out.Differing++; int64(len(published)) != row.Changed {
		w.fail("%s: revision %d has %d rows, its ledger row says that %d changed", id, row.Revision, len(published), row.Changed)
	}
	for _, r := range published {
		old, known := content[string(r.Key)]
		switch {
		case r.Deleted && !known, known && !row.Links[n].Whole && bytes.Equal(old.Values, r.Values) && !r.Deleted:
			w.fail("%s: revision %d changes nothing of key %s", id, row.Revision, r.Key)
		case r.Deleted:
			delete(content, string(r.Key))
		default:
			content[string(r.Key)] = r
		}
	}
}

// judgeContent compares a revision with the events below the offsets it covers.
func (w *World) judgeContent(id windowID, row *ledger.Row, published map[string]ledger.ResultRow) {
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
func (w *World) judgeOracle(contents map[windowID]map[string]ledger.ResultRow, exempt func(window.Ref) bool) {
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
		published := slices.SortedFunc(maps.Values(contents[id]), func(a, b ledger.ResultRow) int {
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
		if last.View == nil {
			continue // somebody else was about to show a revision of that number
		}
		contents := publish.Contents{Kafka: w.kafka, State: w.lab.store}
		found, err := contents.InView(w.ctx, &last)
		switch {
		case err != nil || found.Missing != "" && !found.Expired:
			w.fail("%s: revision %d in Redis: %v, %+v", id, last.Revision, err, found)
		case found.Missing == "":
			w.out.Shown++
		}
	}
}
