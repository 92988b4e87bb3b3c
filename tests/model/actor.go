package model

import "iter"

// proc is a process as far as faults are concerned: its actors freeze and crash together.
type proc struct {
	name    string
	thaw    int // step up to which it is frozen
	crashed bool
	revoked bool // asked to end
}

// actor is a coroutine that runs real code and hands control back before every call to Redis or Kafka. So any other
// actor may run, and any fault happen, between two calls; and everything happens in one order.
type actor struct {
	*proc
	lane *laneProc // nil for closers
	wait func() bool
	next func() (struct{}, bool)
	stop func()
	hand func(struct{}) bool
	dead bool // the coroutine is unwinding
	done bool
}

// spawn starts an actor. wait, if not nil, reports whether the actor has nothing to do.
func (w *World) spawn(p *proc, l *laneProc, wait func() bool, body func(a *actor)) *actor {
	a := &actor{proc: p, lane: l, wait: wait}
	a.next, a.stop = iter.Pull(func(hand func(struct{}) bool) {
		a.hand = hand
		body(a)
	})
	w.actors = append(w.actors, a)
	return a
}

// pause hands control to the world. It is false when the actor has crashed; then it must unwind.
func (a *actor) pause() bool {
	if !a.dead && !a.hand(struct{}{}) {
		a.dead = true
	}
	return !a.dead
}

// ready reports whether the actor can run.
func (a *actor) ready(step int) bool {
	return !a.done && !a.crashed && step >= a.thaw && (a.wait == nil || !a.wait())
}

// resume runs the actor up to its next call.
func (w *World) resume(a *actor) {
	before := w.current
	w.current = a
	if _, more := a.next(); !more {
		a.done = true
	}
	w.current = before
}

// crash ends a process: the call it was about to make and all after it have no effect.
func (w *World) crash(p *proc) {
	p.crashed = true
	for _, a := range w.actors {
		if a.proc == p && !a.done {
			a.dead = true
			before := w.current
			w.current = a
			a.stop()
			w.current = before
			a.done = true
		}
	}
}

// sweep forgets actors that have ended.
func (w *World) sweep() {
	live := w.actors[:0]
	for _, a := range w.actors {
		if !a.done {
			live = append(live, a)
		}
	}
	clear(w.actors[len(live):])
	w.actors = live
}
