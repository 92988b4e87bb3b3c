package fold

import (
	"millrace/pipeline/agg"
	"millrace/pipeline/event"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// groupSize is how many events are decided before they are folded together.
const groupSize = 16

// waiting is an event that has been decided and waits to be folded. Every place has a decoder of its own, because an event
// lives in its decoder's memory.
type waiting struct {
	decoder *event.Decoder
	ev      event.Event
	table   *agg.Table
	hash    uint64
	offset  int64
	row     uint32 // where the entry most likely is
	known   bool   // row is set
}

// State is everything a lane holds in memory. It is not safe for concurrent use.
type State struct {
	program *Program
	id      store.LaneID
	topicID string

	group   [groupSize]waiting
	grouped int

	slices   map[sliceKey]*slice
	last     *slice // the slice folded into last: neighbours in the log are mostly neighbours in time
	lastKey  sliceKey
	free     []*agg.Table
	counters store.Counters

	bounds    event.Bounds
	maxJump   int64 // ms; 0: none
	offset    int64 // next offset to read
	maxTime   int64 // largest event time folded, filtered or late, in ms; window.NoTime before the first
	sealed    int64 // adopted seal, in ms
	effective int64 // max(watermark, sealed): what lateness is decided with
	idleEnd   int64 // broker's end at which the lane was proved idle; -1 when it is not
	still     int64 // nothing from here up to offset could move the watermark
	ctlGen    int64
	specGen   int64

	ahead      int64           // highest stamp that was restored: up to there events may be decided already
	uncompared bool            // entries hold events beyond the committed offset: they are to be compared with what is folded
	lost       error           // what the comparison found missing
	dropped    int64           // events folded into slices that are gone since
	stored     int             // slices that Redis must have when the last commit is there; 0: nothing is known
	whole      int64           // number of the last commit of this owner that held every entry
	stale      []store.SliceID // stored slices that the next commit drops, left by an owner that never committed
	decided    int64           // records below were decided before the state was rebuilt; 0 when it was not
	begun      int64           // where the lane's first state began; 0 at the start of its log
	era        int64           // times the state went back to another past
	seals      []store.Seal    // seals a rebuild must adopt again, by offset
	jumps      int64           // refused since the watermark last moved; store.AcceptJump when the next one is to be accepted
	accepted   []int64         // offsets of jumps that were accepted
	halted     bool            // too many jumps in a row: nothing more is decided before the operator has answered
	refusals   refusals        // since the lane was taken
	readBefore int64           // records read before that
	committed  int64           // max(watermark, sealed) of the last acknowledged commit
	touched    bool            // meta moved since the last snapshot
	prescribed *prescribed     // nil: the lane decides by itself
	watch      Watch           // nil: nobody watches

	paged    bool               // commits are in pages
	leftover []store.PageDelete // pages of commits that never ended: they go before the first page
	dirtied  int64              // entries that changed, since the lane was taken
	written  int64              // entries that were written in pages

	cursor    store.Cursor // place of the last call handed out
	sides     sides
	hashed    []hashedRow // scratch: rows by hash
	unordered []hashedRow // scratch

	order   []uint32   // scratch: dirty rows by bucket
	counts  []int      // scratch: rows per bucket
	buckets []uint16   // scratch: bucket of each dirty row
	keys    []sliceKey // scratch: slices in order
}

// NewState returns an empty state that starts reading at offset, its first commit following cursor.
func NewState(p *Program, id store.LaneID, topicID string, offset int64, cursor store.Cursor) *State {
	s := &State{
		program: p, id: id, topicID: topicID,
		bounds: event.BoundsOf(&p.Spec.Event), maxJump: p.Spec.Event.MaxJump.Millis(),
		slices: make(map[sliceKey]*slice),
		offset: offset, cursor: cursor,
		maxTime: window.NoTime, sealed: window.NoTime, effective: window.NoTime, committed: window.NoTime,
		idleEnd: -1, still: offset,
		sides:   newSides(p.Spec, id),
		touched: true,
	}
	for i := range s.group {
		s.group[i].decoder = p.decoders[i]
	}
	return s
}

// ReadFrom makes the state read on at offset, of the log of that topic id.
func (s *State) ReadFrom(topicID string, offset int64) { s.topicID, s.offset = topicID, offset }

// BindFinal makes a state that starts from nothing respect windows that are final already, before it reads its first
// record: every window with a deadline at or before dropBefore is.
func (s *State) BindFinal(dropBefore int64) {
	s.adoptControl(Control{SealBefore: window.NoTime, DropBefore: dropBefore, IdleAt: -1})
}

// EndIdleness withdraws a claim to be idle with the next commit.
func (s *State) EndIdleness() { s.idleEnd, s.touched = store.NotIdle, true }

// IdleEnd is the broker's end at which the lane was proved idle, store.NotIdle when it is not.
func (s *State) IdleEnd() int64 { return s.idleEnd }

// Sealed is the adopted seal in ms, or window.NoTime.
func (s *State) Sealed() int64 { return s.sealed }

// TopicID names the incarnation of the topic that the state was folded from; "" is not known.
func (s *State) TopicID() string { return s.topicID }

// Stamped is the highest stamp that was restored: entries may hold what was read below it. 0 without any.
func (s *State) Stamped() int64 { return s.ahead }

// ReadBefore is the offset below which records are being read again: entries hold them, or the state is being rebuilt.
func (s *State) ReadBefore() int64 { return max(s.ahead, s.decided) }

// SideBytes is the memory of the late and dead-letter records that wait for the next commit.
func (s *State) SideBytes() int { return s.sides.bytes }

// Cursor is the place of the last call handed out, or found by a restore.
func (s *State) Cursor() store.Cursor { return s.cursor }

// Offset is the next offset the lane will read.
func (s *State) Offset() int64 { return s.offset }

// Watermark is the largest event time so far minus the allowed disorder, in ms, or window.NoTime.
func (s *State) Watermark() int64 { return s.watermark(s.maxTime) }

func (s *State) watermark(maxTime int64) int64 {
	if maxTime == window.NoTime {
		return window.NoTime
	}
	return maxTime - s.program.Spec.Watermark.OutOfOrderness.Millis()
}

// basis is what the record that is being decided was met with; maxTime is the largest event time before it.
func (s *State) basis(maxTime int64) store.Basis {
	c := s.counters
	c.Read--
	return store.Basis{Known: true, Watermark: s.watermark(maxTime), Sealed: s.sealed, Counters: c}
}

// Counters returns what became of every record read so far.
func (s *State) Counters() store.Counters { return s.counters }

// Slices is the number of slice generations held.
func (s *State) Slices() int { return len(s.slices) }

// LastSlice is the slice that the latest folded record went into.
func (s *State) LastSlice() store.SliceID { return s.sliceID(s.lastKey) }

// Entries is the number of entries held.
func (s *State) Entries() int {
	n := 0
	for _, sl := range s.slices {
		n += sl.rows()
	}
	return n
}

// EachSlice calls fn with every slice generation held, in no order; those that rest are made rows of. fn must neither
// keep nor change the table.
func (s *State) EachSlice(fn func(stat store.SliceStat, table *agg.Table)) {
	for _, sl := range s.slices {
		s.wake(sl)
		fn(sl.stat, sl.table)
	}
}

// Bytes is the memory held by entries, in rows or in pages that rest, by tables kept for slices to come, and by side
// records that wait for a commit.
func (s *State) Bytes() int64 {
	n := int64(s.sides.bytes)
	for _, sl := range s.slices {
		n += sl.bytes()
	}
	for _, t := range s.free {
		n += int64(t.Bytes())
	}
	return n
}

// Pending estimates the memory that a snapshot now would take for its copies of what is dirty, in bytes.
func (s *State) Pending() int64 {
	n := int64(0)
	for _, sl := range s.slices {
		if dirty := len(sl.table.Dirty()); dirty > 0 {
			n += int64(sl.table.Bytes()) * int64(dirty) / int64(sl.table.Len())
		}
	}
	return n
}

// Watch is told when folding a group of events begins and when decoding goes on, for whoever measures both.
type Watch interface {
	Folding()
	Decoding()
}

// Watch has w told from now on; nil ends that.
func (s *State) Watch(w Watch) { s.watch = w }

// Fold takes the records of a batch in order and moves the offset to the batch's end. Records below the offset were
// folded before and are passed over. Behind the last of too many jumps in a row it takes nothing more.
func (s *State) Fold(b *source.Batch) {
	if s.offset < s.decided {
		s.foldAgain(b)
		return
	}
	for i := range b.Records {
		if s.halted {
			break
		}
		if r := &b.Records[i]; r.Offset >= s.offset {
			s.decideRecord(r)
			s.offset = r.Offset + 1
		}
	}
	s.foldGroup()
	if b.Next > s.offset && !s.halted {
		s.offset = b.Next
		s.touched = true
	}
	s.compareReread()
}

// decideRecord takes one record: invalid, too far ahead, too far in the past, a jump, filtered, late or to be folded, in this
// order, each record once. Only the first four are refused: they leave the watermark alone. None
// of it depends on the entry that the event meets, so folding may wait until a group is full.
func (s *State) decideRecord(r *source.Record) {
	s.touched = true
	s.counters.Read++
	next := &s.group[s.grouped]
	ev := &next.ev
	if err := next.decoder.Decode(r.Value, ev); err != nil {
		s.counters.Invalid++
		s.refuseInvalid(r, err)
		return
	}
	ms := window.Millis(ev.Time)
	if s.bounds.Ahead(ev.Time, ms, r.Timestamp) {
		s.counters.Ahead++
		s.refuse(r, ReasonTooFarAhead, ms)
		return
	}
	if s.bounds.Past(ms, r.Timestamp) {
		s.counters.Past++
		s.refuse(r, ReasonTooFarPast, ms)
		return
	}
	if s.maxJump > 0 && s.maxTime != window.NoTime && ms-s.maxTime > s.maxJump && !s.acceptJump(r) {
		s.counters.Jumped++
		s.refuse(r, ReasonJump, ms)
		return
	}
	s.idleEnd, s.still = -1, r.Offset+1
	watermark, before := s.effective, s.maxTime
	if ms > s.maxTime {
		s.maxTime, s.jumps = ms, 0 // the watermark goes on; a straggler says nothing about it
		s.effective = max(s.Watermark(), s.sealed)
	}
	if ev.Filtered {
		s.counters.Filtered++
		return
	}
	plan := s.program.plan
	start := plan.SliceStart(ms)
	gen, late := plan.Place(start, watermark)
	if p := s.prescribed; p != nil {
		if gen > 0 && p.admits(r.Offset) {
			gen, late = 0, false
		}
		if !late && !p.Keeps(start) {
			s.passOver()
			return
		}
	}
	if late {
		s.counters.Late++
		s.sides.reportLate(r, ms, watermark, plan, start)
		return
	}
	if gen > 0 {
		s.sides.reportLate(r, ms, watermark, plan, start)
	}
	sl := s.sliceOf(sliceKey{start, int32(gen)})
	if sl.stat.Folded == 0 {
		sl.stat.FirstOffset = r.Offset
		sl.stat.Basis = s.basis(before)
	}
	sl.stat.Folded++
	sl.stat.LastOffset = r.Offset
	sl.changed = true
	s.counters.Folded++
	next.table, next.offset, next.hash = sl.table, r.Offset, agg.Hash(ev.Key)
	next.table.HintIndex(next.hash)
	if s.grouped++; s.grouped == len(s.group) {
		s.foldGroup()
	}
}

// foldGroup folds the waiting group into its tables, in order. Its memory has been asked for before: waiting for one entry
// after the other would take longer than the work.
func (s *State) foldGroup() {
	if s.watch == nil {
		s.foldWaiting()
		return
	}
	s.watch.Folding()
	s.foldWaiting()
	s.watch.Decoding()
}

func (s *State) foldWaiting() {
	group := s.group[:s.grouped]
	for i := range group {
		group[i].row, group[i].known = group[i].table.HintRow(group[i].hash)
	}
	for i := range group {
		if group[i].known {
			group[i].table.HintKey(group[i].row)
		}
	}
	for i := range group {
		w := &group[i]
		w.table.Add(w.table.RowOf(w.hash, w.ev.Key), &w.ev, w.offset)
	}
	s.grouped = 0
}

// sliceOf finds or makes a slice generation.
func (s *State) sliceOf(k sliceKey) *slice {
	if s.last != nil && s.lastKey == k {
		return s.last
	}
	sl, ok := s.slices[k]
	if !ok {
		sl = &slice{
			stat:  store.SliceStat{SliceID: s.sliceID(k), FirstOffset: -1, LastOffset: -1},
			table: s.newTable(), beneath: !s.paged,
		}
		sl.table.BeginEpoch(uint64(s.cursor.Seq + 1))
		s.slices[k] = sl
	}
	s.wake(sl)
	s.last, s.lastKey = sl, k
	return sl
}

func (s *State) sliceID(k sliceKey) store.SliceID {
	return store.SliceID{Width: s.program.plan.Width, Start: k.start, Gen: int(k.gen)}
}

func (s *State) newTable() *agg.Table {
	if n := len(s.free); n > 0 {
		t := s.free[n-1]
		s.free = s.free[:n-1]
		return t
	}
	return s.program.layout.NewTable()
}

// forgetSlice forgets a slice generation. A few tables are kept for the slices to come.
func (s *State) forgetSlice(k sliceKey) {
	sl := s.slices[k]
	s.dropped += sl.stat.Folded
	delete(s.slices, k)
	s.last = nil
	if len(s.free) < 2 {
		sl.table.Reset()
		s.free = append(s.free, sl.table)
	}
}
