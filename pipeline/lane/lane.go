package lane

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Lane runs one lane from acquisition to release. Run may be called again after it returned.
type Lane struct {
	deps    *Deps
	program *Program
	claim   source.Claim
	id      store.LaneID
	tp      source.TopicPartition
	share   *Share
	status  atomic.Pointer[Status]

	token   store.Token
	state   *State
	reader  source.Reader
	now     Status // what publish hands out; the lane's goroutine alone writes it
	reseeds int
}

// New prepares a lane for a claim. It touches nothing until Run.
func New(deps *Deps, program *Program, claim source.Claim) *Lane {
	l := &Lane{
		deps: deps, program: program, claim: claim,
		id: store.LaneID{Pipeline: program.Spec.Name, Topic: claim.Topic(), Partition: claim.Partition()},
		tp: source.TopicPartition{Topic: claim.Topic(), Partition: claim.Partition()},
	}
	l.now = Status{Topic: l.tp.Topic, Partition: l.tp.Partition, State: StateAcquiring, End: -1, Committed: -1}
	l.publish()
	return l
}

// Status returns the latest snapshot. It may be called from any goroutine.
func (l *Lane) Status() Status { return *l.status.Load() }

func (l *Lane) publish() {
	s := l.now
	s.UpdatedAt = time.Now()
	l.status.Store(&s)
}

// releaseGrace bounds how long a lane that must go tries to commit what it has.
const releaseGrace = 10 * time.Second

// Run owns the lane until ctx ends, then commits what it holds and releases. It returns nil when ctx ended, or
// store.ErrFenced when another owner took the lane while the claim seemed to be ours: the caller asks the coordinator.
// A lane that cannot go on parks until ctx ends.
func (l *Lane) Run(ctx context.Context) error {
	l.share = l.deps.Budget.Join()
	defer l.share.Leave()
	start, err := l.acquire(ctx)
	if err != nil {
		return l.ended(ctx, err)
	}
	l.deps.Log.Info("lane resumes", "lane", l.id.String(), "owner", l.token, "offset", start,
		"entries", l.state.Entries(), "slices", l.state.Slices())
	l.reader = l.deps.Open(source.ReaderConfig{
		Topic: l.tp.Topic, Partition: l.tp.Partition, Offset: start, TopicID: l.state.topicID,
		FetchBytes: l.program.Spec.Lane.FetchBytes, FetchBatches: l.program.Spec.Lane.FetchBatches,
	})
	defer l.reader.Close()
	return l.ended(ctx, l.loop(ctx))
}

// ended sorts out why a lane stopped: an incident parks it here.
func (l *Lane) ended(ctx context.Context, err error) error {
	var inc *Incident
	if errors.As(err, &inc) {
		l.park(inc)
		<-ctx.Done()
		return nil
	}
	if errors.Is(err, store.ErrFenced) {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (l *Lane) park(inc *Incident) {
	l.deps.Log.Error("lane parked", "lane", l.id.String(), "incident", inc.Kind, "from", inc.From, "to", inc.To, "detail", inc.Detail)
	l.now.State, l.now.Reason, l.now.Incident = StateParked, inc.Kind, inc
	l.publish()
}

// acquire takes ownership, verifies the position and restores the state. It tries until it succeeds, finds an incident,
// or ctx ends; it returns the offset to read from.
func (l *Lane) acquire(ctx context.Context) (int64, error) {
	wait := 50 * time.Millisecond
	for {
		start, err := l.tryAcquire(ctx)
		var inc *Incident
		if err == nil || ctx.Err() != nil || errors.As(err, &inc) || errors.Is(err, store.ErrFenced) {
			return start, err
		}
		l.now.Reason = err.Error()
		l.publish()
		l.deps.Log.Warn("lane not acquired, trying again", "lane", l.id.String(), "in", wait, "error", err)
		if !pause(ctx, wait) {
			return 0, ctx.Err()
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func (l *Lane) tryAcquire(ctx context.Context) (int64, error) {
	l.now.State, l.now.Incident = StateAcquiring, nil
	l.publish()
	previous, meta, err := l.take(ctx)
	if err != nil {
		return 0, err
	}
	if meta, err = l.resume(ctx, previous, meta); err != nil {
		return 0, err
	}
	// Read after the lane was taken: at least what its last owner followed, so that a pause holds over a move.
	ctl, err := l.deps.Store.PipelineCtl(ctx, l.id.Pipeline)
	if err != nil {
		return 0, corruptIncident(err)
	}
	l.deps.Desired.Set(ctl)
	at, err := l.locate(ctx, meta)
	if err != nil {
		return 0, err
	}
	start, inc := at.verify()
	if inc != nil {
		return 0, inc
	}
	l.now.State = StateRestoring
	l.publish()
	state, sum, err := Restore(ctx, l.deps.Store, l.program, l.id, l.token)
	if err != nil {
		return 0, corruptIncident(err)
	}
	state.topicID = at.topicID
	state.offset = start
	if at.fresh() {
		if err := l.bind(ctx, state); err != nil {
			return 0, err
		}
	}
	l.state = state
	l.now.Restored, l.now.Owner, l.now.Committed, l.now.Reason = &sum, l.token, start, ""
	l.now.End = at.ends.HighWatermark
	l.claim.ResetHint(start, hintMetadata(state.replayFrom(), state.Watermark(), state.Counters()))
	return start, nil
}

// bind makes a lane that starts from nothing respect windows that are final already, before it reads its first record.
func (l *Lane) bind(ctx context.Context, s *State) error {
	ctl, err := l.deps.Store.ReadCtl(ctx, l.id)
	if err != nil {
		return err
	}
	s.adopt(Control{SealBefore: none, DropBefore: ctl[0].DropBefore, IdleAt: -1})
	return nil
}

// take writes a new owner token over the one that was read, which it returns with the lane's meta.
func (l *Lane) take(ctx context.Context) (store.Token, store.Meta, error) {
	before, _, err := l.deps.Store.ReadMeta(ctx, l.id)
	if err != nil {
		return "", store.Meta{}, corruptIncident(err)
	}
	token := store.NextToken(before.Owner)
	meta, _, err := l.deps.Store.Acquire(ctx, l.id, l.program.StateID, before.Owner, token)
	if err != nil {
		return "", store.Meta{}, corruptIncident(err)
	}
	l.token = token
	return before.Owner, meta, nil
}

// locate asks the broker and the group where the lane's log and hint stand.
func (l *Lane) locate(ctx context.Context, meta store.Meta) (*position, error) {
	at := &position{meta: meta, topicRef: l.tp, hint: source.Committed{Offset: -1}}
	ends, err := l.deps.Cluster.Ends(ctx, l.tp)
	if err != nil {
		return nil, fmt.Errorf("ask the broker for the ends of %s: %w", l.tp, err)
	}
	at.ends = ends[l.tp]
	if at.topicID, err = l.deps.Cluster.TopicID(ctx, l.tp.Topic); err != nil {
		return nil, fmt.Errorf("ask the broker for the id of topic %s: %w", l.tp.Topic, err)
	}
	if at.fresh() {
		hints, err := l.deps.Cluster.Committed(ctx, l.deps.Group, l.tp)
		if err != nil {
			return nil, fmt.Errorf("ask for the offsets of group %s: %w", l.deps.Group, err)
		}
		if hint, ok := hints[l.tp]; ok {
			at.hint = hint
		}
	}
	return at, nil
}

// replayFrom is the lowest first offset of any slice held, the lane's own offset when there is none: a state that was lost
// is rebuilt by reading on from there.
func (s *State) replayFrom() int64 {
	from := s.offset
	for _, sl := range s.slices {
		if sl.stat.FirstOffset >= 0 {
			from = min(from, sl.stat.FirstOffset)
		}
	}
	return from
}

// hintMetadata travels with the group offset, so that people and a rebuild know what the offset stood for.
func hintMetadata(replayFrom, watermark int64, c store.Counters) string {
	return fmt.Sprintf("v1 replay_from=%d watermark=%d read=%d invalid=%d ahead=%d filtered=%d duplicate=%d late=%d folded=%d",
		replayFrom, watermark, c.Read, c.Invalid, c.Ahead, c.Filtered, c.Duplicate, c.Late, c.Folded)
}
