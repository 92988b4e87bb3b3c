package model

import (
	"errors"
	"log/slog"
	"time"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/store"
)

// loop is the running lane: one thing after the other, in any order the real one could do them.
func (l *laneProc) loop(a *actor) error {
	for {
		if !a.pause() {
			return errCrashed
		}
		if l.revoked {
			return l.release(a)
		}
		if l.decided {
			return l.beginAnew(a)
		}
		switch l.choose() {
		case toDeliver:
			if err := l.delivered(a); err != nil {
				return err
			}
		case toFold:
			if err := l.read(a); err != nil {
				return err
			}
		case toCommit:
			l.kick = max(0, l.kick-1)
			l.commit(store.NotIdle)
		case toAsk:
			l.askIdle()
		case toIdle:
			l.claimIdle()
		}
	}
}

// What a running lane can do next.
const (
	nothing = iota
	toDeliver
	toFold
	toCommit
	toAsk
	toIdle
)

// choose picks one of the things that can happen to the lane now.
func (l *laneProc) choose() int {
	rng, state := l.w.rng, l.holder.State()
	unread := !state.Halted() && state.Offset() < l.w.parts[l.p].end()
	can := make([]int, 0, 8)
	if len(l.out) > 0 {
		can = append(can, toDeliver, toDeliver)
	}
	if unread && l.commits.Ready() {
		can = append(can, toFold, toFold)
	}
	if state.Dirty() || l.kick > 0 || !l.w.calm && rng.IntN(12) == 0 {
		can = append(can, toCommit)
	}
	switch {
	case state.Halted():
	case l.idle.Waits():
		can = append(can, toIdle)
	case !unread || rng.IntN(8) == 0 || (l.w.recedes || l.w.sky == Refused) && rng.IntN(2) == 0: // a blocked reader looks like silence
		can = append(can, toAsk)
	}
	if len(can) == 0 {
		return nothing
	}
	return can[rng.IntN(len(can))]
}

// read folds some records. A lane that turns out to lack entries begins anew; one that has refused too many jumps asks.
func (l *laneProc) read(a *actor) error {
	state := l.holder.State()
	before := state.Counters()
	state.Fold(l.w.parts[l.p].batch(state.Offset(), 1+l.w.rng.IntN(6)))
	if after := state.Counters(); after.Moves() != before.Moves() {
		l.idle.Moved(l.at)
	}
	l.w.logf("has read up to %d", state.Offset())
	if err := state.Lost(); err != nil && !l.w.is(provesEntries) {
		if !l.w.damaged[l.p] && !l.w.mutated() {
			l.w.fail("nothing was taken from Redis, and %v", err)
		}
		l.w.logf("%v", err)
		return l.beginAnew(a)
	}
	if inc := l.holder.JumpIncident(l.committed); inc != nil {
		state.EndIdleness()
		l.incident = inc
	}
	return nil
}

func (l *laneProc) commit(idleAt int64) {
	state := l.holder.State()
	l.allowPages(false)
	if c := l.commits.Next(inflight.Orders{IdleAt: l.twistIdle(idleAt)}, l.at); c != nil {
		if l.reseeding == c {
			l.reseeding = nil
		}
		l.register(c, state.Watermark())
		l.noteWholeRuns(c)
		l.handOver(c)
	}
}

// register notes what a commit stands for.
func (l *laneProc) register(c *fold.Commit, watermark int64) {
	last := &c.Calls[len(c.Calls)-1]
	l.adopted(last.Meta.Sealed, c.Offset, watermark)
	l.idleEnd = last.Meta.IdleEnd
	l.infos[last.Next.String()] = &commitInfo{partition: l.p, offset: c.Offset, rulings: l.rulings}
	l.told[c.Replay.String()] = l.rulings
	l.w.logf("snapshot at %d, %d calls, up to cursor %s", c.Offset, len(c.Calls), last.Next)
}

func (l *laneProc) handOver(c *fold.Commit) {
	l.twistCommit(c)
	l.handed = append(l.handed, c)
	l.queue = append(l.queue, c)
}

// askIdle asks the broker for its end, as a lane does that has seen nothing for a while.
func (l *laneProc) askIdle() {
	l.at = l.at.Add(l.w.spec.Watermark.IdleTimeout.Std())
	if l.idle.Ask(l.at) {
		l.askEnd()
	}
}

func (l *laneProc) askEnd() {
	l.asked = l.w.step + 1
	l.idle.Named(l.holder.EndOf(l.w.ctx, l.holder.State().TopicID()), l.at)
}

// claimIdle commits the proof of idleness once everything below the end that the broker named was read. Now and then the
// answer has become too old.
func (l *laneProc) claimIdle() {
	if l.w.rng.IntN(20) == 0 {
		if l.at = l.at.Add(inflight.EndTrust + 1); l.idle.Ask(l.at) {
			l.askEnd()
			return
		}
	}
	if l.w.is(idleAsks) {
		l.idle.Named(l.holder.State().Offset(), l.at)
	}
	if end := l.idle.Claim(true, l.at); end != store.NotIdle {
		l.commit(end)
	}
	if !l.idle.Waits() {
		l.asked = 0
	}
}

// delivered takes the committer's answer.
func (l *laneProc) delivered(a *actor) error {
	r := l.out[0]
	l.out = l.out[1:]
	if r.Err != nil {
		return l.chainBroken(a, r.Err)
	}
	if r.Commit != nil {
		l.handed = l.handed[1:]
	}
	if r.At = l.at; l.w.turning.rng.IntN(2) == 0 {
		r.At = time.Time{} // whoever reads by an older index has had time enough, or has not
	}
	before := l.commits.Requests()
	l.twistRequests(&r)
	if l.commits.Answer(r) {
		l.kick = max(l.kick, 1)
	}
	if !r.InRedis {
		return nil
	}
	if !l.w.calm && r.Requests.Seal > max(before.Seal, l.sealed) {
		l.w.comeBack(l.p)
	}
	if l.w.calm && r.Requests.Drop > before.Drop {
		l.kick = max(l.kick, 1) // both signs of life may have been on their way when it was asked
	}
	l.committed, l.sent = r.Reached.Offset, r.Reached.Seq
	l.holder.Hint(r.Reached.Offset, r.Reached.Hint)
	return nil
}

// chainBroken is the end of the chain: what it means the lane's own code says.
func (l *laneProc) chainBroken(a *actor, err error) error {
	switch v := inflight.Judge(err); v {
	case inflight.End, inflight.AskRedis: // no journal is spoilt here
		return err
	case inflight.Park:
		if !l.w.mutated() {
			l.w.fail("lane %d: %v", l.p, err)
		}
		return err
	}
	l.w.logf("chain broken: %v", err)
	for {
		if l.w.assigned[l.p] != l {
			return store.ErrFenced
		}
		if err := l.reseed(); err == nil || errors.Is(err, store.ErrFenced) {
			return err
		}
		if !a.pause() {
			return errCrashed
		}
		if l.revoked {
			return errRevoked
		}
	}
}

// reseed takes a new token and hands over one commit with everything in it.
func (l *laneProc) reseed() error {
	if l.w.is(noReseed) {
		return l.goOn()
	}
	l.retaking = true
	found, err := l.holder.Retake(l.w.ctx)
	if l.retaking = false; err != nil {
		return err
	}
	l.commits.Withdraw(l.out, l.owed)
	l.w.rewrites[l.token] = l.disk != nil
	l.twistFound(&found)
	c := l.commits.Reseed(found, l.at)
	l.twistReseed(c)
	l.handed, l.queue, l.out = nil, nil, nil
	l.reseeding = c
	l.register(c, c.Watermark)
	l.holder.HintBack(found.Meta)
	l.w.out.Reseeds++
	l.w.logf("writes its state again under token %s", short(string(l.token)))
	l.startCommitter()
	l.handOver(c)
	if l.incident != nil { // nobody can decide under the token before any more
		l.incident = l.holder.JumpIncident(l.committed)
	}
	return nil
}

// beginAnew commits what the lane holds, so that whoever acquires it sees what is missing or was asked.
func (l *laneProc) beginAnew(a *actor) error {
	if err := l.release(a); !errors.Is(err, errRevoked) {
		return err
	}
	return errAnew
}

// release commits what the lane holds and waits for it.
func (l *laneProc) release(a *actor) error {
	final := false
	for tries := 0; tries < 50; tries++ {
		if !final && l.commits.Ready() {
			final = true
			if l.holder.State().Dirty() {
				l.commit(store.NotIdle)
			}
		}
		if final && l.commits.InFlight() == 0 && (l.commits.Pending().Calls == 0 || l.cut()) {
			break
		}
		if !a.pause() {
			return errCrashed
		}
		if len(l.out) > 0 {
			if l.out[0].Err != nil || l.delivered(a) != nil {
				break
			}
		}
	}
	return errRevoked
}

// startCommitter starts the actor that delivers commits one after the other until the chain breaks.
func (l *laneProc) startCommitter() {
	token, busy := l.token, false
	l.commits.Begin(nil)
	if l.disk != nil {
		l.tail = l.disk.j.Tail(l.id, l.w.program.StateID, token)
		l.commits.Begin(l.tail)
	}
	j := l.commits.Journal()
	l.owed = j.Owed
	deps := &deliver.Deps{Store: l.st, Side: l, Route: route{l}, Log: discard}
	sender := deliver.NewSender(l.w.ctx, deps, deliver.Config{Lane: l.id, StateID: l.w.program.StateID, Owner: token, Journal: j})
	if l.disk != nil {
		l.startDrain(token, sender, l.tail)
	}
	idle := func() bool { return len(l.queue) == 0 && !busy && len(l.owed) == 0 }
	l.w.spawn(&l.proc, l, idle, func(a *actor) {
		for a.pause() && l.token == token {
			if !l.sendOwed(a, token, sender) {
				return
			}
			if len(l.queue) == 0 {
				continue
			}
			c := l.queue[0]
			l.queue, busy = l.queue[1:], true
			l.sending = c
			r := deliver.Result{Commit: c, Requests: deliver.NoRequests}
			r.Journaled, r.Err = l.deliver(a, token, sender, c)
			if a.dead || l.token != token {
				return
			}
			if r.Err == nil {
				sender.Answered(l.w.ctx, &r)
			}
			l.out, busy = append(l.out, r), false
			if r.Err != nil {
				return
			}
		}
	})
}

// deliver repeats attempts until the commit is durable or the chain is broken.
func (l *laneProc) deliver(a *actor, token store.Token, sender *deliver.Sender, c *fold.Commit) (journaled bool, err error) {
	for failed := false; ; failed = true {
		if l.overtakes() {
			err = l.overtake(c)
		} else {
			journaled, err = sender.Send(l.w.ctx, c, failed, l.patience())
		}
		if journaled && err == nil {
			l.w.logf("puts the commit at %d into the journal", c.Offset)
		}
		if err == nil || deliver.BreaksChain(err) {
			return journaled, err
		}
		if errors.Is(err, store.ErrNotSealed) && !l.w.mutated() {
			l.w.fail("%v", err)
		}
		if !a.pause() || l.token != token {
			return false, errCrashed
		}
	}
}

var discard = slog.New(slog.DiscardHandler)
