package model

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// pageNotes are what rules of pages need that are switched off.
type pageNotes struct {
	retaking bool
	sent     int64                                // forgottenAll: number of the last commit that Redis had
	whole    map[string][]store.SliceID           // slices that a commit writes whole, by its last cursor
	wholeAt  map[store.SliceID]int64              // runsReplaceLater: number of the last commit that wrote a slice whole
	pending  map[store.SliceID][]store.StoredPage // pendingGone: what whole runs have replaced
	survived map[store.SliceID][]store.StoredPage // of them, after the state was written again
}

// twistIndex changes what a lane or a closer sees of pages.
func (w *World) twistIndex(x *store.LaneIndex) {
	for i := range x.Slices {
		sl := &x.Slices[i]
		switch w.off {
		case pagesDone:
			sl.Pages, sl.Beyond = append(sl.Beyond, sl.Pages...), nil
			slices.SortStableFunc(sl.Pages, func(a, b store.StoredPage) int {
				if b.Less(a.Place) {
					return -1
				}
				return 1
			})
		case newestWins:
			slices.Reverse(sl.Pages)
		}
	}
}

// ReadMeta lets a lane that comes back believe that nobody was in between.
func (s *laneStore) ReadMeta(ctx context.Context, id store.LaneID) (store.Meta, bool, error) {
	meta, found, err := s.Store.ReadMeta(ctx, id)
	if l := s.l; err == nil && found && l.retaking && l.w.is(ownBefore) {
		s.replaced, meta.Owner = meta.Owner, l.holder.Token()
	}
	return meta, found, err
}

// twistFound changes what a lane finds in Redis that is to write its state again.
func (l *laneProc) twistFound(found *store.LaneIndex) {
	switch l.w.off {
	case forgottenAll:
		there := map[store.SliceID]bool{}
		for i := range found.Slices {
			there[found.Slices[i].SliceID] = true
		}
		found.Meta.Done, found.Meta.Balance.Known = max(found.Meta.Done, l.sent), false
		l.holder.State().EachSlice(func(stat store.SliceStat, _ *agg.Table) {
			if !there[stat.SliceID] {
				found.Slices = append(found.Slices, store.SliceIndex{SliceStat: stat})
			}
		})
	case runsReplaceLater:
		for i := range found.Slices {
			if x := &found.Slices[i]; l.wholeAt[x.SliceID] > found.Meta.Done {
				x.Pages = nil
			}
		}
		clear(l.wholeAt)
	case pendingGone:
		l.survived, l.pending = l.pending, map[store.SliceID][]store.StoredPage{}
	case rowsSeq:
		l.forgetRows(found)
	}
}

// forgetRows remembers the rows whose commit has the number of the commit that is to come.
func (l *laneProc) forgetRows(found *store.LaneIndex) {
	l.st.same = map[string]bool{}
	l.holder.State().EachSlice(func(stat store.SliceStat, table *agg.Table) {
		if !slices.ContainsFunc(found.Slices, func(x store.SliceIndex) bool {
			return x.SliceID == stat.SliceID && x.FirstOffset != store.NoOffset
		}) {
			return
		}
		for row := range uint32(table.Len()) {
			if int64(table.Epoch(row)) == found.Meta.Cursor.Seq+1 {
				l.st.same[stat.String()+string(table.Key(row))] = true
			}
		}
	})
}

// twistReseed changes the commit that writes the state again, and notes it.
func (l *laneProc) twistReseed(c *fold.Commit) {
	if l.w.is(rowsSeq) {
		l.leaveOut(c)
	}
	l.noteWholeRuns(c)
}

// leaveOut takes entries out of the pages of a commit.
func (l *laneProc) leaveOut(c *fold.Commit) {
	for i := range c.Calls {
		var pages []store.PageWrite
		for _, p := range c.Calls[i].Pages {
			name, err := page.ParseName(p.Name)
			if err != nil {
				l.w.fail("%v", err)
				return
			}
			old, err := page.Parse(name, l.w.program.StateID, []byte(p.Value))
			if err != nil {
				l.w.fail("%v", err)
				return
			}
			var out page.Writer
			value := out.Begin(nil, l.w.program.StateID, name.Offset)
			kept := 0
			for n := range old.Len() {
				key, entry := old.Entry(n)
				if l.st.same[p.Slice.String()+string(key)] {
					continue
				}
				if name.Last = old.Hash(n); kept == 0 {
					name.First = name.Last
				}
				value = out.Add(value, key, func(dst []byte) []byte { return append(dst, entry...) })
				kept++
			}
			if out.End(value); kept > 0 {
				name.Bytes = len(value)
				p.Name, p.Value, p.Entries = name.String(), string(value), kept
				pages = append(pages, p)
			}
		}
		c.Calls[i].Pages = pages
	}
}

// noteWholeRuns notes which slices a commit writes whole, and which pages that replaces.
func (l *laneProc) noteWholeRuns(c *fold.Commit) {
	if !l.w.mutated() {
		return
	}
	entries := map[store.SliceID]int{}
	for i := range c.Calls {
		for _, p := range c.Calls[i].Pages {
			entries[p.Slice] += p.Entries
		}
	}
	at := c.Calls[len(c.Calls)-1].Next.String()
	l.holder.State().EachSlice(func(stat store.SliceStat, table *agg.Table) {
		if n := entries[stat.SliceID]; n == 0 || n < table.Len() {
			return
		}
		l.whole[at] = append(l.whole[at], stat.SliceID)
		l.wholeAt[stat.SliceID] = c.Seq()
		if l.w.is(pendingGone) {
			l.pending[stat.SliceID] = l.w.pagesOf(l.w.laneTag(l.p))[stat.String()]
		}
	})
}

// deleteAtOnce deletes the pages that a commit replaces before the commit has ended.
func (s *laneStore) deleteAtOnce(calls []store.Call) {
	pages := s.l.w.pagesOf(s.l.w.laneTag(s.l.p))
	last := calls[len(calls)-1].Next
	for _, id := range s.l.whole[last.String()] {
		var old []store.StoredPage
		for _, p := range pages[id.String()] {
			if p.Seq < last.Seq {
				old = append(old, p)
			}
		}
		calls[0].Delete = store.AppendDeletes(slices.Clone(calls[0].Delete), id, old)
	}
}

// deleteSurvivors lets a commit delete what the lane was to delete before it wrote its state again.
func (l *laneProc) deleteSurvivors(c *fold.Commit) {
	if c == l.reseeding || c.Calls[0].Format != store.PageFormat {
		return
	}
	for _, id := range sortedKeys(l.survived) {
		c.Calls[0].Delete = store.AppendDeletes(c.Calls[0].Delete, id, l.survived[id])
	}
	l.survived = nil
}

// twistScript lets the scripts of pages leave something out. The function that it returns is called behind the command.
func (w *World) twistScript(args []string) (after func()) {
	const keys, kind, drops = 3, 4, 9 // arguments behind the keys
	_, _, _, ok := applyArgs(args)
	if !ok || !w.is(leftRegistered) && !w.is(leftTurning) && !w.is(dropCounts) {
		return func() {}
	}
	at := keys + int(atoi(args[2]))
	if len(args) <= at+drops || !strings.HasSuffix(args[at+6], "}:p:"+w.program.StateID+":") {
		return func() {} // a call with fields
	}
	t := w.redis.tag(hashTag(args))
	prefix := "mr:{" + t.name + "}:"
	meta, slicesBefore := maps.Clone(t.hashes[prefix+"meta"]), maps.Clone(t.zsets[prefix+"slices"])
	before := map[string]map[string]string{}
	for key := range t.hashes {
		if _, _, ok := w.pageKeyOf(t, key); ok {
			before[key] = maps.Clone(t.hashes[key])
		}
	}
	return func() {
		now := t.hashes[prefix+"meta"]
		if now["cursor"] == meta["cursor"] {
			return
		}
		if w.is(dropCounts) {
			if args[at+kind] == "0" && now["dropped"] != meta["dropped"] {
				set(t, t.hashes, prefix+"meta", "dropped", meta["dropped"])
			}
			return
		}
		turned := meta["format"] != strconv.Itoa(store.PageFormat)
		for _, key := range slices.Sorted(maps.Keys(before)) {
			member, _, _ := w.pageKeyOf(t, key)
			_, was := slicesBefore[member]
			if _, is := t.zsets[prefix+"slices"][member]; !is || was == w.is(leftRegistered) || was && !turned {
				continue
			}
			for field, value := range before[key] {
				if _, ok := t.hashes[key][field]; !ok {
					set(t, t.hashes, key, field, value)
				}
			}
		}
	}
}

// Index is what a closer sees of the pages of a lane.
func (s *closerState) Index(ctx context.Context, id store.LaneID, stateID string, spans store.Spans, known []store.SliceStat,
) (store.LaneIndex, error) {
	x, err := s.Store.Index(ctx, id, stateID, spans, known)
	if err != nil {
		return x, err
	}
	s.w.twistIndex(&x)
	switch s.w.off {
	case behind:
		x.Meta.Offset = s.highest(id, x.Meta.Offset)
	case wholeLanes:
		x.Meta.Balance = store.Balance{}
	case indexCovers:
		done := x.Meta.Done
		x.Meta = s.views[id]
		x.Meta.Done = done
	case oneIndex:
		earlier := s.found[id]
		s.found[id] = x
		x.Slices = slices.Clone(x.Slices)
		for i := range x.Slices {
			for k := range earlier.Slices {
				if o := &earlier.Slices[k]; o.SliceID == x.Slices[i].SliceID && earlier.Meta.Owner == x.Meta.Owner && o.Folded > 0 {
					x.Slices[i] = *o
				}
			}
		}
	}
	s.views[id] = x.Meta
	return x, nil
}

// ReadPages is what a closer reads of pages.
func (s *closerState) ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	guard, err := s.Store.ReadPages(ctx, id, stateID, pages, func(i int, p *page.Page) error {
		if s.w.is(newestWins) {
			older := *p
			older.Name.Seq, older.Name.Chunk = -older.Name.Seq, -older.Name.Chunk
			p = &older
		}
		return fn(i, p)
	})
	switch s.w.off {
	case behind:
		guard.Offset = s.highest(id, guard.Offset)
	case rereadGuarded, guards:
		guard = s.views[id].Guard()
	}
	return guard, err
}
