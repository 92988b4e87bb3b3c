package lane

import (
	"context"
	"fmt"
	"slices"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Holder holds a lane for one process: it takes the lane over, builds its state, finds where to read on, carries out what an
// operator decided, and takes the lane anew when Redis forgot it. It starts nothing, and waits for nothing but the calls it
// makes. One goroutine at a time may use it, in a worker that of the lane.
type Holder struct {
	deps      *Deps
	program   *fold.Program
	claim     source.Claim
	id        store.LaneID
	tp        source.TopicPartition
	decisions *Decisions

	token    store.Token   // "" before this acquisition has taken one
	tried    []store.Token // that this acquisition has tried to write: Redis may have them, whatever it answered
	previous store.Token   // whom it was taken from
	unproved store.Token   // of a meta that this lane has created and not been able to prove or to take back
	state    *fold.State
	restored *fold.Restored // what the last restore read
	loss     error          // why the state in Redis cannot be used, as this acquisition found
	unowned  store.Token    // whose such a state is, when this lane could not become its owner
	hinted   int64          // group offset as this lane left it, and its metadata
	hintText string
}

// NewHolder returns the holder of a claimed lane. It touches nothing yet.
func NewHolder(deps *Deps, program *fold.Program, claim source.Claim, decisions *Decisions) *Holder {
	return &Holder{
		deps: deps, program: program, claim: claim, decisions: decisions,
		id: store.LaneID{Pipeline: program.Spec.Name, Topic: claim.Topic(), Partition: claim.Partition()},
		tp: source.TopicPartition{Topic: claim.Topic(), Partition: claim.Partition()},
	}
}

// Token is the owner token that the lane was taken under last, "" before the first.
func (h *Holder) Token() store.Token { return h.token }

// State is the lane's state, nil while there is none.
func (h *Holder) State() *fold.State { return h.state }

// Begin begins a new acquisition, which will take a new token.
func (h *Holder) Begin() { h.token, h.tried = "", nil }

// isOwn reports whether a token may have been written by this acquisition.
func (h *Holder) isOwn(t store.Token) bool { return t == h.token || slices.Contains(h.tried, t) }

// JumpIncident is the incident of a lane that has refused too many jumps, with what an operator may do; committed is the
// lane's offset in Redis. It is nil when the lane has not.
func (h *Holder) JumpIncident(committed int64) *report.Incident {
	inc := jumpIncident(h.state)
	if inc != nil {
		h.offer(inc, nil, h.state, committed)
	}
	return inc
}

// StepRunner runs one step of an acquisition.
type StepRunner func(ctx context.Context, step string, fn func(*StepResult) error) error

// AtOnce runs a step without waiting for anybody.
func AtOnce(_ context.Context, _ string, fn func(*StepResult) error) error {
	return fn(new(StepResult))
}

// Acquire goes through the steps once, under the token of an earlier try if that still owns the lane. It returns the bounds
// of the log that the lane reads on from, at State().Offset(). An *Incident stands until the operator decides; after any
// other error but store.ErrFenced it may be tried again.
func (h *Holder) Acquire(ctx context.Context, run StepRunner) (source.Ends, error) {
	h.state, h.loss, h.unowned = nil, nil, ""
	var meta store.Meta
	err := run(ctx, report.StepAcquire, func(res *StepResult) (err error) {
		if meta, err = h.takeOver(ctx); lossKind(err) != "" {
			meta, err = h.leaveUntouched(ctx, err)
		}
		if err != nil {
			return err
		}
		res.From, res.Committed = h.previous.Epoch(), meta.Offset
		// Read after the lane was taken: at least what its last owner followed, so that a pause holds over a move.
		ctl, err := h.deps.Store.PipelineCtl(ctx, h.id.Pipeline)
		if err != nil {
			return lossIncident(err)
		}
		h.deps.Desired.Set(ctl)
		return nil
	})
	if err != nil {
		return source.Ends{}, err
	}
	if err := run(ctx, report.StepJournal, func(res *StepResult) error { return h.bringHome(ctx, &meta, res) }); err != nil {
		return source.Ends{}, err
	}
	if err := run(ctx, report.StepRestore, func(res *StepResult) error { return h.restoreState(ctx, res) }); err != nil {
		return source.Ends{}, err
	}
	var at *position
	err = run(ctx, report.StepVerify, func(res *StepResult) (err error) {
		at, err = h.verifyPosition(ctx, meta, res)
		return err
	})
	if err != nil {
		return source.Ends{}, err
	}
	err = run(ctx, report.StepResume, func(res *StepResult) error {
		start := h.state.Offset()
		res.Start, res.Entries, res.Slices = start, int64(h.state.Entries()), h.state.Slices()
		h.hinted, h.hintText = start, h.state.Replay().String()
		h.claim.ResetHint(start, h.hintText)
		h.deps.Log.InfoContext(ctx, "lane resumes", "lane", h.id.String(), "owner", h.token, "offset", start,
			"entries", h.state.Entries(), "slices", h.state.Slices())
		return nil
	})
	return at.ends, err
}

// takeOver takes the lane for this acquisition. A try that was given up later goes on under its token: a journal knows whom
// the lane was taken from, not how often it was tried.
func (h *Holder) takeOver(ctx context.Context) (store.Meta, error) {
	if h.token != "" {
		meta, found, err := h.deps.Store.ReadMeta(ctx, h.id)
		if err != nil {
			return meta, err
		}
		if found && meta.Owner == h.token {
			return meta, nil
		}
	}
	before, meta, err := h.writeToken(ctx)
	if err == nil {
		h.previous = before
	}
	return meta, err
}

// writeToken writes a new owner token over the one that was read, which it returns with the lane's meta. A lane that Redis did not
// know is given back unless this process is a member of the group.
func (h *Holder) writeToken(ctx context.Context) (before store.Token, meta store.Meta, err error) {
	read, found, err := h.deps.Store.ReadMeta(ctx, h.id)
	if err != nil {
		return "", store.Meta{}, err
	}
	token := h.deps.nextToken(read.Owner)
	h.tried = append(h.tried, token)
	meta, _, err = h.deps.Store.Acquire(ctx, h.id, h.program.StateID, read.Owner, token)
	if err != nil {
		return "", store.Meta{}, err
	}
	if !found || read.Owner == h.unproved {
		if err := h.proveMember(ctx, token); err != nil {
			return "", store.Meta{}, err
		}
	}
	h.token = token
	return read.Owner, meta, nil
}

// leaveUntouched goes on, without a token, with a lane whose state cannot be used for loss: it is found out what an operator
// can decide, and the state becomes this lane's when it is replaced. What can be read of its meta is returned.
func (h *Holder) leaveUntouched(ctx context.Context, loss error) (store.Meta, error) {
	owner, err := h.deps.Store.ReadOwner(ctx, h.id)
	if err != nil {
		return store.Meta{}, err
	}
	h.loss, h.unowned, h.previous = loss, owner, owner
	meta, found, err := h.deps.Store.ReadMeta(ctx, h.id)
	switch {
	case lossKind(err) != "" || err == nil && !found:
		return store.Meta{Offset: store.NotStarted}, nil
	case err == nil && meta.Owner != owner:
		return meta, store.ErrOwnerChanged
	}
	return meta, err
}

// bringHome applies the journal of the last owner to Redis.
func (h *Holder) bringHome(ctx context.Context, meta *store.Meta, res *StepResult) error {
	res.From, res.Committed = h.previous.Epoch(), meta.Offset
	if h.deps.Journal == nil || h.loss != nil {
		return nil
	}
	r, err := h.deps.Journal.Resume(ctx, h.deps.Store, deliver.Fitting(h.deps.Side), h.id, h.program.StateID, h.previous, h.token, meta.Cursor)
	if lossKind(err) != "" { // what the journal holds is read from Kafka again
		h.loss = err
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
	h.deps.Log.InfoContext(ctx, "lane resumes its journal", "lane", h.id.String(), "outcome", r.Outcome, "chain", r.Chain, "commits", r.Commits,
		"entries", r.Entries, "bytes", r.Bytes, "to", r.To, "superseded", r.SupersededCommits(), "reason", r.Reason)
	if r.Calls == 0 {
		return nil // the meta is what it was
	}
	now, _, err := h.deps.Store.ReadMeta(ctx, h.id)
	if err != nil {
		return err
	}
	if now.Owner != h.token {
		return store.ErrFenced
	}
	*meta = now
	res.Committed = now.Offset
	return nil
}

// restoreState builds memory from Redis.
func (h *Holder) restoreState(ctx context.Context, res *StepResult) error {
	if h.loss != nil {
		return nil
	}
	state, sum, err := Restore(ctx, h.deps.Store, h.program, h.id, h.token)
	if lossKind(err) != "" {
		h.loss, err = err, nil // the operator decides when it is known what brings it back
	}
	if err != nil {
		return err
	}
	if state == nil {
		return nil
	}
	h.state, h.restored = state, &sum
	res.Committed, res.Slices, res.Entries, res.Bytes = state.Offset(), sum.Slices, int64(sum.Entries), sum.Bytes
	return nil
}

// verifyPosition finds where to read on, and carries out what the operator decided about it.
func (h *Holder) verifyPosition(ctx context.Context, meta store.Meta, res *StepResult) (*position, error) {
	for {
		if h.state != nil && h.state.Cursor() != meta.Cursor {
			return nil, fmt.Errorf("restore lane %s: %w: at %s, not %s", h.id, store.ErrLostWrites, h.state.Cursor(), meta.Cursor)
		}
		at, err := h.locate(ctx, meta)
		if err != nil {
			return nil, err
		}
		res.Committed, res.LogStart, res.LogEnd = meta.Offset, at.ends.Start, at.ends.HighWatermark
		start, inc := at.check()
		if inc == nil && h.state != nil {
			inc = jumpIncident(h.state)
		}
		d := h.decisions.due(inc, meta)
		if inc != nil && d == nil {
			if err := h.proveOwner(ctx); err != nil {
				return nil, err
			}
			h.offer(inc, at, h.state, meta.Offset)
			h.state = nil
			return nil, inc
		}
		if d != nil {
			if meta, err = h.carryOut(ctx, d, at, h.state); err != nil {
				return nil, lossIncident(err)
			}
			h.decisions.record(*d)
			res.Decision = d
			h.deps.Log.WarnContext(ctx, "lane goes on as decided", "lane", h.id.String(), "choice", d.Choice, "by", d.By, "offset", d.Start, "lost", d.Lost)
			if h.loss, h.unowned = nil, ""; at.unusable() {
				h.previous = h.token // a journal of an owner before belongs to what was replaced
				if err := h.bringHome(ctx, &meta, res); err != nil {
					return nil, err
				}
			}
			if err := h.restoreState(ctx, res); err != nil {
				return nil, err
			}
			continue
		}
		h.state.ReadFrom(at.topicID, start)
		if at.fresh() {
			if err := h.proveWanted(ctx); err != nil {
				return nil, err
			}
			if err := h.bindFinal(ctx); err != nil {
				return nil, err
			}
		}
		res.Start, res.Reread = start, max(0, h.state.ReadBefore()-start)
		return at, nil
	}
}

// bindFinal makes a lane that starts from nothing respect windows that are final already, before it reads its first record.
func (h *Holder) bindFinal(ctx context.Context) error {
	ctl, err := h.deps.Store.ReadCtl(ctx, h.id)
	if err != nil {
		return err
	}
	h.state.BindFinal(ctl[0].DropBefore)
	return nil
}
