package fold

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"unsafe"

	"millrace/pipeline/agg"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// Limits bound what a lane writes as pages.
type Limits struct {
	Page    int // bytes from which on a page ends: what one field of a hash may hold without holding Redis up
	Call    int // bytes of pages that a call has at the most, unless it has a single one
	Deltas  int // runs above a slice's last whole one from which on a merge is due; with twice as many it does not wait
	Merge   int // bytes of whole runs in a commit that nothing but their size makes due; the rest waits for the next commits
	Spread  int // bytes of pages from which on a slice is spread over several hashes
	Deletes int // pages that one call deletes at the most
}

// DefaultLimits are those of every program; tests and models set smaller ones.
var DefaultLimits = Limits{Page: 64 << 10, Call: callBytes, Deltas: 64, Merge: 8 << 20, Spread: 16 << 20, Deletes: 64}

// bareEntry is what an entry of a slice is taken to need before any was written as part of a page.
const bareEntry = 64

// paging is what a lane knows of the pages of one slice generation.
type paging struct {
	live    []store.StoredPage // content, in Redis or on its way
	base    int                // bytes of the last whole run
	entries int                // of it
	above   int                // bytes of the runs above it
	runs    int                // above it
	retired []retired          // oldest first
	fields  int64              // number of the commit whose whole run replaced the fields; 0: none has
}

// retired are pages that the whole run of a commit has replaced. They may be deleted once Redis has
// the commit, and nobody reads by an older index any more.
type retired struct {
	seq   int64
	pages []store.StoredPage
}

// run is a sorted run of entries of one slice, cut into pages.
type run struct {
	slice *slice
	whole bool
	pages []cutPage
}

// cutPage is a page in a commit's arena.
type cutPage struct {
	from, to    int
	entries     int
	first, last uint64
}

// adopt takes over the pages that an index has found. The largest run passes for the last whole
// one.
func (p *paging) adopt(found []store.StoredPage) {
	*p = paging{live: slices.Clone(found)}
	bytesOf := make(map[int64]int)
	for _, f := range found {
		bytesOf[f.Seq] += f.Bytes
	}
	total := 0
	for _, n := range bytesOf {
		p.base, total = max(p.base, n), total+n
	}
	p.above, p.runs = total-p.base, max(0, len(bytesOf)-1)
}

// stored is how many bytes the slice's content takes in Redis.
func (p *paging) stored() int { return p.base + p.above }

// entryBytes is what an entry takes in a page, as far as is known.
func (p *paging) entryBytes() int {
	if p.entries == 0 || p.base == 0 {
		return bareEntry
	}
	return max(1, p.base/p.entries)
}

// isWholeDue reports whether all rows of a slice are to be written rather than its dirty ones, and
// whether that may wait.
func (sl *slice) isWholeDue(mostDeltas int) (due, mayWait bool) {
	dirty, rows, p := len(sl.table.Dirty()), sl.table.Len(), &sl.paging
	switch {
	case dirty == 0:
		return false, false
	case 2*dirty >= rows, p.runs >= 2*mostDeltas:
		return true, false
	case p.runs >= mostDeltas:
		return true, true
	}
	base := p.base
	if base == 0 { // the rest of the slice is in fields
		base = rows * bareEntry
	}
	return p.above+dirty*p.entryBytes() > base/2, true
}

// InPages reports whether the state is committed in pages.
func (s *State) InPages() bool { return s.paged }

// mayTurnToPages reports whether every entry that fields hold is of the lane's offset by now, so
// that what the fields say stays true below the pages.
func (s *State) mayTurnToPages() bool { return !s.Rereads() && s.lost == nil }

// TurnToPages makes the state one that is committed in pages from the next commit on. A snapshot
// calls it by itself as soon as it may be.
func (s *State) TurnToPages() { s.paged = true }

// encodePages appends a run of every slice with dirty rows to the arena.
func (s *State) encodePages(c *Commit, inOrder []sliceKey, onlyDeltas bool) {
	budget := s.program.limits.Merge
	for _, k := range inOrder {
		sl := s.slices[k]
		dirty := sl.table.Dirty()
		if len(dirty) == 0 {
			continue
		}
		r := run{slice: sl}
		due, mayWait := sl.isWholeDue(s.program.limits.Deltas)
		if r.whole = due; mayWait && (onlyDeltas || budget <= 0) {
			r.whole = false
		}
		s.orderRows(sl.table, dirty, r.whole)
		from := len(c.arena)
		s.encodeRun(c, &r)
		if r.whole && mayWait {
			budget -= len(c.arena) - from
		}
		s.dirtied, s.written = s.dirtied+int64(len(dirty)), s.written+int64(len(s.hashed))
		c.Entries += len(s.hashed)
		c.runs = append(c.runs, r)
	}
	c.Bytes = len(c.arena)
}

// hashedRow is a row with the hash of its key.
type hashedRow struct {
	hash uint64
	row  uint32
}

// orderRows leaves the rows in s.hashed, by hash and key: all rows of the table, or the given ones.
func (s *State) orderRows(t *agg.Table, rows []uint32, all bool) {
	n := len(rows)
	if all {
		n = t.Len()
	}
	s.unordered = slices.Grow(s.unordered[:0], n)[:n]
	width := min(12, bits.Len(uint(n)>>3)) // some eight rows a bucket, 4,096 buckets at the most
	shift := 64 - width
	s.counts = slices.Grow(s.counts[:0], 1<<width+1)[:1<<width+1]
	clear(s.counts)
	for i := range s.unordered {
		row := uint32(i)
		if !all {
			row = rows[i]
			if i+ahead < n {
				t.HintEntry(rows[i+ahead])
			}
		}
		hash := t.Hash(row)
		s.unordered[i] = hashedRow{hash, row}
		s.counts[hash>>shift+1]++
	}
	for b := range 1 << width {
		s.counts[b+1] += s.counts[b]
	}
	s.hashed = slices.Grow(s.hashed[:0], n)[:n]
	for _, r := range s.unordered {
		b := r.hash >> shift
		s.hashed[s.counts[b]] = r
		s.counts[b]++
	}
	from := 0
	for b := range 1 << width {
		to := s.counts[b]
		slices.SortFunc(s.hashed[from:to], func(x, y hashedRow) int {
			if x.hash != y.hash {
				return cmp.Compare(x.hash, y.hash)
			}
			return bytes.Compare(t.Key(x.row), t.Key(y.row))
		})
		from = to
	}
}

// 1<<partBits is how many equal ranges of the hash a page of a large run keeps to, so that whoever
// reads the keys of one range needs no page of the others. largeRun is from how many pages on that
// costs little.
const (
	partBits = 4
	largeRun = 4
)

// encodeRun appends the rows of s.hashed as pages.
func (s *State) encodeRun(c *Commit, r *run) {
	t := r.slice.table
	large := len(s.hashed)*r.slice.entryBytes() >= largeRun*s.program.limits.Page
	var w page.Writer
	open := -1 // where the page began, -1 for none
	row := uint32(0)
	encode := func(dst []byte) []byte { return t.AppendUnstamped(dst, row) }
	for i := range s.hashed {
		if open < 0 {
			open = len(c.arena)
			c.arena = w.Begin(c.arena, s.program.StateID, s.offset)
			r.pages = append(r.pages, cutPage{from: open, first: s.hashed[i].hash})
		}
		if i+ahead < len(s.hashed) {
			t.HintEntry(s.hashed[i+ahead].row)
		}
		row = s.hashed[i].row
		c.arena = w.Add(c.arena, t.Key(row), encode)
		r.pages[len(r.pages)-1].entries++
		ends := i == len(s.hashed)-1 || large && s.hashed[i].hash>>(64-partBits) != s.hashed[i+1].hash>>(64-partBits)
		if ends || w.Size(c.arena) >= s.program.limits.Page {
			w.End(c.arena)
			p := &r.pages[len(r.pages)-1]
			p.to, p.last = len(c.arena), s.hashed[i].hash
			open = -1
			// What is left takes about as much an entry: the arena grows once, and not by doubling. A page with a long text
			// says nothing of the others, which on average take less than the rows of the table.
			left := len(s.hashed) - i - 1
			c.arena = slices.Grow(c.arena, min(left*(p.to-p.from)/p.entries, left*t.Bytes()/t.Len()))
		}
	}
}

// cutPagesIntoCalls puts deletions and pages into calls of a bounded size, and books what becomes
// of the pages: what a whole run replaces, and where a page goes.
func (s *State) cutPagesIntoCalls(c *Commit, deletes []store.PageDelete, unfield []store.SliceID) {
	begin := func() *store.Call {
		c.Calls = append(c.Calls, store.Call{})
		return &c.Calls[len(c.Calls)-1]
	}
	var call *store.Call
	room := 0
	for _, d := range deletes {
		for len(d.Names) > 0 {
			if room == 0 {
				call, room = begin(), s.program.limits.Deletes
			}
			n := min(room, len(d.Names))
			call.Delete = append(call.Delete, store.PageDelete{Slice: d.Slice, Hash: d.Hash, Names: d.Names[:n]})
			d.Names, room = d.Names[n:], room-n
		}
	}
	if len(unfield) > 0 {
		if call == nil {
			call = begin()
		}
		call.Unfield = unfield
	}
	pages := 0
	for i := range c.runs {
		pages += len(c.runs[i].pages)
	}
	c.pages = slices.Grow(c.pages[:0], pages) // they do not move, calls point to them
	seq, space := s.cursor.Seq+1, s.program.limits.Call
	for i := range c.runs {
		r := &c.runs[i]
		r.slice.beginRun(r, seq, s.program.limits.Spread)
		for _, p := range r.pages {
			size := p.to - p.from
			if call == nil || size > space && len(call.Pages) > 0 {
				call, space = begin(), s.program.limits.Call
			}
			space -= size
			stored := store.StoredPage{Name: page.Name{
				Place: page.Place{Seq: seq, Chunk: int64(len(c.Calls) - 1)}, Offset: s.offset, First: p.first, Last: p.last, Bytes: size,
			}}
			if r.slice.stat.Spread {
				stored.Hash = 1 + store.PageHash(p.first>>60)
			}
			r.slice.live = append(r.slice.live, stored)
			value := c.arena[p.from:p.to]
			c.pages = append(c.pages, store.PageWrite{
				Slice: r.slice.stat.SliceID, Hash: stored.Hash, Name: stored.String(),
				Value: unsafe.String(unsafe.SliceData(value), len(value)), Entries: p.entries,
			})
			call.Pages = c.pages[len(c.pages)-1-len(call.Pages):]
		}
	}
}

// beginRun books a run of commit seq in place of what it replaces. A slice of more than spread
// bytes is spread from it on.
func (sl *slice) beginRun(r *run, seq int64, spread int) {
	p, size := &sl.paging, 0
	for _, cut := range r.pages {
		size += cut.to - cut.from
	}
	if r.whole {
		if len(p.live) > 0 {
			p.retired = append(p.retired, retired{seq, p.live})
			p.live = nil
		}
		if !sl.stat.Paged && sl.beneath {
			p.fields = seq
		}
		sl.stat.Paged, sl.beneath = true, false
		p.base, p.entries, p.above, p.runs = size, sl.table.Len(), 0, 0
	} else {
		p.above, p.runs = p.above+size, p.runs+1
	}
	if p.stored() > spread {
		sl.stat.Spread = true
	}
	sl.changed = true
}

// takeDeletable returns pages, and slices with fields, that commits up to upTo have replaced: all
// of them, or what is replaced could outgrow what is deleted.
func (s *State) takeDeletable(inOrder []sliceKey, upTo int64) (deletes []store.PageDelete, unfield []store.SliceID) {
	for _, k := range inOrder {
		sl := s.slices[k]
		if sl.fields > 0 && sl.fields <= upTo {
			unfield = append(unfield, sl.stat.SliceID)
			sl.fields = 0
		}
		n := 0
		for ; n < len(sl.retired) && sl.retired[n].seq <= upTo; n++ {
			deletes = store.AppendDeletes(deletes, sl.stat.SliceID, sl.retired[n].pages)
		}
		sl.retired = sl.retired[n:]
	}
	return deletes, unfield
}

// Paging sums up the pages of the lane.
type Paging struct {
	Pages int   // that hold its content
	Bytes int64 // of them
	Runs  int   // of the slice with the most runs above its last whole one
	// Beneath is how many entries slices have whose fields lie beneath their pages, or have no
	// pages yet.
	Beneath int
	// Retired pages were replaced and are not deleted yet.
	Retired int
	// Dirtied entries have changed, and Written ones were written, since the lane was taken.
	Dirtied, Written int64
}

// Paging returns what the lane's pages add up to.
func (s *State) Paging() Paging {
	sum := Paging{Dirtied: s.dirtied, Written: s.written}
	for _, sl := range s.slices {
		sum.Pages += len(sl.live)
		sum.Bytes += int64(sl.stored())
		sum.Runs = max(sum.Runs, sl.runs)
		if sl.beneath {
			sum.Beneath += sl.rows()
		}
		for i := range sl.retired {
			sum.Retired += len(sl.retired[i].pages)
		}
	}
	return sum
}
