package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// checkLane looks at a lane just when a commit's meta was applied. Whoever restored it now and read on from its offset
// must get what a lane that was never disturbed has: counters and watermark are those of the records below the offset,
// and every entry holds exactly the events below its stamp.
func (w *World) checkLane(p int, t *tag) {
	ref := w.reference(p, t.rulings())
	prefix := "mr:{" + t.name + "}:"
	meta := t.hashes[prefix+"meta"]
	offset := atoi(meta["offset"])
	if offset < 0 || offset > w.parts[p].end() {
		w.fail("lane %d: offset %s, the log ends at %d", p, meta["offset"], w.parts[p].end())
		return
	}
	if got, want := countersOf(meta), ref.counters(offset); got != want {
		w.fail("lane %d at offset %d: counters are %+v, should be %+v", p, offset, got, want)
	}
	if got, want := atoi(meta["watermark"]), ref.at(w.setup, offset); got != want {
		w.fail("lane %d at offset %d: watermark is %d, should be %d", p, offset, got, want)
	}
	w.checkIdle(p, meta, ref, offset)
	w.checkStreak(p, ref, offset)
	if w.damaged[p] && !balanced(t) {
		return // it shows, and nothing is published until it is mended
	}
	w.checkSlices(p, t, ref, offset)
	if _, paged := meta["done"]; paged {
		return // what fields hold may be left beneath pages
	}
	for _, key := range slices.Sorted(maps.Keys(t.hashes)) {
		if name, ok := strings.CutPrefix(key, prefix+"s:"+w.program.StateID+":"); ok {
			w.checkEntries(p, ref, name[:strings.LastIndexByte(name, ':')], t.hashes[key], offset)
		}
	}
}

// checkIdle looks at a lane's claim to be idle: nothing it has read since could move its watermark.
func (w *World) checkIdle(p int, meta map[string]string, ref *reference, offset int64) {
	idleEnd := atoi(meta["idle_end"])
	if idleEnd < 0 {
		return
	}
	for i := idleEnd; i < offset; i++ {
		if ref.moves(w.parts[p], i) {
			w.fail("lane %d at offset %d claims to be idle since %d, and offset %d could move its watermark", p, offset, idleEnd, i)
			return
		}
	}
}

// checkStreak looks for more jumps that were refused than the operator has been asked about. A lane that reads again counts
// anew.
func (w *World) checkStreak(p int, ref *reference, offset int64) {
	if w.rebuilt[p] {
		return
	}
	streak := 0
	for i := offset - 1; i >= 0 && !slices.Contains(w.answered[p], i+1); i-- {
		if pl := &ref.placed[i]; pl.refused {
			streak++
		} else if ref.at(w.setup, i+1) > pl.own {
			break
		}
	}
	if streak > w.spec.Event.MaxJumpStreak {
		w.fail("lane %d at offset %d: %d jumps were refused and nobody was asked", p, offset, streak)
	}
}

// balanced reports whether the slices that Redis has registered add up with what the lane folded.
func balanced(t *tag) bool {
	prefix := "mr:{" + t.name + "}:"
	sum := atoi(t.hashes[prefix+"meta"]["dropped"])
	for member := range t.zsets[prefix+"slices"] {
		sum += foldedOf(t, member)
	}
	return sum == atoi(t.hashes[prefix+"meta"]["folded"])
}

// foldedOf is how many events a lane says it folded into a slice.
func foldedOf(t *tag, member string) int64 {
	parts := strings.Split(t.hashes["mr:{"+t.name+"}:folds"][member], ",")
	if len(parts) < 3 {
		return 0
	}
	return atoi(parts[2])
}

func countersOf(meta map[string]string) store.Counters {
	return store.Counters{
		Read: atoi(meta["read"]), Invalid: atoi(meta["invalid"]), Ahead: atoi(meta["ahead"]), Filtered: atoi(meta["filtered"]),
		Duplicate: atoi(meta["duplicate"]), Late: atoi(meta["late"]), Folded: atoi(meta["folded"]),
		Past: atoi(meta["past"]), Jumped: atoi(meta["jumped"]),
	}
}

// checkSlices compares the slices with the events folded below offset; a slice may lack only when it may be dropped.
func (w *World) checkSlices(p int, t *tag, ref *reference, offset int64) {
	want := map[store.SliceID]store.SliceStat{}
	for i := range offset {
		pl := &ref.placed[i]
		if !pl.folded {
			continue
		}
		id := store.SliceID{Width: w.plan.Width, Start: pl.start, Gen: pl.gen}
		st, ok := want[id]
		if !ok {
			st = store.SliceStat{SliceID: id, FirstOffset: i}
		}
		st.LastOffset = i
		st.Folded++
		want[id] = st
	}
	prefix := "mr:{" + t.name + "}:"
	folds := t.hashes[prefix+"folds"]
	for _, member := range slices.Sorted(maps.Keys(t.zsets[prefix+"slices"])) {
		id, err := store.ParseSliceID(member)
		if err != nil {
			w.fail("lane %d: %v", p, err)
			return
		}
		st, ok := want[id]
		if delete(want, id); w.letGo(p, id.Start) {
			continue
		}
		text := ""
		if ok {
			text = fmt.Sprintf("%d,%d,%d", st.FirstOffset, st.LastOffset, st.Folded)
		}
		head, basis, _ := cutFolds(folds[member])
		if head != text && (text != "" || head != "-1,-1,0") {
			w.fail("lane %d at offset %d: slice %s has folds %q, should have %q", p, offset, member, folds[member], text)
		}
		if ok && head == text {
			w.checkBasis(p, ref, member, st.FirstOffset, basis)
		}
	}
	for _, id := range sortedKeys(want) {
		if !w.letGo(p, id.Start) {
			w.fail("lane %d at offset %d: slice %s is not there, and nobody let it go", p, offset, id)
		}
	}
}

// cutFolds separates first, last and folded from the basis, and from the form of a slice with pages.
func cutFolds(folds string) (head string, basis []string, form int64) {
	parts := strings.Split(folds, ",")
	n := min(3, len(parts))
	head, basis = strings.Join(parts[:n], ","), parts[n:]
	if len(basis)%2 == 1 {
		last := len(basis) - 1
		basis, form = basis[:last], atoi(basis[last])
	}
	return head, basis, form
}

// checkBasis looks at what a slice says of the lane just before its first event: a rebuild begins with it.
func (w *World) checkBasis(p int, ref *reference, member string, first int64, basis []string) {
	if len(basis) == 10 {
		basis = append(basis, "0", "0") // counters that are left out where they are 0
	}
	if len(basis) != 12 {
		w.fail("lane %d: slice %s has a basis of %d numbers", p, member, len(basis))
		return
	}
	pl, c := &ref.placed[first], ref.counters(first)
	n := make([]int64, len(basis))
	for i := range n {
		n[i] = atoi(basis[i])
	}
	if n[0] != pl.own || max(n[0], n[1]) != pl.wm {
		w.fail("lane %d: slice %s began under watermark %d and seal %d, should be %d and both %d", p, member, n[0], n[1], pl.own, pl.wm)
	}
	got := store.Counters{
		Read: n[2], Invalid: n[3], Ahead: n[4], Filtered: n[5], Duplicate: n[6], Late: n[7], Folded: n[8],
		Skipped: n[9], Past: n[10], Jumped: n[11],
	}
	if got != c {
		w.fail("lane %d: slice %s began with counters %+v, should be %+v", p, member, got, c)
	}
}

// letGo reports whether a lane was allowed to drop a slice. It may then be there in part: a lane that writes its state
// again drops it first, and may crash before its offset moves.
func (w *World) letGo(p int, start int64) bool { return w.plan.LastDeadline(start) <= w.asked[p] }

// checkEntries compares the counts of one bucket's entries with the events below their stamps.
func (w *World) checkEntries(p int, ref *reference, name string, bucket map[string]string, offset int64) {
	id, err := store.ParseSliceID(name)
	if err != nil {
		w.fail("lane %d: %v", p, err)
		return
	}
	if w.letGo(p, id.Start) || w.damaged[p] && !w.whole(p, name) {
		return // let go, not registered any more, or seen to be incomplete
	}
	for _, key := range slices.Sorted(maps.Keys(bucket)) {
		_, stamp, count, err := agg.EntryHeader([]byte(bucket[key]))
		if err != nil {
			w.fail("lane %d slice %s: %v", p, name, err)
			return
		}
		want := int64(0)
		for i := range min(max(stamp, offset), int64(len(ref.placed))) {
			pl, e := &ref.placed[i], &w.parts[p].events[i]
			if pl.folded && pl.start == id.Start && pl.gen == id.Gen && e.key == key[len(key)-1] {
				want++
			}
		}
		if count != want {
			w.fail("lane %d at offset %d: slice %s key %c, stamp %d, counts %d events, should count %d",
				p, offset, name, key[len(key)-1], stamp, count, want)
		}
	}
}

// whole reports whether the entries of a registered slice hold as many events as its lane folded. One that is newer than
// the lane's offset may hide what another lacks.
func (w *World) whole(p int, member string) bool {
	t := w.laneTag(p)
	if _, ok := t.zsets["mr:{"+t.name+"}:slices"][member]; !ok {
		return false
	}
	sum := int64(0)
	for key, bucket := range t.hashes {
		if !strings.HasPrefix(key, "mr:{"+t.name+"}:s:"+w.program.StateID+":"+member+":") {
			continue
		}
		for _, entry := range bucket {
			_, stamp, count, err := agg.EntryHeader([]byte(entry))
			if err != nil || stamp > atoi(w.meta(p, "offset")) {
				return false
			}
			sum += count
		}
	}
	return sum == foldedOf(t, member)
}

// checkDrop looks at the ledger when a closer lets a lane drop slices: every window up to there must be final.
func (w *World) checkDrop(p int32, before int64) {
	w.asked[p] = max(w.asked[p], before)
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	for n := range w.parts {
		offset := atoi(w.meta(n, "offset"))
		if offset < 0 {
			continue
		}
		ref := w.reference(n, w.laneTag(n).rulings())
		for i := range offset {
			pl := &ref.placed[i]
			if !pl.folded {
				continue
			}
			for _, r := range w.plan.WindowsOf(pl.start) {
				if w.plan.Deadline(r) > before || w.plan.Deadline(r) <= pl.wm {
					continue
				}
				if rows := w.ledger.rows[w.windowOf(r)]; len(rows) == 0 || !rows[len(rows)-1].Final {
					w.fail("lane %d may drop up to %+d, and window %v is not final", p, before-origin, w.windowOf(r))
				}
			}
		}
	}
}

// checkGone looks at the ledger when the view of a window has gone: it was final for as long as contents are kept.
func (w *World) checkGone(name string) {
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	for id, rows := range w.ledger.rows {
		last := &rows[len(rows)-1]
		if wid := (store.WindowID{Pipeline: pipeline, Window: id.name, Start: id.start}); wid.String() == name {
			if !last.Final && last.Events > 0 || !w.due(last.ClosedAt) {
				w.fail("%s: the view is gone; the last row (final %t) was written in step %d", id, last.Final, last.ClosedAt/stepMs)
			}
			return
		}
	}
	w.fail("the view of %s is gone, and the ledger has no row", name)
}

// checkFloor looks at the ledger when a slot's floor is raised: it never goes back, and every window up to it that has a row
// is final. Those without one are judged at the end. A window without an event is in no round; when it was flushed all the
// same, its empty row stays as it is and the floor answers for it.
func (w *World) checkFloor(slot int32, f *ledger.Floor) {
	at := floorID{slot, f.Window}
	if before, ok := w.ledger.floors[at]; ok && f.End < before {
		w.fail("the floor of %s in slot %d goes back from %+d to %+d", f.Window, slot, before-origin, f.End-origin)
	}
	w.ledger.floors[at] = f.End
	for id, rows := range w.ledger.rows {
		wid := ledger.WindowID{Window: id.name, Start: id.start}
		last := &rows[len(rows)-1]
		if id.name == f.Window && wid.Slot(slots) == int(slot) && last.End <= f.End && !last.Final && last.Events > 0 {
			w.fail("%s: revision %d is not final, and the floor lies at %+d", id, last.Revision, f.End-origin)
		}
	}
}

// floorID names a floor.
type floorID struct {
	slot   int32
	family string
}

// windowID names a window.
type windowID struct {
	name  string
	start int64
}

func (id windowID) String() string { return fmt.Sprintf("%s%+d", id.name, id.start-origin) }

func (w *World) windowOf(r window.Ref) windowID {
	return windowID{w.spec.Windows[r.Window].Name, r.Start}
}

func (w *World) refOf(id windowID) window.Ref {
	i := slices.IndexFunc(w.spec.Windows, func(o spec.Window) bool { return o.Name == id.name })
	return window.Ref{Window: i, Start: id.start}
}

// ledgerReader follows the ledger topic as it grows.
type ledgerReader struct {
	w    *World
	next []int64
	rows map[windowID][]ledger.Row

	floors map[floorID]int64 // ms
}

func newLedgerReader(w *World) *ledgerReader {
	return &ledgerReader{w: w, next: make([]int64, slots), rows: map[windowID][]ledger.Row{}, floors: map[floorID]int64{}}
}

// read takes in what was committed since the last call.
func (l *ledgerReader) read() error {
	before := l.w.current
	l.w.current = nil
	defer func() { l.w.current = before }()
	for p := range l.next {
		tp := source.TopicPartition{Topic: ledger.Topic(pipeline), Partition: int32(p)}
		next, err := l.w.kafka.ReadCommitted(l.w.ctx, tp, l.next[p], func(r source.Record) error {
			rec, err := ledger.ParseRecord(tp, r)
			switch {
			case err != nil:
			case rec.Row != nil && max(rec.Row.Edition, ledger.Edition) > l.w.ended:
				id := windowID{rec.Row.Window, rec.Row.Start}
				l.rows[id] = append(l.rows[id], *rec.Row)
			case rec.Floor != nil && rec.Floor.Edition > l.w.ended:
				l.w.out.Floors++
				l.w.checkFloor(tp.Partition, rec.Floor)
			case rec.Tombstone != nil:
				l.w.out.Rows++
			}
			return err
		})
		if err != nil {
			return err
		}
		l.next[p] = next
	}
	return nil
}

func sortedKeys[K comparable, V any](m map[K]V) []K {
	keys := slices.Collect(maps.Keys(m))
	slices.SortFunc(keys, func(a, b K) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return keys
}
