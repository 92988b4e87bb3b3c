package model

import (
	"millrace/pipeline/report"
)

// Bounds within which a healed world must come to rest.
const (
	maxSteps  = 15_000 // of actors
	maxRounds = 60     // of the last closer
)

// heal ends all faults, lets every lane have a living owner and one closer finish its work, and drains.
func (w *World) heal() {
	w.calm = true
	w.logf("no more faults")
	for _, late := range w.delayed {
		late()
	}
	w.delayed = nil
	for _, c := range w.closers {
		c.revoked = true
	}
	for _, a := range w.actors {
		a.thaw = 0
	}
	c := w.newCloser()
	for _, a := range w.actors {
		if a.proc == &c.proc {
			a.wait = func() bool { return true }
		}
	}
	for _, l := range w.assigned {
		l.kick = 1 // a sign of life: it notices what Redis forgot
	}
	if !w.rest() {
		return
	}
	for p := range w.parts {
		w.judgePages(p)
	}
	for range maxRounds {
		before := w.footprint()
		if !w.turn(c) || !w.rest() {
			return
		}
		for _, l := range w.assigned {
			l.kick = 2 // one commit reads the requests, the next follows them
		}
		if !w.rest() {
			return
		}
		r := &c.report
		if c.err == nil && r.Due == 0 && len(r.Closed)+len(r.Pending)+len(r.Failed) == 0 && w.footprint() == before {
			w.drain(c)
			for _, l := range w.assigned {
				l.kick = 2 // the last look may have made windows final
			}
			w.rest()
			return
		}
	}
	w.fail("rounds never come to rest: %+v, %v", c.report, c.err)
}

// footprint reports whether anything about lanes changed from round to round.
func (w *World) footprint() (n [2]int64) {
	for p, l := range w.assigned {
		n[0] += int64(l.holder.State().Slices()) << (16 * p)
		ctl := w.laneTag(p).hashes["mr:{"+l.id.String()+"}:ctl"]
		n[1] += atoi("0"+ctl["seal_before"]) + atoi("0"+ctl["drop_before"])
	}
	return n
}

// rest runs everything but the last closer until every lane has an owner that has done all there is to do.
func (w *World) rest() bool {
	for n := 0; ; n++ {
		quiet := true
		if n%50 == 0 {
			w.operate()
		}
		for _, c := range w.closers {
			quiet = quiet && (!c.revoked || c.ended || c.crashed)
		}
		for _, l := range w.assigned {
			quiet = quiet && !l.ended && !l.crashed && l.incident == nil && l.quiet()
		}
		if quiet {
			return w.out.Wrong == ""
		}
		if n == maxSteps || w.out.Wrong != "" {
			w.fail("lanes never come to rest")
			return false
		}
		w.resumeAny()
		w.step++
	}
}

// turn lets the last closer do one thing, alone.
func (w *World) turn(c *closerProc) bool {
	for _, a := range w.actors {
		if a.proc != &c.proc {
			continue
		}
		for done, n := c.rounds, 0; c.rounds == done; n++ {
			if a.done || n == maxSteps || w.out.Wrong != "" {
				w.fail("the closer never ends its round")
				return false
			}
			w.resume(a)
			w.step++
		}
	}
	return true
}

func (w *World) drain(c *closerProc) {
	c.drain = true
	for range 3 {
		if !w.turn(c) {
			return
		}
		if c.err == nil && c.receipt.Done {
			c.drain = false
			w.turn(c) // shows in Redis what others published
			return
		}
		for _, l := range w.assigned {
			l.kick = 2 // it may be asked for what is missing
		}
		if !w.rest() {
			return
		}
	}
	w.fail("not drained: %+v, %v", c.receipt, c.err)
}

// logEnds are the positions behind all records.
func (w *World) logEnds() (ends []report.LaneEnd) {
	for p := range w.parts {
		ends = append(ends, report.LaneEnd{Topic: topic, Partition: int32(p), End: w.parts[p].end()})
	}
	return ends
}
