package lane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Lane runs one lane from acquisition to release. Run may be called again after it returned.
type Lane struct {
	deps    *Deps
	program *fold.Program
	claim   source.Claim
	id      store.LaneID
	tp      source.TopicPartition
	share   *Share
	status  atomic.Pointer[Status]

	acquisition *Acquisition
	token       store.Token // "" before this acquisition has taken one
	previous    store.Token // whom it was taken from
	unproved    store.Token // of a meta that this lane has created and not been able to prove or to take back
	state       *fold.State
	loss        error       // why the state in Redis cannot be used, as this acquisition found
	unowned     store.Token // whose such a state is, when this lane could not become its owner
	reader      source.Reader
	now         Status // what publish hands out; the lane's goroutine alone writes it
	reseeds     int
	hinted      int64 // group offset as this lane left it, and its metadata
	hintText    string

	wake         chan struct{} // a decision waits to be carried out
	deciding     sync.Mutex
	decisions    []Decision
	decidedUnder store.Token // owner when the last decision was made
}

// New prepares a lane for a claim. It touches nothing until Run.
func New(deps *Deps, program *fold.Program, claim source.Claim) *Lane {
	l := &Lane{
		deps: deps, program: program, claim: claim,
		id:   store.LaneID{Pipeline: program.Spec.Name, Topic: claim.Topic(), Partition: claim.Partition()},
		tp:   source.TopicPartition{Topic: claim.Topic(), Partition: claim.Partition()},
		wake: make(chan struct{}, 1),
	}
	l.now = Status{Topic: l.tp.Topic, Partition: l.tp.Partition, State: StateAcquiring, End: -1, Committed: -1}
	l.publish()
	return l
}

// ID names the lane.
func (l *Lane) ID() store.LaneID { return l.id }

// Status returns the latest snapshot. It may be called from any goroutine.
func (l *Lane) Status() Status {
	s := *l.status.Load()
	l.deciding.Lock()
	defer l.deciding.Unlock()
	s.Decisions = l.decisions
	return s
}

// Waits says, before Run, what the lane waits for.
func (l *Lane) Waits(reason string) {
	l.now.Reason = reason
	l.publish()
}

func (l *Lane) publish() {
	s := l.now
	s.UpdatedAt = time.Now()
	l.status.Store(&s)
}

// releaseGrace bounds how long a lane that must go tries to commit what it has.
const releaseGrace = 10 * time.Second

// Run owns the lane until ctx ends, then commits what it holds and releases. It returns nil when ctx ended, or
// store.ErrFenced when another owner took the lane while the claim seemed to be ours: the caller asks the coordinator.
// A lane that cannot go on parks until ctx ends or the operator decides.
func (l *Lane) Run(ctx context.Context) error {
	l.share = l.deps.Budget.Join()
	defer l.share.Leave()
	for {
		err := l.life(ctx)
		var inc *Incident
		switch {
		case errors.Is(err, store.ErrFenced):
			return err
		case errors.As(err, &inc):
			l.park(inc, nil)
			select {
			case <-l.wake:
			case <-ctx.Done():
				return nil
			}
		case (errors.Is(err, errDecided) || errors.Is(err, errNotWhole)) && ctx.Err() == nil:
		case ctx.Err() == nil:
			return err
		default:
			return nil
		}
	}
}

// life is one acquisition and what follows it.
func (l *Lane) life(ctx context.Context) error {
	l.acquisition, l.token = newAcquisition(l.id), ""
	start, err := l.acquire(ctx)
	var inc *Incident
	switch {
	case errors.As(err, &inc):
		l.concluded(OutcomeParked)
		return err
	case err != nil:
		l.concluded(OutcomeGone)
		return err
	}
	l.concluded(OutcomeResumed)
	l.reader = l.deps.Open(source.ReaderConfig{
		Topic: l.tp.Topic, Partition: l.tp.Partition, Offset: start, TopicID: l.state.TopicID(),
		FetchBytes: l.program.Spec.Lane.FetchBytes, FetchBatches: l.program.Spec.Lane.FetchBatches,
	})
	defer l.reader.Close()
	return l.loop(ctx)
}

// park reports an incident with the operator's choices. An incident of a lane that had resumed is told to the gate: it
// belongs to no acquisition whose outcome anybody waits for.
func (l *Lane) park(inc *Incident, at *position) {
	if inc.ID == "" {
		l.offer(inc, at, l.state)
	}
	l.deps.Log.Error("lane parked", "lane", l.id.String(), "incident", inc.Kind, "from", inc.From, "to", inc.To, "detail", inc.Detail)
	l.now.State, l.now.Reason, l.now.Incident, l.now.Owner = StateParked, inc.Kind, inc, l.token
	l.publish()
	if _, outcome := l.acquisition.Results(); outcome == OutcomeResumed && l.deps.Gate != nil {
		l.deps.Gate.Parked(Parking{Lane: l.id, Token: l.token, Incident: inc, Committed: l.now.Committed, LogEnd: l.now.End})
	}
}

// acquire takes ownership, restores the state and verifies the position. It tries until it succeeds, finds an incident,
// or ctx ends; it returns the offset to read from.
func (l *Lane) acquire(ctx context.Context) (int64, error) {
	wait := 50 * time.Millisecond
	for {
		start, err := l.tryAcquire(ctx)
		var inc *Incident
		if err == nil || ctx.Err() != nil || errors.As(err, &inc) || errors.Is(err, store.ErrFenced) {
			return start, err
		}
		l.now.Reason = withoutLane(err)
		l.publish()
		l.deps.Log.Warn("lane not acquired, trying again", "lane", l.id.String(), "in", wait, "error", err)
		if !pause(ctx, wait) {
			return 0, ctx.Err()
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// tryAcquire goes through the steps once.
func (l *Lane) tryAcquire(ctx context.Context) (int64, error) {
	l.now.State, l.now.Incident = StateAcquiring, nil
	l.publish()
	l.state, l.loss, l.unowned = nil, nil, ""
	var meta store.Meta
	err := l.step(ctx, StepAcquire, func(res *StepResult) (err error) {
		if meta, err = l.takeOver(ctx); lossKind(err) != "" {
			meta, err = l.leaveUntouched(ctx, err)
		}
		if err != nil {
			return err
		}
		res.From, res.Committed = l.previous.Epoch(), meta.Offset
		// Read after the lane was taken: at least what its last owner followed, so that a pause holds over a move.
		ctl, err := l.deps.Store.PipelineCtl(ctx, l.id.Pipeline)
		if err != nil {
			return lossIncident(err)
		}
		l.deps.Desired.Set(ctl)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := l.step(ctx, StepJournal, func(res *StepResult) error { return l.bringHome(ctx, &meta, res) }); err != nil {
		return 0, err
	}
	l.now.State = StateRestoring
	l.publish()
	if err := l.step(ctx, StepRestore, func(res *StepResult) error { return l.restore(ctx, res) }); err != nil {
		return 0, err
	}
	var at *position
	err = l.step(ctx, StepVerify, func(res *StepResult) (err error) {
		at, err = l.verify(ctx, meta, res)
		return err
	})
	if err != nil {
		return 0, err
	}
	start := l.state.Offset()
	err = l.step(ctx, StepResume, func(res *StepResult) error {
		res.Start, res.Entries, res.Slices = start, int64(l.state.Entries()), l.state.Slices()
		l.now.Owner, l.now.Committed, l.now.Reason = l.token, start, ""
		l.now.End = at.ends.HighWatermark
		l.hinted, l.hintText = start, l.state.Replay().String()
		l.claim.ResetHint(start, l.hintText)
		l.deps.Log.Info("lane resumes", "lane", l.id.String(), "owner", l.token, "offset", start,
			"entries", l.state.Entries(), "slices", l.state.Slices())
		return nil
	})
	return start, err
}

// takeOver takes the lane for this acquisition. A try that was given up later goes on under its token: a journal knows whom
// the lane was taken from, not how often it was tried.
func (l *Lane) takeOver(ctx context.Context) (store.Meta, error) {
	if l.token != "" {
		meta, found, err := l.deps.Store.ReadMeta(ctx, l.id)
		if err != nil {
			return meta, err
		}
		if found && meta.Owner == l.token {
			return meta, nil
		}
	}
	before, meta, err := l.take(ctx)
	if err == nil {
		l.previous = before
	}
	return meta, err
}

// leaveUntouched goes on, without a token, with a lane whose state cannot be used for loss: it is found out what an operator
// can decide, and the state becomes this lane's when it is replaced. What can be read of its meta is returned.
func (l *Lane) leaveUntouched(ctx context.Context, loss error) (store.Meta, error) {
	owner, err := l.deps.Store.ReadOwner(ctx, l.id)
	if err != nil {
		return store.Meta{}, err
	}
	l.loss, l.unowned, l.previous = loss, owner, owner
	meta, found, err := l.deps.Store.ReadMeta(ctx, l.id)
	switch {
	case lossKind(err) != "" || err == nil && !found:
		return store.Meta{Offset: store.NotStarted}, nil
	case err == nil && meta.Owner != owner:
		return meta, store.ErrOwnerChanged
	}
	return meta, err
}

// bringHome applies the journal of the last owner to Redis.
func (l *Lane) bringHome(ctx context.Context, meta *store.Meta, res *StepResult) error {
	res.From, res.Committed = l.previous.Epoch(), meta.Offset
	if l.deps.Journal == nil || l.loss != nil {
		return nil
	}
	r, err := l.deps.Journal.Resume(ctx, l.deps.Store, deliver.Fitting(l.deps.Side), l.id, l.program.StateID, l.previous, l.token, meta.Cursor)
	if lossKind(err) != "" { // what the journal holds is read from Kafka again
		l.loss = err
		return nil
	}
	if err != nil {
		return err
	}
	res.Entries, res.Bytes = r.Entries, r.Bytes
	if r.Outcome == report.ChainNone {
		return nil
	}
	res.Journal = &r
	l.deps.Log.Info("lane resumes its journal", "lane", l.id.String(), "outcome", r.Outcome, "chain", r.Chain, "commits", r.Commits,
		"entries", r.Entries, "bytes", r.Bytes, "to", r.To, "superseded", r.SupersededCommits(), "reason", r.Reason)
	now, _, err := l.deps.Store.ReadMeta(ctx, l.id)
	if err != nil {
		return err
	}
	if now.Owner != l.token {
		return store.ErrFenced
	}
	*meta = now
	res.Committed = now.Offset
	return nil
}

// restore builds memory from Redis.
func (l *Lane) restore(ctx context.Context, res *StepResult) error {
	if l.loss != nil {
		return nil
	}
	state, sum, err := Restore(ctx, l.deps.Store, l.program, l.id, l.token)
	if lossKind(err) != "" {
		l.loss, err = err, nil // the operator decides when it is known what brings it back
	}
	if err != nil {
		return err
	}
	if state == nil {
		return nil
	}
	l.state, l.now.Restored = state, &sum
	res.Committed, res.Slices, res.Entries, res.Bytes = state.Offset(), sum.Slices, int64(sum.Entries), sum.Bytes
	return nil
}

// verify finds where to read on, and carries out what the operator decided about it.
func (l *Lane) verify(ctx context.Context, meta store.Meta, res *StepResult) (*position, error) {
	for {
		if l.state != nil && l.state.Cursor() != meta.Cursor {
			return nil, fmt.Errorf("restore lane %s: %w: at %s, not %s", l.id, store.ErrLostWrites, l.state.Cursor(), meta.Cursor)
		}
		at, err := l.locate(ctx, meta)
		if err != nil {
			return nil, err
		}
		res.Committed, res.LogStart, res.LogEnd = meta.Offset, at.ends.Start, at.ends.HighWatermark
		start, inc := at.verify()
		if inc == nil && l.state != nil {
			inc = jumpIncident(l.state)
		}
		d := l.due(inc, meta)
		if inc != nil && d == nil {
			l.offer(inc, at, l.state)
			l.state = nil
			return nil, inc
		}
		if d != nil {
			if meta, err = l.carryOut(ctx, d, at, l.state); err != nil {
				return nil, lossIncident(err)
			}
			l.settled(*d)
			res.Decision = d
			l.deps.Log.Warn("lane goes on as decided", "lane", l.id.String(), "choice", d.Choice, "by", d.By, "offset", d.Start, "lost", d.Lost)
			if l.loss, l.unowned = nil, ""; at.unusable() {
				l.previous = l.token // a journal of an owner before belongs to what was replaced
				if err := l.bringHome(ctx, &meta, res); err != nil {
					return nil, err
				}
			}
			if err := l.restore(ctx, res); err != nil {
				return nil, err
			}
			continue
		}
		l.state.ReadFrom(at.topicID, start)
		if at.fresh() {
			if err := l.proveWanted(ctx); err != nil {
				return nil, err
			}
			if err := l.bind(ctx, l.state); err != nil {
				return nil, err
			}
		}
		res.Start, res.Reread = start, max(0, l.state.ReadBefore()-start)
		return at, nil
	}
}

// hint lets the group's offset follow a commit. A seal that was adopted where nothing was read moves the metadata alone.
func (l *Lane) hint(offset int64, text string) {
	l.claim.MarkHint(offset, text)
	if offset == l.hinted && text != l.hintText {
		l.claim.ResetHint(offset, text)
	}
	l.hinted, l.hintText = offset, text
}

// bind makes a lane that starts from nothing respect windows that are final already, before it reads its first record.
func (l *Lane) bind(ctx context.Context, s *fold.State) error {
	ctl, err := l.deps.Store.ReadCtl(ctx, l.id)
	if err != nil {
		return err
	}
	s.BindFinal(ctl[0].DropBefore)
	return nil
}

// take writes a new owner token over the one that was read, which it returns with the lane's meta. A lane that Redis did not
// know is given back unless this process is a member of the group.
func (l *Lane) take(ctx context.Context) (before store.Token, meta store.Meta, err error) {
	read, found, err := l.deps.Store.ReadMeta(ctx, l.id)
	if err != nil {
		return "", store.Meta{}, err
	}
	token := store.NextToken(read.Owner)
	meta, _, err = l.deps.Store.Acquire(ctx, l.id, l.program.StateID, read.Owner, token)
	if err != nil {
		return "", store.Meta{}, err
	}
	if !found || read.Owner == l.unproved {
		if err := l.proveMember(ctx, token); err != nil {
			return "", store.Meta{}, err
		}
	}
	l.token = token
	return read.Owner, meta, nil
}

// locate asks the broker and the group where the lane's log and hint stand.
func (l *Lane) locate(ctx context.Context, meta store.Meta) (*position, error) {
	at, err := l.standing(ctx)
	if err != nil {
		return nil, err
	}
	at.meta, at.loss = meta, l.loss
	if at.fresh() || at.loss != nil {
		hints, err := l.deps.Cluster.Committed(ctx, l.deps.Group, l.tp)
		if err != nil {
			return nil, fmt.Errorf("ask for the offsets of group %s: %w", l.deps.Group, err)
		}
		if hint, ok := hints[l.tp]; ok {
			at.hint = hint
		}
		if at.hint.Offset < 0 && l.deps.Ledger != nil {
			if at.ledger, err = l.deps.Ledger.Published(ctx, l.id, at.topicID); err != nil {
				return nil, fmt.Errorf("ask the ledger for lane %s: %w", l.id, err)
			}
		}
	}
	return at, nil
}

// standing asks the broker for the bounds of the lane's log and the id of the topic they belong to. Bounds are asked for
// by name, so the id is asked for before and after: only when both answers agree are these the bounds of that topic.
func (l *Lane) standing(ctx context.Context) (*position, error) {
	at := &position{topicRef: l.tp, hint: source.Committed{Offset: -1}}
	before, err := l.deps.Cluster.TopicID(ctx, l.tp.Topic)
	if err != nil {
		return nil, fmt.Errorf("ask the broker for the id of topic %s: %w", l.tp.Topic, err)
	}
	ends, err := l.deps.Cluster.Ends(ctx, l.tp)
	if err != nil {
		return nil, fmt.Errorf("ask the broker for the ends of %s: %w", l.tp, err)
	}
	if at.topicID, err = l.deps.Cluster.TopicID(ctx, l.tp.Topic); err != nil {
		return nil, fmt.Errorf("ask the broker for the id of topic %s: %w", l.tp.Topic, err)
	}
	if before != at.topicID {
		return nil, fmt.Errorf("topic %s was made again while it was asked about: its id was %s and is %s", l.tp.Topic, before, at.topicID)
	}
	at.ends = ends[l.tp]
	return at, nil
}
