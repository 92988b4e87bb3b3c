package result

import (
	"millrace/pipeline/ledger"
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
	n := need{sealed: v.Sealed(c.plan.Deadline(ref))}
	if last == nil {
		n.changed = true
		return n, nil
	}
	ranges := c.plan.SlicesOf(ref)
	for i := range v.Lanes {
		l := &v.Lanes[i]
		cover, _ := last.Cover(l.ID.Topic, l.ID.Partition)
		offset := int64(0)
		if l.Found {
			offset = max(l.Meta.Offset, 0) // store.NotStarted
		}
		if l.Found && l.Meta.Era != cover.Era && cover.Offset > 0 {
			// An operator's decision gave the lane another past: what was published does not bind it any more. A final
			// window stays as it is.
			if last.Final {
				continue
			}
			if l.Meta.Decided > offset {
				return n, &BehindError{Lane: l.ID, Offset: offset, Cover: l.Meta.Decided, Revision: last.Revision}
			}
			n.changed = true
			continue
		}
		if offset < cover.Offset {
			if last.Final {
				continue
			}
			return n, &BehindError{Lane: l.ID, Offset: offset, Cover: cover.Offset, Revision: last.Revision}
		}
		_, lastOffset, folded := l.Share(ranges)
		if lastOffset >= cover.Offset && folded > 0 {
			n.changed = true
			if last.Final {
				return n, &GrewError{
					Lane: l.ID, Window: last.Window, Start: last.Start, Offset: lastOffset, Cover: cover.Offset,
				}
			}
		}
		if folded < cover.Folded && last.Exact && !last.Final {
			return n, &ShrunkError{
				Lane: l.ID, Window: last.Window, Start: last.Start, Folded: folded, Was: cover.Folded, Revision: last.Revision,
			}
		}
	}
	return n, nil
}

// covers is what a revision read under this view covers of every lane.
func (c *Closer) covers(v *view, ref window.Ref) []ledger.Cover {
	ranges := c.plan.SlicesOf(ref)
	covers := make([]ledger.Cover, len(v.Lanes))
	for i := range v.Lanes {
		l := &v.Lanes[i]
		first, lastOffset, folded := l.Share(ranges)
		cover := ledger.Cover{
			Topic: l.ID.Topic, Partition: l.ID.Partition, LastOffset: lastOffset, Folded: folded, FirstOffset: -1,
		}
		if l.Found {
			cover.Offset, cover.Era = max(l.Meta.Offset, 0), l.Meta.Era
			cover.SetAnchor(&l.Meta, first)
		}
		covers[i] = cover
	}
	return covers
}
