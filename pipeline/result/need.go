package result

import (
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// need is what a view says about one window against its last ledger row.
type need struct {
	changed bool // some lane has folded an event that the last revision does not cover, or there is no revision
	sealed  bool // nothing can change the window any more
}

// need compares a window with its last ledger row, which is nil for a window that was never published. Errors:
// *BehindError, *ShrunkError, and *GrewError for a window that is final.
func (c *Closer) need(v *view, ref window.Ref, last *ledger.Row) (need, error) {
	n := need{sealed: v.sealed(c.plan.Deadline(ref))}
	if last == nil {
		n.changed = true
		return n, nil
	}
	ranges := c.plan.SlicesOf(ref)
	for i := range v.lanes {
		l := &v.lanes[i]
		cover, _ := last.Cover(l.id.Topic, l.id.Partition)
		offset := int64(0)
		if l.found {
			offset = max(l.meta.Offset, 0) // store.NotStarted
		}
		if l.found && l.meta.Era != cover.Era && cover.Offset > 0 {
			// An operator's decision gave the lane another past: what was published does not bind it any more. A final
			// window stays as it is.
			if last.Final {
				continue
			}
			if l.meta.Decided > offset {
				return n, &BehindError{Lane: l.id, Offset: offset, Cover: l.meta.Decided, Revision: last.Revision}
			}
			n.changed = true
			continue
		}
		if offset < cover.Offset {
			if last.Final {
				continue
			}
			return n, &BehindError{Lane: l.id, Offset: offset, Cover: cover.Offset, Revision: last.Revision}
		}
		_, lastOffset, folded := l.share(ranges)
		if lastOffset >= cover.Offset && folded > 0 {
			n.changed = true
			if last.Final {
				return n, &GrewError{
					Lane: l.id, Window: last.Window, Start: last.Start, Offset: lastOffset, Cover: cover.Offset,
				}
			}
		}
		if folded < cover.Folded && last.Exact && !last.Final {
			return n, &ShrunkError{
				Lane: l.id, Window: last.Window, Start: last.Start, Folded: folded, Was: cover.Folded, Revision: last.Revision,
			}
		}
	}
	return n, nil
}

// share sums up what the lane folded into the slice generations that a window merges; first is the one with the first
// event, nil without one.
func (l *laneView) share(ranges []window.SliceRange) (first *store.SliceStat, lastOffset, folded int64) {
	lastOffset = -1
	if len(l.slices) == 0 {
		return nil, lastOffset, 0
	}
	for _, r := range ranges {
		for gen := 0; gen <= r.MaxGen; gen++ {
			s, ok := l.slices[sliceKey{r.Start, gen}]
			if !ok {
				continue
			}
			lastOffset = max(lastOffset, s.LastOffset)
			folded += s.Folded
			if first == nil || s.FirstOffset < first.FirstOffset {
				first = &s
			}
		}
	}
	return first, lastOffset, folded
}

// covers is what a revision read under this view covers of every lane.
func (c *Closer) covers(v *view, ref window.Ref) []ledger.Cover {
	ranges := c.plan.SlicesOf(ref)
	covers := make([]ledger.Cover, len(v.lanes))
	for i := range v.lanes {
		l := &v.lanes[i]
		first, lastOffset, folded := l.share(ranges)
		cover := ledger.Cover{
			Topic: l.id.Topic, Partition: l.id.Partition, LastOffset: lastOffset, Folded: folded, FirstOffset: -1,
		}
		if l.found {
			cover.Offset, cover.Era = max(l.meta.Offset, 0), l.meta.Era
			cover.SetAnchor(&l.meta, first)
		}
		covers[i] = cover
	}
	return covers
}
