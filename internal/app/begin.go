package app

import (
	"context"
	"errors"
	"fmt"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// standing is what a start finds of its pipeline.
type standing struct {
	lanes  int                 // of the source topics
	held   int                 // of these, lanes that have a state
	fenced *store.LaneID       // one that was fenced by a removal, or by a discard that was cut off
	other  *store.StateIDError // one whose state belongs to another spec
	others int
}

// CheckStore implements activities.Servers.
func (v servers) CheckStore(ctx context.Context, s *spec.Spec, begin *contract.Begin) error {
	if err := v.store.Check(ctx); err != nil {
		return permanent(err)
	}
	if begin != nil {
		already, err := v.begun(ctx, s.Name, begin.ID)
		if err != nil {
			return err
		}
		if already {
			begin = nil
		}
	}
	if begin != nil && begin.Discard {
		return nil // whatever is there goes
	}
	tps, err := partitions(ctx, v.cluster, s)
	if errors.Is(err, source.ErrUnknownTopic) {
		return nil // no lane has been there; EnsureTopics says what to do
	}
	if err != nil {
		return permanent(err)
	}
	found, err := v.survey(ctx, s, tps)
	if err != nil {
		return permanent(err)
	}
	if refusal := found.refuse(s, begin); refusal != nil {
		return refusal
	}
	if begin == nil {
		return nil
	}
	return v.checkPast(ctx, s, begin, tps)
}

func (v servers) survey(ctx context.Context, s *spec.Spec, tps []source.TopicPartition) (*standing, error) {
	found := &standing{lanes: len(tps)}
	for _, tp := range tps {
		id := store.LaneID{Pipeline: s.Name, Topic: tp.Topic, Partition: tp.Partition}
		meta, exists, err := v.store.ReadMeta(ctx, id)
		if unreadable(err) {
			found.held++ // the lane itself asks what is to be done
			continue
		}
		if err != nil {
			return nil, err
		}
		if meta.Owner.Removed() {
			found.fenced = &id
			continue
		}
		_, _, err = v.store.LaneView(ctx, id, s.StateID())
		var other *store.StateIDError
		switch {
		case errors.As(err, &other):
			found.other, found.others = other, found.others+1
		case err != nil && !errors.Is(err, store.ErrNoMeta) && !unreadable(err):
			return nil, err
		}
		if exists && meta.Offset != store.NotStarted {
			found.held++
		}
	}
	return found, nil
}

// unreadable reports whether err says that this release cannot read what stands there of one lane. The lane parks for it and asks.
func unreadable(err error) bool {
	var format *store.FormatError
	return errors.As(err, &format) || errors.Is(err, store.ErrCorrupt)
}

// waysOn says how a pipeline can be started that cannot go on from what is there.
const waysOn = "start it under another name, or give up what is there: " +
	"`millrace start FILE --discard-state --from earliest|latest|TIME|OFFSETS` " +
	`(as JSON: "discard_state": true and "from" beside "spec")`

// refuse says why a start cannot go on from what it finds, nil when it can.
func (f *standing) refuse(s *spec.Spec, begin *contract.Begin) error {
	switch {
	case f.fenced != nil:
		return fmt.Errorf("%w: pipeline %s is being removed, or a start that was to discard its state was cut off: "+
			"lane %s is fenced. Wait until the workflow %s has ended, or finish it with "+
			"`millrace rm %s` or `millrace start FILE --discard-state --from ...`",
			activities.ErrPermanent, s.Name, *f.fenced, contract.RemoveID(s.Name), s.Name)
	case f.other != nil:
		return fmt.Errorf("%w: %d of %d lanes of pipeline %s hold the state of another spec: lane %s has state %s, "+
			"this spec computes state %s; start it with the spec it had, or %s",
			activities.ErrPermanent, f.others, f.lanes, s.Name, f.other.Lane, f.other.Found, f.other.Want, waysOn)
	case begin != nil && f.held > 0:
		return fmt.Errorf("%w: %d of %d lanes of pipeline %s have a state and go on where they stopped, so they cannot begin from %s; "+
			"leave it out, or %s", activities.ErrPermanent, f.held, f.lanes, s.Name, begin.From, waysOn)
	}
	return nil
}

// checkPast refuses a place to begin for a pipeline whose lanes had a state once: windows that are final already would swallow what
// is read. Without a place the lanes themselves find it, and ask what is to be done.
func (v servers) checkPast(ctx context.Context, s *spec.Spec, begin *contract.Begin, tps []source.TopicPartition) error {
	said, err := readLedger(ctx, v.cluster, s.Name)
	if err != nil && !errors.Is(err, source.ErrUnknownTopic) {
		return permanent(err)
	}
	const decide = "Start it without a place to begin and decide what the lanes then ask, or "
	if err == nil && !said.ended() {
		return fmt.Errorf("%w: no lane of pipeline %s has a state, but its ledger says that it has published windows: the state was lost. "+
			decide+"%s", activities.ErrPermanent, s.Name, waysOn)
	}
	hints, err := v.cluster.Committed(ctx, engine.Group(s.Name), tps...)
	if err != nil {
		return err
	}
	for _, tp := range tps {
		if hints[tp].Offset >= 0 {
			return fmt.Errorf("%w: no lane of pipeline %s has a state, but its consumer group has committed offset %d of %s: "+
				"the state was lost. "+decide+"%s", activities.ErrPermanent, s.Name, hints[tp].Offset, tp, waysOn)
		}
	}
	return nil
}

// begun reports whether the start with this id has begun the lanes.
func (v servers) begun(ctx context.Context, pipeline, id string) (bool, error) {
	ctl, err := v.store.PipelineCtl(ctx, pipeline)
	return err == nil && ctl.Begun == id, permanent(err)
}

// LocateBegin implements activities.Servers.
func (v servers) LocateBegin(ctx context.Context, s *spec.Spec, begin contract.Begin) (out contract.Begun, err error) {
	if out.Already, err = v.begun(ctx, s.Name, begin.ID); err != nil {
		return out, err
	}
	out.Lanes, err = Locate(ctx, v.cluster, s, begin.From)
	return out, permanent(err)
}

// Locate finds the offset of every lane of a pipeline where from says. A place that the logs do not have is
// activities.ErrPermanent.
func Locate(ctx context.Context, cluster *source.Cluster, s *spec.Spec, from contract.From) ([]contract.LaneStart, error) {
	tps, err := partitions(ctx, cluster, s)
	if err != nil {
		return nil, err
	}
	offsets, err := locate(ctx, cluster, from, tps)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]string)
	for _, topic := range s.Source.Topics {
		if ids[topic], err = cluster.TopicID(ctx, topic); err != nil {
			return nil, err
		}
	}
	lanes := make([]contract.LaneStart, len(tps))
	for i, tp := range tps {
		lanes[i] = contract.LaneStart{Topic: tp.Topic, Partition: tp.Partition, Offset: contract.BeginAtStart}
		if offset, ok := offsets[tp]; ok {
			lanes[i].Offset, lanes[i].TopicID = offset, ids[tp.Topic]
		}
	}
	return lanes, nil
}

// locate finds the offsets of a place. A lane that is left out begins at the start of its log.
func locate(ctx context.Context, cluster *source.Cluster, from contract.From, tps []source.TopicPartition,
) (map[source.TopicPartition]int64, error) {
	switch {
	case from.Place == contract.FromEarliest:
		return nil, nil
	case from.Place == contract.FromLatest:
		return cluster.StableEnds(ctx, tps...)
	case len(from.Offsets) == 0:
		return cluster.OffsetsAt(ctx, from.Time.UnixMilli(), tps...)
	}
	ends, err := cluster.Ends(ctx, tps...)
	if err != nil {
		return nil, err
	}
	offsets := make(map[source.TopicPartition]int64)
	for _, o := range from.Offsets {
		tp := source.TopicPartition{Topic: o.Topic, Partition: o.Partition}
		end, ok := ends[tp]
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: from names %s, which the pipeline does not read", activities.ErrPermanent, tp)
		case o.Offset < end.Start || o.Offset > end.HighWatermark:
			return nil, fmt.Errorf("%w: from is offset %d for %s, whose log holds offsets %d to %d; want one of them",
				activities.ErrPermanent, o.Offset, tp, end.Start, end.HighWatermark)
		}
		offsets[tp] = o.Offset
	}
	for _, tp := range tps {
		if _, ok := offsets[tp]; !ok {
			return nil, fmt.Errorf("%w: from names no offset for %s; name every partition, whose log holds offsets %d to %d",
				activities.ErrPermanent, tp, ends[tp].Start, ends[tp].HighWatermark)
		}
	}
	return offsets, nil
}

// BeginLanes implements activities.Servers. The offsets of the group come first, all of them in one request: from then on a lane
// without a state asks what is to be done, and can come back to the place where it was to begin, however the start goes on.
func (v servers) BeginLanes(ctx context.Context, s *spec.Spec, in contract.BeginLanesInput) error {
	program, err := fold.Compile(s)
	if err != nil {
		return permanent(err)
	}
	id := func(l contract.LaneStart) store.LaneID {
		return store.LaneID{Pipeline: s.Name, Topic: l.Topic, Partition: l.Partition}
	}
	owner := store.BeginToken(in.ID)
	hints := make(map[source.TopicPartition]source.Committed)
	for _, l := range in.Lanes {
		if l.Offset != contract.BeginAtStart {
			first := fold.NewState(program, id(l), l.TopicID, l.Offset, store.Cursor{}).Replay()
			first.Begun = l.Offset
			tp := source.TopicPartition{Topic: l.Topic, Partition: l.Partition}
			hints[tp] = source.Committed{Offset: l.Offset, Metadata: first.String()}
		}
	}
	if len(hints) > 0 {
		if err := v.cluster.Commit(ctx, engine.Group(s.Name), hints); err != nil {
			return err
		}
	}
	for _, l := range in.Lanes {
		offset := int64(store.NotStarted)
		if l.Offset != contract.BeginAtStart {
			offset = l.Offset
		}
		if err := v.store.Begin(ctx, id(l), s.StateID(), owner, offset, l.TopicID, in.Discard); err != nil {
			return permanent(err)
		}
	}
	return nil
}
