package model

import (
	"fmt"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/window"
)

// closerProc is a process with a closer. Several may be at work at once.
type closerProc struct {
	proc
	w         *World
	looks     []look
	incidents []report.FailedWindow
	report    result.RoundReport
	rounds    int // that ended without an error
	receipt   result.Receipt
	err       error
	ended     bool
	drain     bool // the next thing to do is a drain
}

// look is how far the source partitions went when a closer began to look at the lanes.
type look struct {
	step int
	ends []int64
}

func (w *World) newCloser() *closerProc {
	w.born++
	c := &closerProc{proc: proc{name: fmt.Sprintf("closer#%d", w.born)}, w: w}
	w.closers = append(w.closers, c)
	w.logf("%s starts", c.name)
	w.spawn(&c.proc, nil, nil, func(a *actor) {
		c.run(a)
		c.ended = true
	})
	return c
}

// changeClosers starts another closer, or ends one.
func (w *World) changeClosers() {
	live := 0
	for _, c := range w.closers {
		if !c.crashed && !c.revoked {
			live++
		}
	}
	switch {
	case live == 0 || live < 3 && w.rng.IntN(2) == 0:
		w.newCloser()
	default:
		w.closers[w.rng.IntN(len(w.closers))].revoked = true
	}
}

func (c *closerProc) config() result.Config {
	return result.Config{
		Spec: c.w.spec, State: c.w.stateOf(c), Kafka: c.w.kafkaOf(c), By: c.name, Slots: slots, Parallel: 1, ReadAhead: 1, Patience: 2,
		ViewPage:  20,
		TrustEnds: c.w.trustEnds(),
		Now:       func() time.Time { return time.UnixMilli(c.w.clock()) },
	}
}

// trust is for how many steps the ends that closers ask for are trusted.
const trust = 400

func (w *World) trustEnds() time.Duration {
	if w.is(endsFresh) {
		return time.Hour
	}
	return trust * stepMs * time.Millisecond
}

// forgetful reports whether the closer starts afresh for every round, so that it reads the ledger again.
func (c *closerProc) forgetful() bool { return !c.w.calm && (c.w.is(coverFirst) || c.w.is(finals)) }

func (c *closerProc) run(a *actor) {
	cl, err := result.NewCloser(c.config())
	for err == nil && !c.revoked && a.pause() {
		c.do(cl)
		if a.dead {
			break
		}
		c.rounds++
		if c.forgetful() {
			_ = cl.Close()
			cl, err = result.NewCloser(c.config())
		}
	}
	if cl != nil {
		_ = cl.Close()
	}
}

func (c *closerProc) do(cl *result.Closer) {
	w := c.w
	l := look{step: w.step}
	for _, p := range w.parts {
		l.ends = append(l.ends, p.end())
	}
	c.looks = append(c.looks, l)
	switch n := w.rng.IntN(20); {
	case c.drain:
		c.receipt, c.err = cl.Drain(w.ctx, w.logEnds())
	case w.calm || n < 17-w.weather.flushes:
		c.report, c.err = cl.Round(w.ctx)
		c.incidents = append(c.incidents, c.report.Incidents...)
	case n < 17:
		_, c.err = cl.Flush(w.ctx)
	default:
		if ref, ok := w.anyWindow(); ok {
			_, _, c.err = cl.CloseWindow(w.ctx, ref, "")
			if result.Incident(c.err) {
				c.incidents = append(c.incidents, report.FailedWindow{
					WindowRef: report.WindowRef{Window: w.spec.Windows[ref.Window].Name, Start: ref.Start}, Problem: c.err.Error(),
				})
			}
		}
	}
	w.logf("round ends: %d closed, %d pending, %d failed, %d incidents, %v, %v %v", len(c.report.Closed), len(c.report.Pending),
		len(c.report.Failed), len(c.report.Incidents), c.report.Progress, c.report.Waiting, c.err)
}

// anyWindow picks a window of some event.
func (w *World) anyWindow() (window.Ref, bool) {
	p := w.parts[w.rng.IntN(len(w.parts))]
	if p.end() == 0 {
		return window.Ref{}, false
	}
	e := p.events[w.rng.IntN(len(p.events))]
	if e.kind != good {
		return window.Ref{}, false
	}
	refs := w.plan.WindowsOf(w.plan.SliceStart(e.ms))
	return refs[w.rng.IntN(len(refs))], true
}
