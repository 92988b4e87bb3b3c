package shadow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

var (
	// ErrOtherPlan means that lanes of the shadow were made for another plan than the guard's: a worker that was frozen has
	// gone on after the shadow was ended and begun anew. End it and begin once more.
	ErrOtherPlan = errors.New("a lane of the shadow was made for another plan")
	// ErrLost means that Redis has lost a part of the shadow. End it and begin once more.
	ErrLost = errors.New("redis has lost a part of the shadow")
)

// Begin keeps the plan in Redis and makes the shadow's lanes. It may be called again: a shadow that exists keeps the plan it
// was begun with, which is returned. rate bounds the records read per second, 0 leaves it open.
//
// The shadow is registered before its first key is made and once more after the last one: whoever ended it meanwhile has
// left its mark, and what was made since is deleted again.
func Begin(ctx context.Context, st *store.Store, p *plan.Plan, rate int64, now time.Time) (*plan.Plan, error) {
	id := shadowID(p)
	body, err := encodePlan(p)
	if err != nil {
		return nil, err
	}
	var sum diff.Digest
	sum.Add(body)
	begun := now.UnixMilli()
	if known, err := st.ReadShadow(ctx, id); err == nil {
		begun = known.Begun
	} else if !errors.Is(err, store.ErrNoShadow) {
		return nil, err
	}
	if err := st.RegisterShadow(ctx, id, begun); err != nil {
		return nil, err
	}
	guard, err := st.BeginShadow(ctx, id, begun, rate, body, sum.String())
	if err != nil {
		return nil, err
	}
	if p, err = Load(ctx, st, id.Pipeline, id.ID); err != nil {
		return nil, err
	}
	if err := makeLanes(ctx, st, p, guard.Begun); err != nil {
		return nil, err
	}
	entries, err := st.Shadows(ctx, id.Pipeline)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.ID == id.ID && e.Ended == 0 {
			return p, nil
		}
	}
	return nil, errors.Join(store.ErrShadowEnds, End(ctx, st, id.Pipeline, id.ID, now, nil))
}

// Load reads the plan of a shadow, store.ErrNoShadow when there is none.
func Load(ctx context.Context, st *store.Store, pipeline, id string) (*plan.Plan, error) {
	body, err := st.ReadShadowPlan(ctx, store.ShadowID{Pipeline: pipeline, ID: id})
	if err != nil {
		return nil, err
	}
	return parsePlan(body)
}

// makeLanes makes the lanes that are not there yet, each as one that is rebuilt from where its plan begins. begun marks them.
func makeLanes(ctx context.Context, st *store.Store, p *plan.Plan, begun int64) error {
	s, err := specOf(p)
	if err != nil {
		return err
	}
	program, err := fold.Compile(s)
	if err != nil {
		return err
	}
	for i := range p.Lanes {
		if err := makeLane(ctx, st, program, p, &p.Lanes[i], begun); err != nil {
			return fmt.Errorf("make lane %s: %w", laneID(p, &p.Lanes[i]), err)
		}
	}
	return nil
}

func makeLane(ctx context.Context, st *store.Store, program *fold.Program, p *plan.Plan, l *plan.Lane, begun int64) error {
	id := laneID(p, l)
	meta, found, err := st.ReadMeta(ctx, id)
	if err != nil {
		return err
	}
	if found && meta.Offset != store.NotStarted {
		return checkMeta(meta, begun)
	}
	token := store.NextToken(meta.Owner)
	if _, _, err := st.Acquire(ctx, id, program.StateID, meta.Owner, token); err != nil {
		return err
	}
	// The seals of the plan are prescribed and stand in no meta: a lane may follow thousands.
	replay := fold.Replay{
		From: l.Start, Basis: l.Basis, Accepted: l.Accepted, Decided: l.End, Era: begun, TopicID: l.TopicID,
	}
	ends := source.Ends{Start: l.Start, End: l.End, HighWatermark: l.End}
	_, err = lane.Rebuild(ctx, st, program, id, token, replay, ends, begun)
	return err
}

// checkMeta says what is wrong with the meta of a lane of the shadow that was begun then.
func checkMeta(meta store.Meta, begun int64) error {
	switch {
	case meta.Owner.Removed():
		return store.ErrShadowEnds
	case meta.Era != begun:
		return ErrOtherPlan
	}
	return nil
}
