package lane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// What an operator may choose for a parked lane.
const (
	ChoiceWait    = "wait"    // stay parked
	ChoiceSkip    = "skip"    // go on behind the records that are gone
	ChoiceRebuild = "rebuild" // read again from where the oldest open slice began
	ChoiceRestart = "restart" // begin at the log's start with nothing
	ChoiceRetry   = "retry"   // try again, giving nothing up
	ChoiceAccept  = "accept"  // take the next event that jumps
	ChoiceRefuse  = "refuse"  // go on refusing events that jump
)

// Unknown is a cost that nobody can tell.
const Unknown = -1

// Choice is one way out of an incident and what it costs.
type Choice struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Lost   int64  `json:"lost"`   // records, Unknown when nobody can tell
	Reread int64  `json:"reread"` // offsets that are read again
	Exact  bool   `json:"exact"`  // but for Lost the lane ends as one that was never disturbed
}

// Decision is an operator's answer to an incident.
type Decision struct {
	Incident string    `json:"incident"` // its id
	Kind     string    `json:"kind"`
	Choice   string    `json:"choice"`
	From     int64     `json:"from"` // of the incident
	To       int64     `json:"to"`
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at"`
	Lost     int64     `json:"lost"`           // as it turned out
	Start    int64     `json:"start"`          // where reading goes on, -1 while that is open
	Void     string    `json:"void,omitempty"` // why it was not carried out
}

var (
	// ErrNotParked refuses a decision about a lane that waits for none.
	ErrNotParked = errors.New("lane is not parked")
	// ErrOtherIncident refuses a decision about an incident that is not the lane's.
	ErrOtherIncident = errors.New("lane is parked for another incident")
	// ErrUnknownChoice refuses what is not among the incident's choices.
	ErrUnknownChoice = errors.New("unknown choice")
	// ErrDecided refuses a second, different decision about an incident.
	ErrDecided = errors.New("incident is decided already")

	errDecided  = errors.New("the operator has decided")
	errNotWhole = errors.New("the lane's state is not whole")
)

// keptDecisions is how many decisions a lane remembers.
const keptDecisions = 10

// Decide answers the incident that the lane is parked for; incident is its id or the lane's owner token. The lane carries
// the decision out in its own goroutine. Errors do not name choice and lane: who asks knows both. Repeating a decision
// changes nothing. It may be called from any goroutine.
func (l *Lane) Decide(incident, choice, by string) error {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	if last := l.lastDecision(); last != nil && last.Choice != ChoiceWait && (incident == last.Incident || incident == string(l.decidedUnder)) {
		if last.Choice == choice {
			return nil
		}
		return fmt.Errorf("%w: %s by %q", ErrDecided, last.Choice, last.By)
	}
	s := l.status.Load()
	inc := s.Incident
	switch {
	case s.State != StateParked || inc == nil:
		return fmt.Errorf("%w, it is %s", ErrNotParked, s.State)
	case incident != inc.ID && (s.Owner == "" || incident != string(s.Owner)):
		return fmt.Errorf("%w: %s, not %q", ErrOtherIncident, inc.ID, incident)
	}
	names := make([]string, len(inc.Choices))
	for i, c := range inc.Choices {
		names[i] = c.Name
		if c.Name != choice {
			continue
		}
		if n := len(l.decisions); n == keptDecisions {
			l.decisions = append(l.decisions[:0:0], l.decisions[1:]...)
		}
		l.decisions = append(l.decisions[:len(l.decisions):len(l.decisions)], Decision{
			Incident: inc.ID, Kind: inc.Kind, Choice: choice, From: inc.From, To: inc.To, By: by, At: time.Now(), Lost: c.Lost, Start: -1,
		})
		l.decidedUnder = s.Owner
		l.deps.Log.Info("operator decided", "lane", l.id.String(), "incident", inc.ID, "choice", choice, "by", by)
		if choice != ChoiceWait {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
		return nil
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: incident %s leaves none", ErrUnknownChoice, inc.Kind)
	}
	return fmt.Errorf("%w %q; want one of %s", ErrUnknownChoice, choice, strings.Join(names, ", "))
}

func (l *Lane) lastDecision() *Decision {
	if n := len(l.decisions); n > 0 {
		return &l.decisions[n-1]
	}
	return nil
}

// open returns the decision that waits to be carried out, nil when there is none.
func (l *Lane) open() *Decision {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	if last := l.lastDecision(); last != nil && last.Choice != ChoiceWait && last.Start < 0 && last.Void == "" {
		d := *last
		return &d
	}
	return nil
}

// settled records what became of the open decision.
func (l *Lane) settled(d Decision) {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	l.decisions = append(l.decisions[:len(l.decisions)-1:len(l.decisions)-1], d)
}

// due returns the open decision if it is to be carried out now, at an acquisition that found inc and meta. A decision that there
// is nothing to do about is settled: its incident is gone, or it was to try again and that has been done.
func (l *Lane) due(inc *Incident, meta store.Meta) *Decision {
	d := l.open()
	switch {
	case d == nil:
		return nil
	case d.Choice == ChoiceRetry && inc == nil:
		d.Lost, d.Start = 0, max(0, meta.Offset)
	case d.Choice == ChoiceRetry:
		d.Void = "it was tried again, and the cause is still there"
	case inc != nil && inc.Kind == d.Kind:
		return d
	case inc == nil && d.skipsUnreadable() && meta.Offset < d.From:
		return nil // the lane reads up to there first
	case inc == nil && d.skipsUnreadable() && meta.Offset < d.To:
		return d
	default:
		d.Void = "the incident is gone"
	}
	l.settled(*d)
	return nil
}

// skipsUnreadable reports whether the decision gives up records that the reader cannot decode.
func (d *Decision) skipsUnreadable() bool {
	return d.Kind == IncidentUndecoded && d.Choice == ChoiceSkip
}

// replayOf is how the state comes back: by what is left of it outside its slices when these are gone.
func replayOf(d *Decision, at *position, s *State) (Replay, error) {
	if d.Kind == IncidentTruncated {
		return s.Replay(), nil
	}
	r, err := at.comeBack()
	if d.Kind == IncidentOtherSpec {
		r = r.underAnotherSpec()
	}
	return r, err
}

// rewriting fills the meta of a lane that goes on at another offset, given the meta that is there. purge drops all slices.
type rewriting func(meta store.Meta, next *store.MetaUpdate) (purge bool, err error)

// carryOut rewrites the lane in Redis as the operator decided, in one call: before it the incident stands, after it the
// lane is one that goes on at another offset. It returns the new meta.
func (l *Lane) carryOut(ctx context.Context, d *Decision, at *position, s *State) (store.Meta, error) {
	fn, err := l.rewritingFor(ctx, d, at, s)
	if err != nil {
		return store.Meta{}, err
	}
	meta, err := l.write(ctx, at, fn)
	d.Start = meta.Offset
	return meta, err
}

// rewritingFor returns the rewriting that carries a decision out. What it costs stands in the decision once it has run.
func (l *Lane) rewritingFor(ctx context.Context, d *Decision, at *position, s *State) (rewriting, error) {
	era := d.At.UnixMilli()
	switch d.Choice {
	case ChoiceRebuild:
		r, err := replayOf(d, at, s)
		r.TopicID = at.topicID
		return rebuildFrom(r, at.ends, era, at.unusable()), err
	case ChoiceAccept, ChoiceRefuse:
		return s.answering(d.Choice), nil
	case ChoiceSkip:
		to := at.ends.Start
		if d.skipsUnreadable() {
			to = d.To
		}
		return func(meta store.Meta, next *store.MetaUpdate) (purge bool, err error) {
			d.Lost = s.skip(next, meta, to, era)
			return false, nil
		}, nil
	}
	ctl, err := l.deps.Store.ReadCtl(ctx, l.id)
	if err != nil {
		return nil, err
	}
	return func(meta store.Meta, next *store.MetaUpdate) (purge bool, err error) {
		if d.Kind == IncidentOtherLog && s != nil {
			d.Lost = s.folded()
		}
		next.Offset, next.TopicID, next.Era = at.ends.Start, at.topicID, era
		next.Sealed = ctl[0].DropBefore // windows that are final bind a lane that starts from nothing
		next.Counters.Skipped = meta.Counters.Skipped + max(0, d.Lost)
		return true, nil
	}, nil
}

// write carries a rewriting out: as a call of the lane's chain, or in place of a state that cannot be used.
func (l *Lane) write(ctx context.Context, at *position, fn rewriting) (store.Meta, error) {
	if !at.unusable() {
		return rewrite(ctx, l.deps.Store, l.program, l.id, l.token, fn)
	}
	before, next := l.token, l.token
	if before == "" {
		before, next = l.unowned, store.NextToken(l.unowned)
	}
	meta, err := replace(ctx, l.deps.Store, l.program, l.id, before, next, at.meta, fn)
	if errors.Is(err, store.ErrOwnerChanged) && l.token != "" {
		err = errors.Join(store.ErrFenced, err)
	}
	if err == nil {
		l.token = next
	}
	return meta, err
}

// Rebuild makes a lane that is owned by owner read again from where r says, in one call: whatever stands there is dropped.
// It returns the new meta. era is the time of the decision in ms: the lane gets it as its new past if r does not bring
// back exactly the old one.
func Rebuild(ctx context.Context, st Store, p *Program, id store.LaneID, owner store.Token, r Replay, ends source.Ends, era int64) (store.Meta, error) {
	return rewrite(ctx, st, p, id, owner, rebuildFrom(r, ends, era, false))
}

// Replace is Rebuild for a lane whose state cannot be used. The owner that was read becomes next. known is what can be read
// of the meta. The lane always gets a new past: what was decided after r was written down may be missing in it.
func Replace(ctx context.Context, st Store, p *Program, id store.LaneID, owner, next store.Token, known store.Meta,
	r Replay, ends source.Ends, era int64) (store.Meta, error) {
	return replace(ctx, st, p, id, owner, next, known, rebuildFrom(r, ends, era, true))
}

// rebuildFrom is the rewriting of a rebuild. newPast is for what may not come back exactly as it was, whatever r says.
func rebuildFrom(r Replay, ends source.Ends, era int64, newPast bool) rewriting {
	return func(_ store.Meta, next *store.MetaUpdate) (bool, error) {
		next.TopicID, next.Era = r.TopicID, era
		if !newPast && r.Exact() && r.Decided <= ends.HighWatermark {
			next.Era = r.Era
		}
		next.Decided = min(r.Decided, ends.HighWatermark) // what the log does not reach any more is decided by none that is still there
		next.Offset, next.Counters.Skipped = ends.Start, r.Basis.Counters.Skipped
		if r.From > ends.HighWatermark {
			return true, nil // no slice began in what is left: all of it is read again
		}
		next.Offset, next.Watermark, next.Sealed, next.Counters = r.From, r.Basis.Watermark, r.Basis.Sealed, r.Basis.Counters
		for _, x := range r.Seals {
			if x.Offset <= next.Decided {
				next.Seals = append(next.Seals, x)
			}
		}
		next.Accepted, next.Begun = r.Accepted, r.Begun
		return true, nil
	}
}

// emptied returns the update that fn makes of a lane, found empty but for what has nothing to do with the log.
func emptied(meta store.Meta, fn rewriting) (next store.MetaUpdate, purge bool, err error) {
	next = store.MetaUpdate{
		Watermark: none, MaxTime: none, Sealed: none, IdleEnd: store.NotIdle,
		CtlGen: meta.CtlGen, SpecGen: meta.SpecGen, UpdatedAt: time.Now().UnixMilli(),
	}
	if purge, err = fn(meta, &next); err != nil {
		return next, purge, err
	}
	next.Whole, next.Balance.Known = true, true
	if purge {
		next.Balance.Dropped = next.Counters.Folded
	}
	return next, purge, nil
}

// rewrite replaces a lane's meta, and drops all its slices if fn says so.
func rewrite(ctx context.Context, st Store, p *Program, id store.LaneID, owner store.Token, fn rewriting) (store.Meta, error) {
	meta, stats, err := st.LaneView(ctx, id, p.StateID)
	if err != nil {
		return meta, err
	}
	if meta.Owner != owner {
		return meta, store.ErrFenced
	}
	next, purge, err := emptied(meta, fn)
	if err != nil {
		return meta, err
	}
	call := store.Call{Prev: meta.Cursor, Next: meta.Cursor.NextCommit(), Buckets: p.Spec.Lane.Buckets, Meta: &next}
	if purge {
		for _, stat := range stats {
			call.Purge = append(call.Purge, stat.SliceID)
		}
	}
	if _, err := st.Apply(ctx, id, p.StateID, owner, []store.Call{call}); err != nil {
		return meta, err
	}
	meta, found, err := st.ReadMeta(ctx, id)
	switch {
	case err != nil:
	case !found || meta.Owner != owner:
		err = store.ErrFenced
	case meta.Cursor.Less(call.Next):
		err = store.ErrLostWrites // forgotten already: the decision is still to be carried out
	}
	return meta, err
}

// replace is rewrite for a lane whose state cannot be used: nothing of it stays.
func replace(ctx context.Context, st Store, p *Program, id store.LaneID, owner, token store.Token, known store.Meta, fn rewriting,
) (store.Meta, error) {
	next, _, err := emptied(known, fn)
	if err != nil {
		return known, err
	}
	return st.Replace(ctx, id, p.StateID, owner, token, p.Spec.Lane.Buckets, &next)
}

// keep fills next with what meta says, but for the offset and the slices.
func (s *State) keep(next *store.MetaUpdate, meta store.Meta) {
	*next = store.MetaUpdate{
		Watermark: meta.Watermark, MaxTime: meta.MaxTime, Sealed: meta.Sealed, IdleEnd: store.NotIdle,
		Counters: meta.Counters, TopicID: meta.TopicID, CtlGen: meta.CtlGen, SpecGen: meta.SpecGen, UpdatedAt: next.UpdatedAt,
		Seals: meta.Seals, Era: meta.Era, Decided: meta.Decided, Jumps: meta.Jumps, Accepted: meta.Accepted, Begun: meta.Begun,
		Balance: store.Balance{Dropped: s.dropped},
	}
}

// skip moves a lane's meta on to start, or behind it when entries were written up to there. Entries that a commit left
// which never ended hold records that cannot be read again: they count as read now. It returns how many records are lost.
func (s *State) skip(next *store.MetaUpdate, meta store.Meta, start, era int64) (lost int64) {
	start = max(start, s.ahead)
	s.keep(next, meta)
	next.Offset = start
	if meta.Offset < meta.Decided {
		next.Era = era // what was published held the records that are lost now
	}
	kept := int64(0)
	for _, sl := range s.slices {
		if n := sl.unconfirmed(); n > 0 && s.ahead > meta.Offset {
			if sl.stat.Folded == 0 {
				sl.stat.FirstOffset = meta.Offset
				sl.stat.Basis = store.Basis{Known: true, Watermark: meta.Watermark, Sealed: meta.Sealed, Counters: meta.Counters}
			}
			sl.stat.Folded += n
			sl.stat.LastOffset = start - 1
			kept += n
		}
		next.Slices = append(next.Slices, sl.stat)
	}
	lost = start - meta.Offset - kept
	next.Counters.Read += kept
	next.Counters.Folded += kept
	next.Counters.Skipped += lost
	return lost
}
