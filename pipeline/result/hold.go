package result

import (
	"slices"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/window"
)

// hold is what rounds remember of the pipeline's watermark: where it stands, which lane holds it there, and since when; and how
// the lane that is furthest ahead fares.
type hold struct {
	watermark int64
	lane      string
	since     time.Time
	furthest  int64
	moved     time.Time // when furthest was last seen to rise
}

// heldAfter is how long one lane holds the watermark, while events flow on others, before that is trouble; and how long ago these
// may have moved to count as flowing.
const heldAfter = time.Minute

// waiting describes what the watermark waits for, and since when as far as this closer knows. open are the view's open windows.
// c.turn is held.
func (c *Closer) waiting(v *view, open []window.Ref) report.Waiting {
	w, now := v.Waiting(), c.cfg.Now()
	h := &c.held
	if h.since.IsZero() || h.watermark != v.Watermark || h.lane != w.Lane {
		h.watermark, h.lane, h.since = v.Watermark, w.Lane, now
	}
	if furthest := v.Furthest(); furthest > h.furthest || h.moved.IsZero() {
		h.furthest, h.moved = furthest, now
	}
	w.Since = h.since.UnixMilli()
	w.Held = now.Sub(h.since) >= heldAfter && now.Sub(h.moved) < heldAfter && c.heldOpen(v, open, h.furthest)
	return w
}

// heldOpen reports whether one of the open windows ends at or before a watermark that some lane has reached.
func (c *Closer) heldOpen(v *view, open []window.Ref, furthest int64) bool {
	return slices.ContainsFunc(open, func(ref window.Ref) bool {
		end := c.plan.End(ref)
		return end > v.Watermark && end <= furthest
	})
}
