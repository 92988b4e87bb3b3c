package fold

import (
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Commit is one durable step of a lane: side records, then chained calls of which the last moves the offset. Entries
// are encoded into memory of its own, so the lane goes on while it travels.
type Commit struct {
	Calls     []store.Call
	Side      []source.SideRecord
	Offset    int64 // every record below is in this commit or an earlier one
	Watermark int64
	Effective int64 // max(watermark, sealed) that becomes committed with it
	Entries   int
	Bytes     int
	Replay    Replay
	Counters  store.Counters
	CtlGen    int64

	meta   store.MetaUpdate
	arena  []byte
	ends   []int // ends of key, entry, key, entry, ... in the arena
	fields []string
	groups []group
	writes []store.Write
	runs   []run
	pages  []store.PageWrite

	sideBytes int64 // of Side when the commit was made
}

// group is a run of dirty entries of one slice and bucket.
type group struct {
	slice  store.SliceID
	bucket int
	from   int // index of its first pair
	to     int
}

// Seq is the commit's number in the lane's chain.
func (c *Commit) Seq() int64 { return c.Calls[0].Next.Seq }

// Hint is the metadata that the group's offset gets once Redis has the commit.
func (c *Commit) Hint() string { return c.meta.Hint }

// SetUpdatedAt notes when the commit is delivered, in ms. It is for people only.
func (c *Commit) SetUpdatedAt(ms int64) { c.meta.UpdatedAt = ms }

// SidesSent forgets the side records, which have all been acknowledged.
func (c *Commit) SidesSent() {
	clear(c.Side)
	c.Side = c.Side[:0]
}

// OweSides adds side records of earlier commits before those of the commit.
func (c *Commit) OweSides(records []source.SideRecord) { c.Side = append(records, c.Side...) }

// entryBytes is the size of the commit's i-th pair of key and entry.
func (c *Commit) entryBytes(i int) int { return len(c.fields[2*i]) + len(c.fields[2*i+1]) }

// Footprint is the memory the commit holds, also while it waits to be used again.
func (c *Commit) Footprint() int64 {
	const field, write, end, page = 16, 72, 8, 64
	return int64(cap(c.arena)+cap(c.fields)*field+cap(c.writes)*write+cap(c.ends)*end+cap(c.pages)*page) + c.sideBytes
}

// spareArena is the least arena that is worth giving back.
const spareArena = 1 << 20

// reset empties the commit for its next use. Memory far beyond the last use is given back: a re-seed holds the whole state
// once.
func (c *Commit) reset() {
	if cap(c.arena) > spareArena && len(c.arena) < cap(c.arena)/8 {
		*c = Commit{}
		return
	}
	clear(c.Calls)
	clear(c.fields)
	clear(c.writes)
	clear(c.runs)
	clear(c.pages)
	*c = Commit{
		Calls: c.Calls[:0], arena: c.arena[:0], ends: c.ends[:0], fields: c.fields[:0], groups: c.groups[:0], writes: c.writes[:0],
		runs: c.runs[:0], pages: c.pages[:0], meta: store.MetaUpdate{Slices: c.meta.Slices[:0]},
	}
}
