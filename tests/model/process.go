package model

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// laneProc is a process that was given one lane. It drives what lane.Lane is made of: lane.Holder takes, restores and
// verifies the lane, inflight.Commits keeps account of its commits, deliver.Sender brings them to Redis. What is here is what
// happens next, with the goroutines of the lane as actors and without clocks; what becomes of it is noted for the judges.
type laneProc struct {
	proc
	w  *World
	p  int
	id store.LaneID
	st *laneStore
	tenure
	traffic
	host
	notes
	pageNotes
	ended bool
}

// tenure is how the process holds its lane.
type tenure struct {
	main      *actor // the lane's goroutine
	holder    *lane.Holder
	decisions *lane.Decisions
	incident  *report.Incident // the operator is asked about it, nil when there is none
	partial   bool             // it is about a state of which something is gone, or spoilt
	decided   bool             // the operator has answered
	choice    string           // with that
	acquiring bool
	running   bool // since an acquisition
}

// traffic is what a running lane has under way.
type traffic struct {
	at      time.Time // its clock: it stands but for what waits for time
	commits *inflight.Commits
	idle    *inflight.Idleness
	handed  []*fold.Commit // and not answered
	queue   []*fold.Commit // handed over, not taken by the committer yet
	out     []deliver.Result
	owed    []*journal.Tail // by the committer
	tail    *journal.Tail   // of the present token
	kick    int             // commits to make although nothing changed
	pages   bool            // the process writes pages
}

// host is where the process runs.
type host struct {
	disk     *disk       // nil without journals
	marked   hint        // as the process marked it last: the group's offset follows when the coordinator hears of it
	unheard  bool        // it has not
	away     int         // step up to which Redis cannot be reached
	breaker  bool        // it knows
	replays  bool        // it applies a journal before it restores
	resuming store.Token // whose journal that is, "" when the model knows nothing of it
}

// notes are for the judges.
type notes struct {
	token     store.Token // as Redis has accepted it
	committed int64
	sealed    int64 // as of the last snapshot
	idleEnd   int64 // as of the last snapshot
	asked     int   // step in which the broker was asked for its end, 0: it was not

	rulings   []*ruling              // the history of rulings that the state was decided with
	infos     map[string]*commitInfo // by cursor of the last call, under the present token
	told      map[string][]*ruling   // by metadata of the group's offset: the rulings behind it
	replacing *commitInfo            // what stands in place of a state that is spoilt
	sending   *fold.Commit           // by the committer
	reseeding *fold.Commit           // the last one that wrote everything again
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
	errAnew    = errors.New("to be acquired anew")
	errParked  = errors.New("parked")
)

// newProcess makes a process for a partition.
func (w *World) newProcess(name string, p int) *laneProc {
	w.born++
	l := &laneProc{
		proc: proc{name: fmt.Sprintf("%s%d#%d", name, p, w.born)}, w: w, p: p, id: laneID(p),
		tenure: tenure{decisions: new(lane.Decisions)}, traffic: traffic{at: time.UnixMilli(0)},
		pageNotes: pageNotes{
			whole: map[string][]store.SliceID{}, wholeAt: map[store.SliceID]int64{}, pending: map[store.SliceID][]store.StoredPage{},
		},
		notes: notes{told: map[string][]*ruling{}, infos: map[string]*commitInfo{}},
	}
	l.st, l.marked = &laneStore{Store: w.lab.store, l: l}, w.hints[p]
	return l
}

// assign gives a partition to a new process.
func (w *World) assign(p int) {
	l := w.newProcess("lane", p)
	deps := &lane.Deps{
		Store: l.st, Side: l, Cluster: broker{l}, Group: "g", Desired: lane.NewDesired(), Route: route{l},
		Log: discard, NextToken: w.nextToken,
	}
	if w.sky == Outage {
		l.disk, l.breaker = w.diskFor(l), w.rng.IntN(2) == 0
		deps.Journal = chains{l}
	}
	l.holder = lane.NewHolder(deps, w.program, claim{l}, l.decisions)
	w.logf("partition %d goes to %s", p, l.name)
	w.assigned[p] = l
	w.spawn(&l.proc, l, l.waits, func(a *actor) {
		l.own(a)
		l.ended = true
	})
}

// waits reports whether the lane has parked and nobody has answered.
func (l *laneProc) waits() bool {
	return !l.running && l.incident != nil && !l.decided && !l.revoked && l.w.assigned[l.p] == l
}

// own runs the lane as long as the claim is ours.
func (l *laneProc) own(a *actor) {
	l.main = a
	for !l.revoked && a.pause() {
		if l.waits() {
			continue
		}
		err := l.life(a)
		l.leave()
		switch {
		case a.dead, errors.Is(err, errRevoked):
			return
		case (l.incident != nil || errors.Is(err, store.ErrFenced)) && l.w.assigned[l.p] != l && !l.w.is(stealBack):
			return
		}
		l.w.logf("starts again: %v", err)
	}
}

// life is one acquisition up to its end.
func (l *laneProc) life(a *actor) error {
	l.holder.Begin()
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
	l.queue, l.handed, l.out, l.owed = nil, nil, nil, nil
	l.commits = inflight.New(l.holder.State(), l.w.spec.Lane.CommitQueue+2, l.w.spec.Lane.CommitInterval.Std(), l.at)
	l.allowPages(true)
	l.idle = inflight.NewIdleness(l.commits, l.w.spec.Watermark.IdleTimeout.Std(), l.at)
	l.startCommitter()
	l.running = true
	defer func() { l.running = false }()
	return l.loop(a)
}

// acquire goes through the steps of an acquisition once.
func (l *laneProc) acquire() error {
	w := l.w
	l.acquiring, l.incident, l.decided = true, nil, false
	_, err := l.holder.Acquire(w.ctx, lane.AtOnce)
	l.acquiring = false
	var inc *report.Incident
	switch {
	case errors.As(err, &inc):
		l.park(inc)
		return errParked
	case err != nil:
		w.logf("not acquired: %v", err)
		return err
	}
	state := l.holder.State()
	l.committed, l.idleEnd, l.asked, l.kick = state.Offset(), store.NotIdle, 0, 0
	w.logf("resumes at %d, token %s", state.Offset(), short(string(l.token)))
	return nil
}

// resumed takes over the history of rulings of the state that the lane has just restored. It is called before anything
// is told of it.
func (l *laneProc) resumed() {
	state := l.holder.State()
	l.rulings = l.st.rulings
	l.sealed = sealedAt(l.rulings, state.Offset())
	known := len(l.rulings)
	if l.adopted(state.Sealed(), state.Offset(), state.Watermark()); len(l.rulings) > known {
		l.bound()
	}
}

// bound notes that the lane begins under a seal that it found in Redis, beside no state: that windows are final stands there
// without a commit of the lane.
func (l *laneProc) bound() {
	applied, last := &l.w.applied[l.p], len(l.rulings)-1
	s := l.rulings[last]
	same := func(o *ruling) bool { return !o.accept && o.offset == s.offset && o.before == s.before }
	if i := slices.IndexFunc(*applied, same); i >= 0 {
		l.rulings[last] = (*applied)[i]
		return
	}
	*applied = append(*applied, s)
}

// adopted notes a seal that the lane decides with from an offset on.
func (l *laneProc) adopted(sealed, offset, watermark int64) {
	if sealed > max(l.sealed, sealedAt(l.rulings, offset)) {
		s := &ruling{offset: offset, before: sealed, asked: l.w.step + 1, effective: sealed > watermark}
		if l.asked > 0 {
			s.asked = l.asked
		}
		if s.effective && !l.w.calm {
			l.w.out.Seals++
			l.w.comeBack(l.p)
		}
		s.rewrites = offset < l.w.reached[l.p]
		l.rulings = append(l.rulings[:len(l.rulings):len(l.rulings)], s)
		l.w.logf("adopts seal %+d at %d, %+v", sealed-origin, offset, *s)
	}
	l.sealed = max(l.sealed, sealed)
}

// quiet reports whether the lane has done everything there is to do.
func (l *laneProc) quiet() bool {
	end, state := l.w.parts[l.p].end(), l.holder.State()
	return l.running && state.Offset() == end && !state.Dirty() && l.commits.InFlight() == 0 && l.kick == 0 &&
		l.idleEnd == end && l.commits.Requests().Seal <= l.sealed && l.commits.Pending().Calls == 0
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
