package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// leases keeps the replicas' leases in Redis.
type leases struct{ store *store.Store }

// AcquireLease implements activities.Leases.
func (l leases) AcquireLease(ctx context.Context, pipeline string, replica int, lease activities.Lease, ttl time.Duration,
) (activities.Lease, bool, error) {
	holder, held, err := l.store.AcquireLease(ctx, pipeline, replica,
		store.Lease{Worker: lease.Worker, Queue: lease.Queue, Token: lease.Token}, ttl)
	return leaseOf(holder), held, err
}

// ReadLease implements activities.Leases.
func (l leases) ReadLease(ctx context.Context, pipeline string, replica int) (activities.Lease, bool, error) {
	holder, found, err := l.store.ReadLease(ctx, pipeline, replica)
	return leaseOf(holder), found, err
}

// ReleaseLease implements activities.Leases.
func (l leases) ReleaseLease(ctx context.Context, pipeline string, replica int, token string) error {
	return l.store.ReleaseLease(ctx, pipeline, replica, token)
}

func leaseOf(l store.Lease) activities.Lease {
	return activities.Lease{Worker: l.Worker, Queue: l.Queue, Token: l.Token}
}

// desired keeps the pipelines' desired state in Redis.
type desired struct{ store *store.Store }

// Change implements activities.DesiredStates.
func (d desired) Change(ctx context.Context, pipeline string, c contract.DesiredChange) (int64, error) {
	change := store.CtlChange{
		RequestID: c.RequestID, Above: c.Above, Paused: c.Paused, Stopping: c.Stopping, CommitNow: c.CommitNow, Begun: c.Begun,
	}
	if c.Orders != nil {
		var err error
		if change.Orders, err = json.Marshal(*c.Orders); err != nil {
			return 0, err
		}
	}
	gen, _, err := d.store.SetPipelineCtl(ctx, pipeline, change)
	return gen, err
}

// Read implements activities.DesiredStates.
func (d desired) Read(ctx context.Context, pipeline string) (contract.Desired, error) {
	ctl, err := d.store.PipelineCtl(ctx, pipeline)
	if err != nil {
		return contract.Desired{}, err
	}
	orders, err := ordersOf(ctl)
	return contract.Desired{
		Generation: ctl.Gen, Paused: ctl.Paused, Stopping: ctl.Stopping, CommitNow: ctl.CommitNow, Begun: ctl.Begun,
		Orders: orders,
	}, err
}

// lanes reads what is durable about lanes.
type lanes struct {
	store   *store.Store
	cluster *source.Cluster
}

// States implements activities.Lanes.
func (l lanes) States(ctx context.Context, s *spec.Spec) ([]contract.LaneState, error) {
	tps, err := partitions(ctx, l.cluster, s)
	if err != nil {
		return nil, err
	}
	states := make([]contract.LaneState, len(tps))
	for i, tp := range tps {
		id := store.LaneID{Pipeline: s.Name, Topic: tp.Topic, Partition: tp.Partition}
		meta, found, err := l.store.ReadMeta(ctx, id)
		if unreadable(err) { // the lane is parked for it, and follows nothing before that is decided
			meta = store.Meta{Offset: store.NotStarted}
			meta.Owner, err = l.store.ReadOwner(ctx, id)
			found = true
		}
		if err != nil {
			return nil, permanent(err)
		}
		states[i] = contract.LaneState{
			Topic: tp.Topic, Partition: tp.Partition, Found: found, Owner: string(meta.Owner),
			Generation: meta.CtlGen, Offset: meta.Offset, UpdatedAt: meta.UpdatedAt,
		}
		if !found {
			states[i].Offset = store.NotStarted
		}
	}
	return states, nil
}

// Owners implements activities.LaneTokens.
func (l lanes) Owners(ctx context.Context, pipeline string, asked []report.LaneRef) ([]contract.LaneOwner, error) {
	owners := make([]contract.LaneOwner, len(asked))
	for i, lane := range asked {
		owner, err := l.store.ReadOwner(ctx, store.LaneID{Pipeline: pipeline, Topic: lane.Topic, Partition: lane.Partition})
		if err != nil {
			return nil, err
		}
		owners[i] = contract.LaneOwner{Topic: lane.Topic, Partition: lane.Partition, Token: string(owner), Epoch: owner.Epoch()}
	}
	return owners, nil
}

// Runs implements activities.LaneTokens.
func (l lanes) Runs(ctx context.Context, pipeline string, replica int) (bool, error) {
	_, held, err := l.store.ReadLease(ctx, pipeline, replica)
	return held, err
}

// Ends implements activities.Lanes.
func (l lanes) Ends(ctx context.Context, s *spec.Spec) ([]report.LaneEnd, error) {
	tps, err := partitions(ctx, l.cluster, s)
	if err != nil {
		return nil, err
	}
	stable, err := l.cluster.StableEnds(ctx, tps...)
	if err != nil {
		return nil, err
	}
	ends := make([]report.LaneEnd, len(tps))
	for i, tp := range tps {
		ends[i] = report.LaneEnd{Topic: tp.Topic, Partition: tp.Partition, End: stable[tp]}
	}
	return ends, nil
}

func partitions(ctx context.Context, cluster *source.Cluster, s *spec.Spec) ([]source.TopicPartition, error) {
	var tps []source.TopicPartition
	for _, topic := range s.Source.Topics {
		numbers, err := cluster.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("partitions of source %w", err) // the error names the topic
		}
		for _, n := range numbers {
			tps = append(tps, source.TopicPartition{Topic: topic, Partition: n})
		}
	}
	return tps, nil
}

// servers prepares what a pipeline needs before it runs.
type servers struct {
	store   *store.Store
	cluster *source.Cluster
}

// EnsureTopics implements activities.Servers.
func (v servers) EnsureTopics(ctx context.Context, s *spec.Spec) (contract.Topics, error) {
	var out contract.Topics
	width, lanes := int32(1), 0
	for _, topic := range s.Source.Topics {
		numbers, err := v.cluster.Partitions(ctx, topic)
		if err != nil {
			// The error names the topic.
			return out, permanent(fmt.Errorf("source %w; create it first, or feed it with millrace feed --create PARTITIONS", err))
		}
		out.Sources = append(out.Sources, contract.TopicInfo{Topic: topic, Partitions: len(numbers)})
		width = max(width, int32(len(numbers)))
		lanes += len(numbers)
	}
	var err error
	if out.Warnings, err = warnOfTimestamps(ctx, v.cluster, s); err != nil {
		return out, err
	}
	need, err := topicBytes(ctx, v.cluster, s, lanes)
	if err != nil {
		return out, err
	}
	wanted := []source.TopicSpec{{Name: ledger.Topic(s.Name), Partitions: ledger.DefaultSlots, Compacted: true}}
	for _, sink := range []spec.Sink{s.Results.Sink, s.Late, s.DeadLetter} {
		if sink.Kafka != nil {
			wanted = append(wanted, source.TopicSpec{Name: sink.Kafka.Topic, Partitions: width})
		}
	}
	states := ""
	if len(s.Rollups) > 0 {
		states = ledger.StatesTopic(s.Name)
		wanted = append(wanted, source.TopicSpec{Name: states, Partitions: width})
	}
	for _, topic := range wanted {
		_, err := v.cluster.Topic(ctx, topic.Name)
		made := errors.Is(err, source.ErrUnknownTopic)
		if err != nil && !made {
			return out, err
		}
		if made {
			if _, err := v.cluster.EnsureTopic(ctx, topic); err != nil {
				return out, err
			}
			out.Created = append(out.Created, topic.Name)
		}
		switch {
		case topic.Compacted:
			err = checkLedgerTopic(ctx, v.cluster, topic.Name)
		case s.Results.Kafka != nil && topic.Name == s.Results.Kafka.Topic:
			err = checkResultTopic(ctx, v.cluster, s, made)
		case topic.Name == states:
			err = checkStatesTopic(ctx, v.cluster, s, made)
		default:
			err = nil
		}
		if err != nil {
			return out, err
		}
		if err := fitTopic(ctx, v.cluster, s, topic.Name, need[topic.Name], made); err != nil {
			return out, err
		}
	}
	return out, nil
}

// RemoveMember implements activities.Servers.
func (v servers) RemoveMember(ctx context.Context, pipeline string, replica int) error {
	return v.cluster.RemoveMember(ctx, engine.Group(pipeline), engine.InstanceID(pipeline, replica))
}
