package fold

import (
	"fmt"
	"math"

	"millrace/pipeline/agg"
	"millrace/pipeline/page"
)

// resting is the content of a restored slice that nobody has touched since: its pages instead of rows. Pages take a third of the
// memory of rows and a part of the time to make them, and a slice behind the watermark mostly waits for nothing but its end.
// Every entry was checked, so making rows of the pages cannot fail later.
type resting struct {
	pages  []*page.Page
	rows   int
	events int64 // that the entries count
	bytes  int64 // memory of the pages
}

// rest checks every entry that the pages hold and counts them. scratch is a table for nothing else.
func rest(pages []*page.Page, scratch *agg.Table) (*resting, error) {
	r := &resting{pages: pages}
	err := page.Merge(pages, 0, math.MaxUint64, func(e *page.Entry) error {
		events, err := scratch.CheckEntry(e.Entry)
		if err != nil {
			return fmt.Errorf("page of commit %d: %w", e.Seq, err)
		}
		r.rows++
		r.events += events
		return nil
	})
	for _, p := range pages {
		r.bytes += int64(p.Bytes())
	}
	return r, err
}

// wake makes rows of a slice that rests. Whoever changes or reads rows calls it first.
func (s *State) wake(sl *slice) {
	r := sl.resting
	if r == nil {
		return
	}
	sl.resting = nil
	sl.table.Reserve(r.rows)
	err := page.Merge(r.pages, 0, math.MaxUint64, func(e *page.Entry) error {
		return sl.table.LoadNew(e.Hash, e.Key, e.Entry, uint64(e.Seq))
	})
	if err != nil && s.lost == nil { // never, as rest has read the same bytes
		s.lost = fmt.Errorf("lane %s: slice %s: %w", s.id, sl.stat.SliceID, err)
	}
}

// rows is how many entries a slice has.
func (sl *slice) rows() int {
	if sl.resting != nil {
		return sl.resting.rows
	}
	return sl.table.Len()
}

// bytes is the memory that the entries of a slice take.
func (sl *slice) bytes() int64 {
	n := int64(sl.table.Bytes())
	if sl.resting != nil {
		n += sl.resting.bytes
	}
	return n
}

// events is how many events the entries of a slice count.
func (sl *slice) events() (n int64) {
	if sl.resting != nil {
		return sl.resting.events
	}
	for row := range uint32(sl.table.Len()) {
		n += sl.table.Count(row)
	}
	return n
}
