package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

// disk holds the journal of one process after the other. The real journal over the real log, on a disk in memory: what was
// acknowledged outlives its process.
type disk struct {
	fs   *faultfs.FS
	j    *journal.Journal
	user *laneProc
}

// unreachable is for how long at the most a process cannot reach Redis, in steps.
const unreachable = 120

// diskFor gives a new owner of a partition the disk of a process that is gone, or a new one: it starts on the same host or
// elsewhere.
func (w *World) diskFor(l *laneProc) *disk {
	d := w.freeDisk(l.p)
	if d == nil || w.rng.IntN(3) == 0 {
		d = &disk{fs: faultfs.New(0)}
		w.disks[l.p] = append(w.disks[l.p], d)
	} else {
		w.logf("%s finds the journal of %s: %d chains", l.name, d.user.name, len(d.j.Chains()))
		d.close(w)
	}
	d.user = l
	var err error
	if d.j, _, err = journal.Open(journal.Config{Log: wal.Config{Dir: "wal", FS: d.fs, SegmentSize: 128 << 10}}); err != nil {
		w.fail("open journal: %v", err)
	}
	return d
}

// freeDisk picks a disk whose process is gone, rather a late one, nil when there is none.
func (w *World) freeDisk(p int) *disk {
	free := slices.DeleteFunc(slices.Clone(w.disks[p]), func(d *disk) bool { return !d.user.crashed && !d.user.ended })
	n := len(free)
	if n == 0 {
		return nil
	}
	return free[n-1-min(w.rng.IntN(n), w.rng.IntN(n))]
}

// settleChains lets a process that does not run the lane decide about the journal of one that is gone.
func (w *World) settleChains(p int) {
	d := w.freeDisk(p)
	if d == nil || len(d.j.Chains()) == 0 {
		return
	}
	w.born++
	l := &laneProc{proc: proc{name: fmt.Sprintf("settle%d#%d", p, w.born)}, w: w, p: p, id: laneID(p)}
	l.st = &laneStore{Store: w.lab.store, l: l}
	d.close(w)
	d.user, l.disk = l, d
	var err error
	if d.j, _, err = journal.Open(journal.Config{Log: wal.Config{Dir: "wal", FS: d.fs, SegmentSize: 128 << 10}}); err != nil {
		w.fail("open journal: %v", err)
	}
	w.spawn(&l.proc, l, nil, func(a *actor) {
		defer func() { l.ended = true }()
		for _, c := range d.j.Chains() {
			l.resuming, l.rulings = c.Owner, w.lastRulings(c.Owner)
			for a.pause() {
				r, err := d.j.Settle(w.ctx, l.id, c.Owner, journal.SettleOptions{Store: l.st, Side: deliver.Fitting(l)})
				if w.logf("settles a chain: %+v, %v", r, err); err == nil || a.dead || chainEnds(err) {
					w.out.Settled += int(r.Commits)
					break
				}
			}
		}
	})
}

// lastRulings is the longest history of rulings of an owner's commits.
func (w *World) lastRulings(owner store.Token) (rulings []*ruling) {
	for _, info := range w.infos[owner] {
		if len(info.rulings) > len(rulings) {
			rulings = info.rulings
		}
	}
	return rulings
}

// close ends the process that had the disk, as a crash does.
func (d *disk) close(w *World) {
	w.balanced(d.j)
	d.fs = d.fs.Kill()
	_ = d.j.Close() // the disk is gone for it
}

// balanced checks that nothing is ever missing from the accounts of a journal.
func (w *World) balanced(j *journal.Journal) {
	for _, a := range j.Accounts().Lanes {
		calls, sum := a.Spilled.Calls, a.Spilled.Checksum
		if calls != a.Drained.Calls+a.Superseded.Calls+a.Pending.Calls || sum != a.Drained.Checksum+a.Superseded.Checksum+a.Pending.Checksum ||
			a.Pending.Calls == 0 && a.Pending != (journal.Tally{}) {
			w.fail("journal of lane %s: %+v", a.Lane, a)
		}
	}
}

// judgeJournals: what was spilled was drained or superseded, and only what no lane has passed is kept.
func (w *World) judgeJournals() {
	for p, disks := range w.disks {
		for _, d := range disks {
			w.balanced(d.j)
			for _, c := range d.j.Chains() {
				if d.user == w.assigned[p] && c.State != journal.Superseded {
					w.fail("journal of lane %d: chain %+v is left", p, c)
				}
			}
			if d.user == w.assigned[p] {
				for _, a := range d.j.Accounts().Lanes {
					w.out.Spilled += int(a.Spilled.Commits)
					w.out.Superseded += int(a.Superseded.Commits)
				}
			}
		}
	}
}

// origin is the chain whose commits an owner applies that has taken its place.
func (w *World) origin(owner store.Token) store.Token {
	if from, ok := w.origins[owner]; ok {
		return from
	}
	return owner
}

// resume is lane.Lane's: what the owner before has journalled is applied before anything is read.
func (l *laneProc) resume(previous store.Token, meta store.Meta) (store.Meta, error) {
	w := l.w
	if w.is(ownJournal) {
		for _, c := range l.disk.j.Chains() {
			if c.Lane == l.id && c.State != journal.Superseded {
				previous = c.Owner
			}
		}
	}
	from := w.origin(previous)
	w.origins[l.token] = from
	l.resuming, l.rulings = from, w.lastRulings(from)
	defer func() { l.resuming = "" }()
	r, err := l.disk.j.Resume(w.ctx, l.st, deliver.Fitting(l), l.id, w.program.StateID, previous, l.token, meta.Cursor)
	if err != nil {
		return meta, err
	}
	if r.Outcome != report.ChainNone {
		w.logf("resumes the journal: %+v", r)
		w.out.Resumed += int(r.Commits)
	}
	if r.Calls == 0 {
		return meta, nil
	}
	meta, _, err = l.st.ReadMeta(w.ctx, l.id)
	return meta, err
}

// barred tells whether the lane must not try Redis now: half of the processes have a breaker that knows, the others find out.
func (l *laneProc) barred() bool { return l.breaker && l.cut() }

// cut tells whether the process cannot reach Redis now.
func (l *laneProc) cut() bool { return !l.w.calm && l.w.step < l.away }

// spill puts a commit into the journal when it is not empty, when Redis must not be tried, or when it was tried in vain.
func (l *laneProc) spill(c *fold.Commit, failed bool) (bool, error) {
	if l.tail == nil {
		return false, nil
	}
	pending := l.tail.Pending().Calls > 0
	if pending && l.w.is(oneQueue) && !l.barred() && l.w.rng.IntN(2) == 0 {
		return false, l.overtake(c)
	}
	if !pending && !l.barred() && (!failed || l.w.rng.IntN(2) == 0) {
		return false, nil
	}
	if err := l.tail.Append(l.w.ctx, c.Offset, c.Calls, c.Side); err != nil {
		return false, err
	}
	l.w.logf("puts the commit at %d into the journal", c.Offset)
	return true, nil
}

// overtake chains a commit to what is in Redis, as it would be if it did not have to wait for its turn.
func (l *laneProc) overtake(c *fold.Commit) error {
	meta, found, err := l.st.ReadMeta(l.w.ctx, l.id)
	if err != nil || !found || meta.Owner != l.token {
		return err
	}
	at := meta.Cursor
	for i := range c.Calls {
		c.Calls[i].Prev = at
		at = store.Cursor{Seq: meta.Cursor.Seq + 1, Chunk: int64(i)}
		c.Calls[i].Next = at
	}
	l.infos[at.String()] = &commitInfo{partition: l.p, offset: c.Offset, rulings: l.rulings}
	return nil
}

// startDrain starts the actor that brings the journal to Redis.
func (l *laneProc) startDrain(token store.Token, tail *journal.Tail) {
	side := deliver.Fitting(l)
	idle := func() bool { return l.token == token && (l.tail != tail || tail.Pending().Calls == 0 || l.barred()) }
	l.w.spawn(&l.proc, l, idle, func(a *actor) {
		for a.pause() && l.token == token {
			if idle() {
				continue
			}
			step, err := tail.Drain(l.w.ctx, l.st, side)
			if a.dead || l.token != token {
				return
			}
			if step.Meta != nil {
				l.w.logf("drained up to %d", step.Meta.Offset)
				l.out = append(l.out, delivery{
					drained: step.Meta.Offset, effective: max(step.Meta.Watermark, step.Meta.Sealed), hint: strings.Clone(step.Meta.Hint),
				})
			}
			if chainEnds(err) {
				l.out = append(l.out, delivery{err: err})
				return
			}
		}
	})
}

// chainEnds tells whether no retry mends an error.
func chainEnds(err error) bool {
	return errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrLostWrites) || errors.Is(err, store.ErrNoMeta) ||
		errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrUnreadable)
}

// owe keeps the journal of the token that has just been given up: its side records go out before anything else.
func (l *laneProc) owe() {
	if l.tail != nil {
		l.owed, l.tail = append(l.owed, l.tail), nil
	}
}

// settle publishes what is owed. It is false when the actor has crashed.
func (l *laneProc) settle(a *actor, token store.Token) bool {
	for len(l.owed) > 0 && l.token == token {
		if !l.w.is(owedSides) {
			if _, err := l.owed[0].Sides(l.w.ctx, deliver.Fitting(l), false); err != nil {
				if errors.Is(err, journal.ErrBroken) {
					l.w.fail("journal of lane %d: %v", l.p, err)
				}
				if !a.pause() {
					return false
				}
				continue
			}
		}
		if l.token == token {
			l.owed[0].Supersede("redis forgot")
			l.owed[0].Close()
			l.owed = l.owed[1:]
		}
	}
	return !a.dead
}

// leave gives up what a life of the lane holds of the journal.
func (l *laneProc) leave() {
	l.owe()
	for _, t := range l.owed {
		t.Close()
	}
	l.owed = nil
	if l.disk != nil {
		l.token = "" // nothing goes on in the background
	}
}

// disconnect cuts a process off from Redis for a while.
func (w *World) disconnect() {
	if a := w.anyActor(); a != nil && a.lane != nil {
		a.lane.away = w.step + w.rng.IntN(unreachable)
		w.logf("%s cannot reach redis up to step %d", a.name, a.lane.away)
	}
}

// withdraw takes the commits back that are in the journal already.
func (l *laneProc) withdraw(out []delivery) {
	for _, d := range out {
		if d.commit != nil && d.journaled && d.err == nil {
			i := slices.Index(l.flying, d.commit)
			l.flying = slices.Delete(l.flying, i, i+1)
			l.free = append(l.free, d.commit)
		}
	}
}

var errUnreachable = fmt.Errorf("redis is unreachable: %w", errInjected)

var _ deliver.SideSender = (*laneProc)(nil)
