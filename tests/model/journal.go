package model

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
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
	l := w.newProcess("settle", p)
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
				if w.logf("settles a chain: %+v, %v", r, err); err == nil || a.dead || deliver.BreaksChain(err) {
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

// barred reports whether the lane must not try Redis now: half of the processes have a breaker that knows, the others find out.
func (l *laneProc) barred() bool { return l.breaker && l.cut() }

// cut reports whether the process cannot reach Redis now.
func (l *laneProc) cut() bool { return !l.w.calm && l.w.step < l.away }

// patience is for how long Redis is still to be tried before the journal takes a commit, when a try has failed.
func (l *laneProc) patience() time.Duration {
	if l.disk != nil && l.w.rng.IntN(2) == 0 {
		return 0
	}
	return time.Hour
}

// overtakes reports whether a commit passes those in the journal, which a lane never does.
func (l *laneProc) overtakes() bool {
	return l.w.is(oneQueue) && l.disk != nil && l.tail.Pending().Calls > 0 && !l.barred() && l.w.rng.IntN(2) == 0
}

// overtake chains a commit to what is in Redis, as it would be if it did not have to wait for its turn, and applies it.
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
	if err := deliver.PublishSides(l.w.ctx, c, l); err != nil {
		return err
	}
	_, err = l.st.Apply(l.w.ctx, l.id, l.w.program.StateID, l.token, c.Calls)
	return err
}

// startDrain starts the actor that brings the journal to Redis.
func (l *laneProc) startDrain(token store.Token, sender *deliver.Sender, tail *journal.Tail) {
	idle := func() bool { return l.token == token && (l.tail != tail || tail.Pending().Calls == 0 || l.barred()) }
	l.w.spawn(&l.proc, l, idle, func(a *actor) {
		for a.pause() && l.token == token {
			if idle() {
				continue
			}
			r, _ := sender.Drain(l.w.ctx)
			if a.dead || l.token != token {
				return
			}
			if r.InRedis {
				l.w.logf("drained up to %d", r.Reached.Offset)
			}
			if r.InRedis || r.Err != nil {
				l.out = append(l.out, r)
			}
			if r.Err != nil {
				return
			}
		}
	})
}

// sendOwed publishes what the lane owes. It is false when the actor has crashed.
func (l *laneProc) sendOwed(a *actor, token store.Token, sender *deliver.Sender) bool {
	for len(l.owed) > 0 && l.token == token {
		tail := l.owed[0]
		if l.w.is(owedSides) {
			tail.Supersede("redis forgot")
			tail.Close()
		} else if _, err := sender.SendOwed(l.w.ctx, tail); err != nil {
			if errors.Is(err, journal.ErrBroken) {
				l.w.fail("journal of lane %d: %v", l.p, err)
			}
			if !a.pause() {
				return false
			}
			continue
		}
		l.owed = slices.DeleteFunc(l.owed, func(t *journal.Tail) bool { return t == tail })
	}
	return !a.dead
}

// leave gives up what a life of the lane holds of the journal.
func (l *laneProc) leave() {
	if l.commits != nil {
		l.commits.Withdraw(nil, l.owed)
		l.commits.Close()
	}
	l.owed, l.tail = nil, nil
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

var errUnreachable = fmt.Errorf("redis is unreachable: %w", errInjected)

var _ deliver.SideSender = (*laneProc)(nil)
