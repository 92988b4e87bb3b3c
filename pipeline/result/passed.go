package result

import (
	"time"

	"millrace/pipeline/window"
)

// notePassed notes of the windows that are due for the first time when the watermark passed their ends. It is for the metric of
// how long publishing takes after that, and nothing is decided by it. c.turn is held.
func (c *Closer) notePassed(v, before *view, due []window.Ref) {
	for _, ref := range due {
		_, noted := c.passedAt[ref]
		_, shown := c.shown[ref]
		if noted || shown || c.states[ref] != unknown || v.Watermark < c.plan.End(ref) {
			continue
		}
		c.passedAt[ref] = passedSince(v, before, c.plan.End(ref), c.cfg.Now())
	}
}

// passedSince is when the last of the lanes committed a watermark at or past end: the latest commit of a lane that was behind it
// at the look before. Where an idle lane was left out instead, or no lane says it, that is now: the look has found it.
func passedSince(v, before *view, end int64, now time.Time) time.Time {
	passed := time.Time{}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		if !l.Found || l.Meta.Watermark < end {
			continue
		}
		if before != nil && i < len(before.Lanes) && before.Lanes[i].ID == l.ID && before.Lanes[i].Meta.Watermark >= end {
			continue
		}
		if at := time.UnixMilli(l.Meta.UpdatedAt); at.After(passed) {
			passed = at
		}
	}
	if passed.IsZero() || passed.After(now) {
		return now
	}
	return passed
}
