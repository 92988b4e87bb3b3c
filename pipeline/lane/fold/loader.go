package fold

import (
	"fmt"

	"millrace/pipeline/agg"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Restored counts what a restore read.
type Restored struct {
	Slices  int   `json:"slices"`
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Loader builds a lane's state from its meta and its entries. The caller reads them, in any order, and adds each entry;
// Done compares what was added with what the lane had folded. It belongs to one goroutine.
type Loader struct {
	state  *State
	meta   store.Meta
	slices []store.SliceIndex
	loads  []load     // of each slice
	check  *agg.Table // scratch of what rests
	sum    Restored
}

// load is what has come of one slice so far.
type load struct {
	*slice
	stamp int64 // the highest
	rests bool
	pages []*page.Page // of a slice that rests, newest first

	// As long as there is nothing but pages of one run, each with higher hashes than those before, no key can come twice.
	run   int64  // number of the commit that wrote them; 0 before the first page
	last  uint64 // the highest hash
	mixed bool   // there is something else
}

// isNext reports whether none of the keys of the page can be there already.
func (o *load) isNext(p *page.Page) bool {
	switch {
	case o.run == 0:
		o.mixed = o.table.Len() > 0
	case p.Name.Seq != o.run || p.Name.First <= o.last:
		o.mixed = true
	}
	o.run, o.last = p.Name.Seq, p.Name.Last
	return !o.mixed
}

// NewLoader returns a loader for the state that an index speaks of. A slice of another width than the program's is
// store.ErrCorrupt.
func NewLoader(p *Program, id store.LaneID, found store.LaneIndex) (*Loader, error) {
	meta := found.Meta
	s := NewState(p, id, meta.TopicID, meta.Offset, meta.Cursor)
	s.followMeta(meta)
	s.paged = meta.Done != store.NoCommit
	l := &Loader{state: s, meta: meta, check: p.layout.NewTable()}
	for i := range found.Slices {
		x := &found.Slices[i]
		if meta.Offset == store.NotStarted || s.paged && x.FirstOffset == store.NoOffset {
			// What stands there belongs to a commit that never ended, and was decided under control values that are not
			// committed. What it held is read again, so it goes with the first commit.
			s.stale = append(s.stale, x.SliceID)
			continue
		}
		if x.Width != p.plan.Width {
			return nil, fmt.Errorf("slice %s is of width %d ms, this spec's slices have %d ms: %w",
				x.SliceID, x.Width, p.plan.Width, store.ErrCorrupt)
		}
		l.addSlice(x)
	}
	return l, nil
}

func (l *Loader) addSlice(x *store.SliceIndex) {
	s := l.state
	// In FieldFormat a slice whose first commit never ended has no folds yet. It gets them with the first commit, like any other.
	sl := &slice{stat: x.SliceStat, table: s.newTable(), changed: x.FirstOffset == store.NoOffset, beneath: !x.Paged}
	sl.adopt(x.Pages)
	sl.table.BeginEpoch(uint64(s.cursor.Seq + 1))
	s.leftover = store.AppendDeletes(s.leftover, x.SliceID, x.Beyond)
	s.slices[sliceKey{x.Start, int32(x.Gen)}] = sl
	// On-time events go on into the slices that lateness leaves open; into the others only late ones do.
	rests := x.Paged && x.End() <= s.effective
	l.slices, l.loads = append(l.slices, *x), append(l.loads, load{slice: sl, rests: rests})
}

// followMeta takes over everything that a state keeps outside its slices.
func (s *State) followMeta(meta store.Meta) {
	spec := s.program.Spec
	if meta.Watermark != window.NoTime {
		s.maxTime = meta.Watermark + spec.Watermark.OutOfOrderness.Millis()
	}
	s.sealed = meta.Sealed
	s.counters, s.readBefore, s.idleEnd = meta.Counters, meta.Counters.Read, meta.IdleEnd
	s.ctlGen, s.specGen = meta.CtlGen, meta.SpecGen
	s.era, s.seals, s.decided, s.sides.from = meta.Era, meta.Seals, meta.Decided, meta.Decided
	s.jumps, s.accepted, s.begun = meta.Jumps, meta.Accepted, meta.Begun
	s.halted = s.maxJump > 0 && s.jumps >= int64(spec.Event.MaxJumpStreak) && s.offset >= s.decided
	s.effective = max(s.Watermark(), s.sealed)
	s.committed = s.effective
	s.readoptSeals(s.offset)
}

// Slices are those whose entries are to be added: none for a lane that has never committed.
func (l *Loader) Slices() []store.SliceIndex { return l.slices }

// AddPage takes a page of the slice with that index in Slices. The pages of a slice come newest first, in the order in which the
// index names them, and what its fields hold after them. The page may be kept.
func (l *Loader) AddPage(slice int, p *page.Page) error {
	l.sum.Bytes += int64(p.Name.Bytes)
	o, epoch := &l.loads[slice], uint64(p.Name.Seq)
	if o.rests {
		o.pages = append(o.pages, p)
		return l.restSlice(slice)
	}
	if o.table.Len() == 0 {
		// About as many rows as the slice has: every row has an event, whatever entries of this page say of the others' size.
		o.table.Reserve(int(min(int64(o.base*p.Len()/p.Name.Bytes), o.stat.Folded)))
	}
	add := o.table.LoadMissing
	if o.isNext(p) {
		add = o.table.LoadNew
	}
	for i := range p.Len() {
		key, entry := p.Entry(i)
		if err := add(p.Hash(i), key, entry, epoch); err != nil {
			return fmt.Errorf("page %s: %w", p.Name, err)
		}
	}
	return nil
}

// restSlice lays a slice to rest as soon as all its pages are there.
func (l *Loader) restSlice(slice int) (err error) {
	o := &l.loads[slice]
	if len(o.pages) == len(l.slices[slice].Pages) {
		o.resting, err = rest(o.pages, l.check)
		o.pages = nil
	}
	return err
}

// AddBeneath is Add for a slice with pages, of which all were added: what they hold is newer.
func (l *Loader) AddBeneath(slice int, key, entry []byte) error {
	l.sum.Bytes += int64(len(key) + len(entry))
	return l.loads[slice].table.LoadMissing(agg.Hash(key), key, entry, 0)
}

// Add takes an entry of the slice with that index in Slices, which has no pages. Key and entry are copied.
func (l *Loader) Add(slice int, key, entry []byte) error {
	l.sum.Bytes += int64(len(key) + len(entry))
	_, stamp, _, err := agg.EntryHeader(entry)
	if err != nil {
		return err
	}
	o := &l.loads[slice]
	o.stamp = max(o.stamp, stamp)
	return o.table.LoadEntry(key, entry)
}

// Entries is how many entries were added to a slice: a key that was added twice counts once.
func (l *Loader) Entries(slice int) int { return l.loads[slice].table.Len() }

// Done returns the state and counts what it was built from. With store.ErrPartialLoss comes what is left of a state of
// which a part is gone: it says where the lane stood, and nothing may go on from it.
func (l *Loader) Done() (*State, Restored, error) {
	s := l.state
	if l.meta.Offset == store.NotStarted {
		return s, l.sum, nil
	}
	stats := make([]store.SliceStat, len(l.slices))
	for i := range stats {
		stats[i] = l.slices[i].SliceStat
	}
	l.sum.Slices, l.sum.Entries = len(stats), s.Entries()
	if s.dropped = l.meta.Balance.Dropped; !l.meta.Balance.Known {
		s.dropped = l.meta.Counters.Folded - store.OpenFolded(stats)
		l.meta.Balance = store.Balance{Known: true, Dropped: s.dropped}
	}
	err := l.meta.CheckBalance(s.id, stats)
	if err == nil {
		err = s.compareRestored(stats, l.loads)
	}
	return s, l.sum, err
}

// compareRestored holds what a restore found against what the lane had folded. Entries without anything newer than the committed
// offset hold exactly that; with something newer they hold more, and how much more shows when it was read again.
func (s *State) compareRestored(stats []store.SliceStat, loads []load) error {
	for i := range stats {
		sl := s.slices[sliceKey{stats[i].Start, int32(stats[i].Gen)}]
		more, newer := sl.unconfirmed(), loads[i].stamp > s.offset
		if more < 0 || more > 0 && !newer {
			return s.missingEntries(sl)
		}
		s.ahead, s.uncompared = max(s.ahead, loads[i].stamp), s.uncompared || newer
	}
	return nil
}

// compareReread compares entries with what was folded as soon as everything that entries held beyond the committed offset was
// read again. A lost entry may have been hidden by newer ones before.
func (s *State) compareReread() {
	if !s.uncompared || s.offset < s.ahead {
		return
	}
	s.uncompared = false
	for _, k := range s.sorted() {
		if sl := s.slices[k]; sl.unconfirmed() != 0 {
			s.lost = s.missingEntries(sl)
			return
		}
	}
}

// Lost is not nil when the state turned out not to be whole: store.ErrPartialLoss. Nothing may go on from it.
func (s *State) Lost() error { return s.lost }

func (s *State) missingEntries(sl *slice) error {
	return fmt.Errorf("lane %s: %w: the entries of slice %s hold %d events, the lane folded %d",
		s.id, store.ErrPartialLoss, sl.stat.SliceID, sl.stat.Folded+sl.unconfirmed(), sl.stat.Folded)
}
