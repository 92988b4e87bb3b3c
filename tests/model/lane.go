package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/agg"
	"millrace/pipeline/journal"
	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// laneProc is a process that was given one lane. It does what lane.Lane does around fold.State, with its two goroutines
// as two actors and without clocks: the running lane and its committer.
type laneProc struct {
	proc
	w       *World
	p       int
	id      store.LaneID
	st      *laneStore
	token   store.Token
	state   *fold.State
	rulings []*ruling // the history of rulings that state was decided with
	parked  bool      // the state is lost: the operator decides
	partial bool      // a part of it is
	halted  bool      // it has refused too many jumps: the operator decides
	choice  string    // what the operator has decided, "" before
	rebuilt []*ruling // the history of rulings that its answer brought back
	hinted  hint      // the group's offset as this lane left it
	ended   bool

	free, flying []*fold.Commit
	queue        []*fold.Commit // handed over, not taken by the committer yet
	out          []delivery
	infos        map[string]*commitInfo // by cursor of the last call, under the present token
	seal, drop   int64
	rewrite      int64 // commit of this token at which a closer found entries missing
	committed    int64
	sealed       int64 // as of the last snapshot
	idleEnd      int64 // as of the last snapshot
	asked        int   // step in which the broker was asked for its end, 0: it was not
	brokerEnd    int64
	moved        bool         // something came since the broker was asked that could move the watermark
	sending      *fold.Commit // by the committer
	reseeding    *fold.Commit // the last one that wrote everything again
	kick         int          // commits to make although nothing changed

	disk      *disk // nil without journals
	tail      *journal.Tail
	owed      []*journal.Tail      // of earlier tokens of this life: their side records were not sent
	away      int                  // step up to which Redis cannot be reached
	breaker   bool                 // it knows
	told      map[string][]*ruling // by metadata of the group's offset: the rulings behind it
	replacing *commitInfo          // what stands in place of a state that is spoilt
	resuming  store.Token          // whose journal it applies now
}

// delivery is the committer's answer to one commit.
type delivery struct {
	commit     *fold.Commit
	err        error
	seal, drop int64
	rewrite    int64

	journaled          bool
	drained, effective int64 // by the journal, when there is no commit
	hint               string
}

// commitInfo is what the model remembers of a commit by its last call.
type commitInfo struct {
	partition int
	offset    int64
	rulings   []*ruling
	answers   bool // no commit but the operator's answer to a lane that has refused too many jumps
}

var (
	errRevoked = errors.New("revoked")
	errParked  = errors.New("parked")
	errAnew    = errors.New("to be acquired anew")
)

// assign gives a partition to a new process.
func (w *World) assign(p int) {
	w.born++
	l := &laneProc{proc: proc{name: fmt.Sprintf("lane%d#%d", p, w.born)}, w: w, p: p, id: laneID(p)}
	l.st = &laneStore{Store: w.lab.store, l: l}
	if w.sky == Outage {
		l.disk, l.breaker = w.diskFor(l), w.rng.IntN(2) == 0
	}
	w.logf("partition %d goes to %s", p, l.name)
	w.assigned[p] = l
	w.spawn(&l.proc, l, nil, func(a *actor) {
		l.own(a)
		l.ended = true
	})
}

// own runs the lane as long as the claim is ours.
func (l *laneProc) own(a *actor) {
	for !l.revoked && a.pause() {
		err := l.life(a)
		l.leave()
		switch {
		case a.dead, errors.Is(err, errRevoked), errors.Is(err, errParked):
			return
		case errors.Is(err, store.ErrFenced) && l.w.assigned[l.p] != l && !l.w.is(stealBack):
			return
		}
		l.w.logf("starts again: %v", err)
	}
}

// life is one acquisition up to its end.
func (l *laneProc) life(a *actor) error {
	for {
		err := l.acquire()
		if err == nil {
			break
		}
		if errors.Is(err, errParked) || errors.Is(err, store.ErrFenced) {
			return err
		}
		if l.revoked {
			return errRevoked
		}
		if !a.pause() {
			return errCrashed
		}
	}
	l.free, l.flying, l.queue, l.out = nil, nil, nil, nil
	for range l.w.spec.Lane.CommitQueue + 2 {
		l.free = append(l.free, &fold.Commit{})
	}
	l.startCommitter()
	if l.drop != window.NoTime {
		l.commit(-1)
	}
	return l.loop(a)
}

// acquire is lane.Lane's: take the lane over, find where to read from, restore.
func (l *laneProc) acquire() error {
	w := l.w
	previous, meta, err := l.take()
	if err == nil && l.disk != nil {
		meta, err = l.resume(previous, meta)
	}
	if err != nil {
		return err
	}
	if _, err := w.ends(l.p); err != nil {
		return err
	}
	start := meta.Offset
	var rulings []*ruling
	if meta.Offset == store.NotStarted {
		start = 0
		if hint := w.hints[l.p]; hint.offset >= 0 {
			switch {
			case l.choice == report.ChoiceRebuild:
				if meta, err = l.rebuild(hint, false); err != nil {
					return err
				}
				start, rulings = meta.Offset, l.rebuilt
			case !w.is(trustHint):
				l.parked = true
				w.logf("state lost, the group stands at %d", hint.offset)
				return errParked
			default:
				start = hint.offset
			}
		}
	}
	state, _, err := lane.Restore(w.ctx, l.st, w.program, l.id, l.token)
	if errors.Is(err, store.ErrPartialLoss) && w.is(wantWhole) {
		err = nil
	}
	if spoilt := errors.Is(err, agg.ErrEntryCorrupt); spoilt || errors.Is(err, store.ErrPartialLoss) {
		if err = l.lost(err); err == nil {
			if meta, err = l.rebuild(w.hints[l.p], spoilt); err != nil {
				return err
			}
			start, rulings = meta.Offset, l.rebuilt
			state, _, err = lane.Restore(w.ctx, l.st, w.program, l.id, l.token)
		}
	}
	if err != nil {
		if errors.Is(err, store.ErrCorrupt) {
			w.fail("restore: %v", err)
		}
		return err
	}
	if state.Cursor() != meta.Cursor {
		return store.ErrLostWrites
	}
	if state.Halted() {
		if state, meta, err = l.answer(state); err != nil {
			return err
		}
	}
	state.Fold(&source.Batch{Next: start}) // a fresh lane begins at the log's start
	l.state, l.rulings, l.committed = state, l.st.rulings, start
	if rulings != nil {
		l.rulings = rulings
	}
	l.sealed, l.idleEnd = sealedAt(l.rulings, start), store.NotIdle
	l.seal, l.drop, l.rewrite, l.asked, l.kick = window.NoTime, window.NoTime, 0, 0, 0
	if meta.Offset == store.NotStarted {
		ctl, err := l.st.ReadCtl(w.ctx, l.id)
		if err != nil {
			return err
		}
		l.drop = ctl[0].DropBefore // it binds before the first record
	}
	l.hinted = hint{start, state.Replay().String(), l.rulings}
	l.lower(start)
	w.logf("resumes at %d, token %s", start, short(string(l.token)))
	return nil
}

// hint lets the group's offset follow a commit, unless the group's coordinator is out of reach.
func (l *laneProc) hint(offset int64, text string) {
	if l.w.faulty(l.w.weather.group) {
		return
	}
	l.hinted = hint{offset, text, l.told[text]}
	if now := &l.w.hints[l.p]; offset >= now.offset {
		*now = l.hinted
	}
}

// lower sets the group's offset back, or replaces its metadata.
func (l *laneProc) lower(offset int64) {
	if now := &l.w.hints[l.p]; offset <= now.offset {
		now.offset = offset
		now.text, now.rulings = l.hinted.text, l.hinted.rulings
	}
}

// take writes a new owner token over the one that was read.
func (l *laneProc) take() (store.Token, store.Meta, error) {
	before, _, err := l.st.ReadMeta(l.w.ctx, l.id)
	if err != nil {
		return "", store.Meta{}, err
	}
	token := l.w.nextToken(before.Owner)
	meta, _, err := l.st.Acquire(l.w.ctx, l.id, l.w.program.StateID, before.Owner, token)
	if err == nil {
		l.token, l.infos = token, map[string]*commitInfo{}
		l.w.infos[token] = l.infos
		l.st.acquired()
	}
	return before.Owner, meta, err
}

// startCommitter starts the actor that delivers commits one after the other until the chain breaks.
func (l *laneProc) startCommitter() {
	token, busy := l.token, false
	if l.disk != nil {
		l.tail = l.disk.j.Tail(l.id, l.w.program.StateID, token)
		l.startDrain(token, l.tail)
	}
	idle := func() bool { return len(l.queue) == 0 && !busy && len(l.owed) == 0 }
	l.w.spawn(&l.proc, l, idle, func(a *actor) {
		for a.pause() && l.token == token {
			if !l.settle(a, token) {
				return
			}
			if len(l.queue) == 0 {
				continue
			}
			c := l.queue[0]
			l.queue, busy = l.queue[1:], true
			l.sending = c
			d := delivery{commit: c, seal: window.NoTime, drop: window.NoTime}
			d.journaled, d.err = l.deliver(a, token, c)
			if a.dead || l.token != token {
				return
			}
			if d.err == nil && !d.journaled {
				if ctl, err := l.st.ReadCtl(l.w.ctx, l.id); err == nil {
					d.seal, d.drop = ctl[0].SealBefore, ctl[0].DropBefore
					if ctl[0].Rewrite.Owner == token {
						d.rewrite = ctl[0].Rewrite.Seq
					}
				}
			}
			l.out, busy = append(l.out, d), false
			if d.err != nil {
				return
			}
		}
	})
}

func (l *laneProc) deliver(a *actor, token store.Token, c *fold.Commit) (journaled bool, err error) {
	for failed := false; ; failed = true {
		if journaled, err = l.spill(c, failed); journaled || chainEnds(err) {
			return journaled, err
		}
		if err == nil {
			err = deliver.PublishSides(l.w.ctx, c, l)
		}
		if err == nil {
			_, err = l.st.Apply(l.w.ctx, l.id, l.w.program.StateID, token, c.Calls)
		}
		if err == nil || chainEnds(err) {
			return false, err
		}
		if errors.Is(err, store.ErrNotSealed) && !l.w.mutated() {
			l.w.fail("%v", err)
		}
		if !a.pause() || l.token != token {
			return false, errCrashed
		}
	}
}

// Send implements deliver.SideSender.
func (l *laneProc) Send(_ context.Context, records []source.SideRecord) error {
	if !l.w.current.pause() {
		return errCrashed
	}
	fault := l.w.faulty(l.w.weather.side)
	if fault && l.w.rng.IntN(2) == 0 {
		return errInjected
	}
	l.publish(records, l.sending != nil && l.sending == l.reseeding || l.w.rewrites[l.w.origin(l.token)] || l.w.rewrites[l.resuming])
	if fault {
		return errInjected
	}
	return nil
}

// publish puts records into the late topic and checks that what makes them late is committed. It cannot be when Redis
// lost it and the lane is writing it again: if the lane crashes before it is done, the record is void.
func (l *laneProc) publish(records []source.SideRecord, again bool) {
	committed := slices.DeleteFunc(slices.Clone(l.rulings), func(s *ruling) bool { return !slices.Contains(l.w.applied[l.p], s) })
	ref := l.w.reference(l.p, committed)
	for i := range records {
		r := sideRecord{partition: l.p, offset: -1}
		for _, h := range records[i].Headers {
			switch h.Key {
			case "mr-reason":
				r.reason = string(h.Value)
			case "mr-offset":
				r.offset = atoi(string(h.Value))
			}
		}
		if r.reason == "late" && !ref.placed[r.offset].late {
			if !again {
				l.w.fail("lane %d: offset %d goes to the late topic before the seal that makes it late is committed", l.p, r.offset)
			}
			l.w.void[[2]int64{int64(l.p), r.offset}] = true
		}
		l.w.side = append(l.w.side, r)
		l.w.logf("side record %s of offset %d", r.reason, r.offset)
	}
}

// loop is the running lane: one thing after the other, in any order the real one could do them.
func (l *laneProc) loop(a *actor) error {
	for {
		if !a.pause() {
			return errCrashed
		}
		if l.revoked {
			return l.release(a)
		}
		if l.state.Halted() && answers(l.choice) {
			return l.beginAnew(a)
		}
		switch l.choose() {
		case toDeliver:
			if err := l.delivered(a); err != nil {
				return err
			}
		case toFold:
			before := l.state.Counters()
			l.state.Fold(l.w.parts[l.p].batch(l.state.Offset(), 1+l.w.rng.IntN(6)))
			after := l.state.Counters()
			l.moved = l.moved || after.Moves() != before.Moves()
			l.w.logf("has read up to %d", l.state.Offset())
			if err := l.state.Lost(); err != nil && !l.w.is(provesEntries) {
				if !l.w.damaged[l.p] && !l.w.mutated() {
					l.w.fail("nothing was taken from Redis, and %v", err)
				}
				l.w.logf("%v", err)
				return l.beginAnew(a)
			}
		case toCommit:
			l.kick = max(0, l.kick-1)
			l.commit(-1)
		case toAsk:
			l.askIdle()
		case toIdle:
			l.idle()
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
	rng, halted := l.w.rng, l.state.Halted()
	unread := !halted && l.state.Offset() < l.w.parts[l.p].end()
	can := make([]int, 0, 8)
	if len(l.out) > 0 {
		can = append(can, toDeliver, toDeliver)
	}
	if unread && len(l.free) > 0 {
		can = append(can, toFold, toFold)
	}
	if l.state.Dirty() || l.kick > 0 || !l.w.calm && rng.IntN(12) == 0 {
		can = append(can, toCommit)
	}
	switch {
	case halted:
	case l.asked > 0:
		can = append(can, toIdle)
	case !unread || rng.IntN(8) == 0 || (l.w.sky == Silence || l.w.sky == Refused) && rng.IntN(2) == 0: // a blocked reader looks like silence
		can = append(can, toAsk)
	}
	if len(can) == 0 {
		return nothing
	}
	return can[rng.IntN(len(can))]
}

// quiet tells whether the lane has done everything there is to do.
func (l *laneProc) quiet() bool {
	end := l.w.parts[l.p].end()
	return l.state != nil && !l.state.Halted() && l.state.Offset() == end && !l.state.Dirty() && len(l.flying) == 0 && l.kick == 0 &&
		l.idleEnd == end && l.seal <= l.sealed && (l.tail == nil || l.tail.Pending().Calls == 0)
}

func (l *laneProc) commit(idleAt int64) {
	n := len(l.free)
	if n == 0 {
		return
	}
	c := l.free[n-1]
	l.free = l.free[:n-1]
	ctl := fold.Control{SealBefore: l.seal, DropBefore: l.drop, Rewrite: l.rewrite, IdleAt: idleAt}
	l.twist(&ctl)
	if l.state.Snapshot(c, ctl); l.reseeding == c {
		l.reseeding = nil
	}
	l.register(c)
	l.hand(c)
}

// register notes what a commit stands for.
func (l *laneProc) register(c *fold.Commit) {
	last := &c.Calls[len(c.Calls)-1]
	if last.Meta.Sealed > max(l.sealed, sealedAt(l.rulings, c.Offset)) {
		s := &ruling{offset: c.Offset, before: last.Meta.Sealed, asked: l.w.step + 1, effective: last.Meta.Sealed > c.Watermark}
		if l.asked > 0 {
			s.asked = l.asked
		}
		if s.effective && !l.w.calm {
			l.w.out.Seals++
		}
		s.rewrites = c.Offset < l.w.reached[l.p]
		l.rulings = append(l.rulings[:len(l.rulings):len(l.rulings)], s)
		l.w.logf("adopts seal %+d at %d, %+v", last.Meta.Sealed-origin, c.Offset, *s)
	}
	l.sealed, l.idleEnd = max(l.sealed, last.Meta.Sealed), last.Meta.IdleEnd
	l.infos[last.Next.String()] = &commitInfo{partition: l.p, offset: c.Offset, rulings: l.rulings}
	if l.told == nil {
		l.told = map[string][]*ruling{}
	}
	l.told[c.Replay.String()] = l.rulings
	l.w.logf("snapshot at %d, %d calls, up to cursor %s", c.Offset, len(c.Calls), last.Next)
}

func (l *laneProc) hand(c *fold.Commit) {
	l.twistCommit(c)
	l.flying = append(l.flying, c)
	l.queue = append(l.queue, c)
}

// askIdle asks the broker for its end, as a lane does that has seen nothing for a while.
func (l *laneProc) askIdle() {
	l.asked, l.moved = l.w.step+1, false
	ends, err := l.w.ends(l.p)
	l.brokerEnd = ends.HighWatermark
	if err != nil {
		l.brokerEnd = -1
	}
}

// idle commits the proof of idleness once everything below the end that the broker named was read, if it still holds.
func (l *laneProc) idle() {
	end, ok := l.twistEnd(l.brokerEnd)
	if ok && end >= 0 && !l.moved && l.state.Offset() < end && l.w.rng.IntN(20) > 0 {
		return // it reads on; now and then the answer has become too old
	}
	if ok = ok && end >= 0 && !l.moved && l.state.Offset() >= end; ok && (l.idleEnd != end || l.seal > l.sealed) {
		l.commit(end)
	}
	l.asked = 0
}

// delivered takes the committer's answer.
func (l *laneProc) delivered(a *actor) error {
	d := l.out[0]
	l.out = l.out[1:]
	if d.err != nil {
		return l.broken(a, d.err)
	}
	c := d.commit
	if c == nil {
		l.state.Reached(d.effective)
		l.reached(d.drained, d.hint)
		return nil
	}
	l.flying = l.flying[1:]
	l.free = append(l.free, c)
	if d.journaled {
		return nil
	}
	l.state.Acknowledged(c)
	if l.w.calm && d.drop > l.drop {
		l.kick = max(l.kick, 1) // both signs of life may have been on their way when it was asked
	}
	l.seal, l.drop = max(l.seal, d.seal), max(l.drop, d.drop)
	if d.rewrite > l.rewrite {
		l.rewrite, l.kick = d.rewrite, max(l.kick, 1)
	}
	l.reached(c.Offset, c.Replay.String())
	return nil
}

// reached is what follows from Redis having everything below an offset.
func (l *laneProc) reached(offset int64, text string) {
	l.committed = offset
	l.hint(offset, text)
	if l.tail != nil {
		l.tail.Committed(offset)
	}
}

// broken is the end of the chain: a fenced lane ends, one whose Redis forgot writes its memory again.
func (l *laneProc) broken(a *actor, err error) error {
	if errors.Is(err, store.ErrFenced) || errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrUnreadable) {
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
	_, meta, err := l.take()
	if err != nil {
		return err
	}
	_, stored, err := l.st.LaneView(l.w.ctx, l.id, l.w.program.StateID)
	if err != nil {
		return err
	}
	l.withdraw(l.out)
	l.owe()
	var side []source.SideRecord
	for _, f := range l.flying {
		side = append(side, f.Side...)
	}
	l.free = append(l.free, l.flying...)
	c := l.free[len(l.free)-1]
	l.free = l.free[:len(l.free)-1]
	l.flying, l.queue, l.out, l.rewrite = nil, nil, nil, 0
	l.w.rewrites[l.token] = l.disk != nil
	l.state.Reseed(c, meta.Cursor, stored)
	c.Side = append(side, c.Side...)
	l.reseeding = c
	l.register(c)
	l.lower(l.committed)
	l.w.out.Reseeds++
	l.w.logf("writes its state again under token %s", short(string(l.token)))
	l.startCommitter()
	l.hand(c)
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
		if !final && len(l.free) > 0 {
			final = true
			if l.state.Dirty() {
				l.commit(-1)
			}
		}
		if final && len(l.flying) == 0 && (l.tail == nil || l.tail.Pending().Calls == 0 || l.cut()) {
			break
		}
		if !a.pause() {
			return errCrashed
		}
		if len(l.out) > 0 {
			if l.out[0].err != nil || l.delivered(a) != nil {
				break
			}
		}
	}
	return errRevoked
}

// commitOf finds out whether a command is the last call of a commit of the running lane, or replaces its state.
func (w *World) commitOf(a *actor, args []string) *commitInfo {
	if a.lane == nil {
		return nil
	}
	owner, _, next, ok := applyArgs(args)
	switch {
	case !ok:
		return nil
	case replaces(args):
		return a.lane.replacing
	case a.lane.disk == nil && owner == string(a.lane.token):
		return a.lane.infos[next]
	case a.lane.disk == nil || !slices.Contains(args, "topic_id"): // not a meta: places are used again when rules are off
		return nil
	}
	if info := w.infos[store.Token(owner)][next]; info != nil {
		return info
	}
	return w.infos[a.lane.resuming][next]
}
