package fold

import (
	"cmp"
	"slices"
	"unsafe"

	"millrace/pipeline/agg"
	"millrace/pipeline/store"
)

// Control is what a lane adopts at a snapshot.
type Control struct {
	Gen        int64 // generation of the desired state this lane now follows
	SpecGen    int64
	SealBefore int64 // adopted only together with a proof of idleness; window.NoTime when not asked for
	DropBefore int64 // every window with a deadline at or before this is final; window.NoTime when none is
	Rewrite    int64 // number of a commit of this owner at which entries in Redis did not add up; 0 when none was found
	IdleAt     int64 // the broker's end a moment ago, when nothing could move the watermark for idle_timeout; -1 otherwise

	Pages      bool  // every reader of the lane's state can read pages
	OnlyDeltas bool  // commits wait in the journal: no more than what changed is written
	DeleteUpTo int64 // what commits up to this number have replaced may be deleted: Redis has them, and nobody reads by an older index
}

// Dirty reports whether a snapshot now would hold more than a sign of life.
func (s *State) Dirty() bool { return s.touched }

// Snapshot encodes everything that changed since the last snapshot into c, adopts ctl, and leaves a fresh dirty set.
// c must not be in use; its memory is reused. The commits of a state must be applied in the order they were made.
func (s *State) Snapshot(c *Commit, ctl Control) {
	s.adoptControl(ctl)
	c.reset()
	if ctl.Pages && s.mayTurnToPages() {
		s.TurnToPages()
	}
	if s.OwesEntries(ctl.Rewrite) {
		s.markAll()
	}
	if gone := s.dropFinalSlices(ctl.DropBefore); len(gone)+len(s.stale) > 0 {
		c.Calls = append(c.Calls, store.Call{Drop: gone, Purge: s.stale, Buckets: s.program.Spec.Lane.Buckets})
		s.stale = nil
	}
	s.encodeChanges(c, ctl)
	s.chainCalls(c)
}

// encodeChanges makes calls of everything that is dirty.
func (s *State) encodeChanges(c *Commit, ctl Control) {
	if !s.paged {
		s.encodeDirty(c)
		s.cutIntoCalls(c)
		return
	}
	inOrder := s.sorted()
	deletes, unfield := s.leftover, []store.SliceID(nil)
	if s.leftover = nil; len(deletes) == 0 && !ctl.OnlyDeltas {
		deletes, unfield = s.takeDeletable(inOrder, ctl.DeleteUpTo)
	}
	s.encodePages(c, inOrder, ctl.OnlyDeltas)
	s.cutPagesIntoCalls(c, deletes, unfield)
}

// Reseed encodes what Redis forgot as one commit that follows what was found there: entries that changed since the commit
// that Redis knows as its last, or all of them when found does not say which that is, or not everything is there. Stored slices
// that memory lacks, or that no meta has confirmed, are dropped first. Memory is a valid state and nothing is read again.
func (s *State) Reseed(c *Commit, found store.LaneIndex) {
	s.cursor = found.Meta.Cursor
	c.reset()
	kept := make(map[sliceKey]*store.SliceIndex, len(found.Slices))
	var purge []store.SliceID
	for i := range found.Slices {
		st := &found.Slices[i]
		k := sliceKey{st.Start, int32(st.Gen)}
		if _, ok := s.slices[k]; !ok || st.Width != s.program.plan.Width || st.FirstOffset == store.NoOffset {
			purge = append(purge, st.SliceID)
			continue
		}
		kept[k] = st
	}
	s.stale, s.leftover = nil, nil
	if len(purge) > 0 {
		c.Calls = append(c.Calls, store.Call{Purge: purge, Buckets: s.program.Spec.Lane.Buckets})
	}
	all := found.Meta.Done == store.NoCommit || found.Meta.CheckBalance(s.id, found.Stats()) != nil
	for _, k := range s.sorted() {
		sl := s.slices[k]
		s.wake(sl)
		sl.markForgotten(kept[k], all, found.Meta.Done, s.cursor.Seq+1)
		if st := kept[k]; st != nil {
			s.leftover = store.AppendDeletes(s.leftover, st.SliceID, st.Beyond)
		}
	}
	if all {
		s.whole = s.cursor.Seq + 1
	}
	s.stored = 0
	s.encodeChanges(c, Control{Pages: s.paged})
	s.chainCalls(c)
	c.meta.Whole = true
}

// markForgotten makes the rows of a slice dirty that Redis lacks. stored is what Redis has of the slice, nil for nothing; done is
// the last commit that it has, and seq the number of the one that is being made.
func (sl *slice) markForgotten(stored *store.SliceIndex, all bool, done, seq int64) {
	sl.changed = true
	sl.paging, sl.beneath, sl.stat.Paged = paging{}, false, false
	if stored != nil {
		sl.adopt(stored.Pages)
		sl.beneath, sl.stat.Paged, sl.stat.Spread = !stored.Paged, stored.Paged, stored.Spread
	}
	sl.table.BeginEpoch(uint64(seq))
	if all || stored == nil {
		sl.table.MarkAllDirty()
		return
	}
	sl.table.MarkNewer(uint64(done))
}

// markAll makes everything dirty: the next commit holds the whole state.
func (s *State) markAll() {
	for _, sl := range s.slices {
		s.wake(sl)
		sl.table.MarkAllDirty()
		sl.changed = true
	}
	s.whole = s.cursor.Seq + 1
}

// OwesEntries reports whether entries were found missing at a commit of this owner, and no commit since held every entry.
func (s *State) OwesEntries(seq int64) bool { return seq > 0 && seq >= s.whole }

// adoptControl takes control values over. A seal is taken only by a lane that has read to the end that the broker has just
// named, and has found nothing there since that could move the watermark: a lane that is behind would turn records that
// are on time into late ones. Windows that are final already bind every lane, also one of
// a partition that was added since: what it folded there would never be published. But no lane decides otherwise than
// the entries it has restored.
func (s *State) adoptControl(ctl Control) {
	if !s.Rereads() {
		s.raiseSeal(ctl.DropBefore)
	}
	s.ctlGen = max(s.ctlGen, ctl.Gen)
	s.specGen = max(s.specGen, ctl.SpecGen)
	if ctl.IdleAt >= max(s.still, 0) && s.offset >= ctl.IdleAt && s.offset >= s.decided {
		s.idleEnd = ctl.IdleAt
		s.raiseSeal(ctl.SealBefore)
	}
}

// dropFinalSlices removes slices from memory whose windows are all final and whose seal is committed.
func (s *State) dropFinalSlices(before int64) []store.SliceDrop {
	var gone []store.SliceDrop
	for k, sl := range s.slices {
		if deadline := s.program.plan.LastDeadline(k.start); deadline <= before && deadline <= s.committed {
			gone = append(gone, store.SliceDrop{SliceID: sl.stat.SliceID, Deadline: deadline})
			s.forgetSlice(k)
		}
	}
	return gone
}

// sorted lists the slices by start and generation, so that equal states make equal commits. It is valid until the next
// call.
func (s *State) sorted() []sliceKey {
	s.keys = s.keys[:0]
	for k := range s.slices {
		s.keys = append(s.keys, k)
	}
	slices.SortFunc(s.keys, func(a, b sliceKey) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.gen, b.gen)) })
	return s.keys
}

// encodeDirty appends every dirty entry to the arena, grouped by slice and bucket.
func (s *State) encodeDirty(c *Commit) {
	for _, k := range s.sorted() {
		sl := s.slices[k]
		dirty := sl.table.Dirty()
		if len(dirty) == 0 {
			continue
		}
		s.sortByBucket(sl.table, dirty)
		for b := range s.program.Spec.Lane.Buckets {
			rows := s.order[s.counts[b]:s.counts[b+1]]
			if len(rows) == 0 {
				continue
			}
			from := len(c.ends) / 2
			for i, row := range rows {
				if i+ahead < len(rows) {
					sl.table.HintEntry(rows[i+ahead])
				}
				c.arena = append(c.arena, sl.table.Key(row)...)
				c.ends = append(c.ends, len(c.arena))
				c.arena = sl.table.AppendEntry(c.arena, row, s.offset)
				c.ends = append(c.ends, len(c.arena))
			}
			c.groups = append(c.groups, group{sl.stat.SliceID, b, from, len(c.ends) / 2})
		}
	}
	c.Entries, c.Bytes = len(c.ends)/2, len(c.arena)
	from := 0
	for _, end := range c.ends {
		c.fields = append(c.fields, unsafe.String(unsafe.SliceData(c.arena[from:end]), end-from))
		from = end
	}
}

// ahead is how many rows before their turn their memory is asked for.
const ahead = 8

// sortByBucket leaves the rows in s.order, those of bucket b at s.counts[b] up to s.counts[b+1].
func (s *State) sortByBucket(t *agg.Table, rows []uint32) {
	buckets := s.program.Spec.Lane.Buckets
	s.counts = slices.Grow(s.counts[:0], buckets+1)[:buckets+1]
	clear(s.counts)
	s.buckets = slices.Grow(s.buckets[:0], len(rows))[:len(rows)]
	for i, row := range rows {
		if i+ahead < len(rows) {
			t.HintEntry(rows[i+ahead])
		}
		b := agg.Bucket(t.Hash(row), buckets)
		s.buckets[i] = uint16(b)
		s.counts[b]++
	}
	sum := 0
	for b := range s.counts {
		s.counts[b], sum = sum, sum+s.counts[b]
	}
	s.order = slices.Grow(s.order[:0], len(rows))[:len(rows)]
	for i, row := range rows {
		b := s.buckets[i]
		s.order[s.counts[b]] = row
		s.counts[b]++
	}
	copy(s.counts[1:], s.counts[:buckets])
	s.counts[0] = 0
}

// callBytes bounds the entries of one call, unless a single one has more: what Redis takes within any timeout, and far
// below what the journal takes as one record.
const callBytes = 1 << 20

// cutIntoCalls turns groups into calls of at most ChunkFields entries and callBytes bytes.
func (s *State) cutIntoCalls(c *Commit) {
	limit, room, space := s.program.Spec.Lane.ChunkFields, 0, 0
	// A group is cut at most once per call. Two calls in a row that are full of bytes hold more than callBytes together,
	// so this many writes never move.
	c.writes = slices.Grow(c.writes[:0], len(c.groups)+c.Entries/limit+2*(c.Bytes/callBytes)+2)
	for _, g := range c.groups {
		for from := g.from; from < g.to; {
			if room == 0 || c.entryBytes(from) > space {
				c.Calls = append(c.Calls, store.Call{Buckets: s.program.Spec.Lane.Buckets})
				room, space = limit, callBytes
			}
			to := from
			for ; to < min(g.to, from+room) && (to == from || c.entryBytes(to) <= space); to++ {
				space -= c.entryBytes(to)
			}
			c.writes = append(c.writes, store.Write{Slice: g.slice, Bucket: g.bucket, Fields: c.fields[2*from : 2*to]})
			call := &c.Calls[len(c.Calls)-1]
			call.Writes = c.writes[len(c.writes)-1-len(call.Writes):]
			room -= to - from
			from = to
		}
	}
}

// chainCalls adds the meta to the last call and gives every call its place in the chain.
func (s *State) chainCalls(c *Commit) {
	c.meta.Slices = c.meta.Slices[:0]
	for _, sl := range s.slices {
		if sl.changed {
			c.meta.Slices = append(c.meta.Slices, sl.stat)
			sl.changed = false
		}
	}
	if s.offset >= s.decided {
		s.decided = 0
	}
	s.pruneReplay()
	c.Offset, c.Watermark, c.Effective, c.Replay, c.Counters, c.CtlGen = s.offset, s.Watermark(), s.effective, s.Replay(), s.counters, s.ctlGen
	c.sideBytes = int64(s.sides.bytes)
	c.Side = append(c.Side, s.sides.takeCollected()...)
	slices := c.meta.Slices
	c.meta = store.MetaUpdate{
		Offset: s.offset, Watermark: c.Watermark, MaxTime: s.maxTime, Sealed: s.sealed, IdleEnd: s.idleEnd,
		Counters: s.counters, TopicID: s.topicID, CtlGen: s.ctlGen, SpecGen: s.specGen, Slices: slices,
		Decided: s.decided, Era: s.era, Seals: c.Replay.Seals, Hint: c.Replay.String(),
		Jumps: s.jumps, Accepted: c.Replay.Accepted, Begun: s.begun,
		Balance: store.Balance{Known: true, Dropped: s.dropped},
	}
	if n := len(c.Calls); n == 0 || len(c.Calls[n-1].Writes)+len(c.Calls[n-1].Pages) == 0 {
		c.Calls = append(c.Calls, store.Call{})
	}
	c.Calls[len(c.Calls)-1].Meta = &c.meta
	c.Calls[0].Registered = s.stored
	s.stored = len(s.slices)
	seq := s.cursor.Seq + 1
	for i := range c.Calls {
		if s.paged {
			c.Calls[i].Format, c.Calls[i].Buckets = store.PageFormat, s.program.Spec.Lane.Buckets
		}
		c.Calls[i].Prev = s.cursor
		s.cursor = store.Cursor{Seq: seq, Chunk: int64(i)}
		c.Calls[i].Next = s.cursor
	}
	for _, sl := range s.slices {
		sl.table.BeginEpoch(uint64(seq + 1))
	}
	s.touched = false
}

// Acknowledged tells the state that Redis has a commit.
func (s *State) Acknowledged(c *Commit) { s.Reached(c.Effective) }

// Reached is Acknowledged for a commit that came to Redis by way of the journal: effective is the greater of watermark and
// seal in its meta.
func (s *State) Reached(effective int64) { s.committed = max(s.committed, effective) }
