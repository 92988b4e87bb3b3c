package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// remains finds and deletes what pipelines have left.
type remains struct {
	store   *store.Store
	cluster *source.Cluster
	kafka   source.Config
}

// Count implements activities.Remains.
func (r remains) Count(ctx context.Context, pipeline string, progress func(int64)) ([]contract.KeyCount, activities.LaneCount, error) {
	counts := make(map[string]*contract.KeyCount)
	lanes := make(map[store.LaneID]bool)
	total := int64(0)
	err := r.store.ScanPipeline(ctx, pipeline, func(keys []store.PipelineKey) error {
		sizes, err := r.store.KeyBytes(ctx, keys)
		if err != nil {
			return err
		}
		for i, k := range keys {
			c := counts[k.Kind]
			if c == nil {
				c = &contract.KeyCount{Kind: k.Kind}
				counts[k.Kind] = c
			}
			c.Keys++
			c.Bytes += sizes[i]
			if k.Lane.Pipeline != "" {
				lanes[k.Lane] = true
			}
		}
		total += int64(len(keys))
		progress(total)
		return nil
	})
	var list []contract.KeyCount
	for _, kind := range store.KeyKinds {
		if c := counts[kind]; c != nil {
			list = append(list, *c)
		}
	}
	if err != nil {
		return nil, activities.LaneCount{}, err
	}
	count, err := r.countLanes(ctx, lanes)
	return list, count, err
}

// countLanes counts what lanes hold, and those that a removal owns. A meta of another format says nothing.
func (r remains) countLanes(ctx context.Context, lanes map[store.LaneID]bool) (c activities.LaneCount, err error) {
	c.Lanes = len(lanes)
	for id := range lanes {
		meta, _, err := r.store.ReadMeta(ctx, id)
		var format *store.FormatError
		if err != nil && !errors.As(err, &format) {
			return c, err
		}
		if meta.Owner.Removed() {
			c.Fenced++
		}
		slices, err := r.store.OpenSlices(ctx, id)
		if err != nil {
			return c, err
		}
		if c.Slices += slices; meta.Balance.Known {
			c.Events += meta.Counters.Folded - meta.Balance.Dropped
		}
	}
	return c, nil
}

// Group implements activities.Remains.
func (r remains) Group(ctx context.Context, pipeline string) (string, []contract.GroupMember, bool, error) {
	group := engine.Group(pipeline)
	found, exists, err := r.cluster.Members(ctx, group)
	var members []contract.GroupMember
	for _, m := range found {
		members = append(members, contract.GroupMember{ID: m.ID, Instance: m.Instance, ClientID: m.ClientID, Host: m.Host})
	}
	return group, members, exists, err
}

// Leases implements activities.Remains.
func (r remains) Leases(ctx context.Context, pipeline string) ([]contract.LeaseHolder, error) {
	held, err := r.store.Leases(ctx, pipeline, -1, contract.MaxReplicas)
	var holders []contract.LeaseHolder
	for _, l := range held {
		holders = append(holders, contract.LeaseHolder{Replica: l.Replica, Worker: l.Worker, Millis: l.TTL.Milliseconds()})
	}
	return holders, err
}

// DeleteGroup implements activities.Remains.
func (r remains) DeleteGroup(ctx context.Context, pipeline string) error {
	return r.cluster.DeleteGroup(ctx, engine.Group(pipeline))
}

// Fence implements activities.Remains. The desired state goes first: a lane that is begun later finds none, and gives up; one
// that was begun before is found here.
func (r remains) Fence(ctx context.Context, pipeline, token string, sources []string, progress func(int64)) error {
	if err := r.store.DeleteControl(ctx, pipeline); err != nil {
		return err
	}
	fenced := make(map[store.LaneID]bool)
	fence := func(id store.LaneID) error {
		if fenced[id] {
			return nil
		}
		if _, err := r.store.Fence(ctx, id, store.Token(token)); err != nil {
			return err
		}
		fenced[id] = true
		progress(int64(len(fenced)))
		return nil
	}
	for _, topic := range sources {
		partitions, err := r.cluster.Partitions(ctx, topic)
		if err != nil && !errors.Is(err, source.ErrUnknownTopic) {
			return err
		}
		for _, n := range partitions {
			if err := fence(store.LaneID{Pipeline: pipeline, Topic: topic, Partition: n}); err != nil {
				return err
			}
		}
	}
	return r.store.ScanPipeline(ctx, pipeline, func(keys []store.PipelineKey) error {
		for _, k := range keys {
			if k.Lane.Pipeline != "" { // of the pipeline or of one of its shadows
				if err := fence(k.Lane); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// EndLedger implements activities.Remains.
func (r remains) EndLedger(ctx context.Context, pipeline string, rows bool, progress func(int64)) error {
	return publish.EndIncarnation(ctx, publish.NewClient(r.kafka, r.cluster, pipeline), pipeline, rows, progress)
}

// DeleteKeys implements activities.Remains.
func (r remains) DeleteKeys(ctx context.Context, pipeline string, progress func(int64)) error {
	deleted := int64(0)
	return r.store.ScanPipeline(ctx, pipeline, func(keys []store.PipelineKey) error {
		n, err := r.store.DeleteKeys(ctx, keys, false)
		deleted += n
		progress(deleted)
		return err
	})
}

// sweeps bounds how often Sweep scans for keys: whoever writes keys of the pipeline now is not a lane that Remove has fenced.
const sweeps = 10

// Sweep implements activities.Remains.
func (r remains) Sweep(ctx context.Context, pipeline, token string, progress func(int64)) error {
	deleted := int64(0)
	example := ""
	for range sweeps {
		found := 0
		err := r.store.ScanPipeline(ctx, pipeline, func(keys []store.PipelineKey) error {
			found += len(keys)
			example = keys[0].Name
			for _, k := range keys {
				if k.Kind != store.KeyMeta || k.Lane.Pipeline == "" {
					continue
				}
				if _, err := r.store.Fence(ctx, k.Lane, store.Token(token)); err != nil {
					return err
				}
			}
			n, err := r.store.DeleteKeys(ctx, keys, true)
			deleted += n
			progress(deleted)
			return err
		})
		if err != nil || found == 0 {
			return err
		}
	}
	return fmt.Errorf("somebody goes on writing keys of pipeline %s, such as %s; find the process that does and stop it", pipeline, example)
}

// DeleteTopic implements activities.Remains.
func (r remains) DeleteTopic(ctx context.Context, topic string) error {
	return r.cluster.DeleteTopic(ctx, topic)
}

// Topics implements activities.Remains.
func (r remains) Topics(ctx context.Context, pipeline string, own *spec.Spec, others []activities.Other,
	progress func(int64)) ([]contract.TopicRemains, error) {
	all, err := r.cluster.Topics(ctx)
	if err != nil {
		return nil, err
	}
	roles, ended, err := r.written(ctx, pipeline, own, all)
	if err != nil {
		return nil, err
	}
	kept, err := r.namedElsewhere(ctx, pipeline, own, others, all, roles, progress)
	if err != nil {
		return nil, err
	}
	var list []contract.TopicRemains
	names := slices.Sorted(maps.Keys(roles))
	for _, topic := range names { // without the ledger the next start would number its editions from 1 again, beside these rows
		book := ledger.Topic(pipeline)
		if roles[topic] == contract.RoleResults && kept[topic] != "" && kept[book] == "" && slices.Contains(all, topic) {
			kept[book] = fmt.Sprintf("it says which edition the rows in topic %s are of, which stays: %s", topic, kept[topic])
		}
	}
	for _, topic := range names {
		if slices.Contains(all, topic) {
			list = append(list, contract.TopicRemains{
				Topic: topic, Role: roles[topic], Delete: kept[topic] == "", Why: kept[topic],
				Ended: ended && roles[topic] == contract.RoleLedger,
			})
		}
	}
	return list, nil
}

// written are the topics that the pipeline writes, as its spec and its own ledger say. ended reports whether an earlier removal has
// given up all that the ledger says.
func (r remains) written(ctx context.Context, pipeline string, own *spec.Spec,
	all []string) (roles map[string]string, ended bool, err error) {
	book := ledger.Topic(pipeline)
	roles = map[string]string{book: contract.RoleLedger}
	if slices.Contains(all, book) {
		said, err := readLedger(ctx, r.cluster, pipeline)
		if err != nil {
			return nil, false, err
		}
		for _, slot := range said {
			for topic := range slot.published {
				roles[topic] = contract.RoleResults
			}
			if slot.states {
				roles[ledger.StatesTopic(pipeline)] = contract.RoleStates
			}
		}
		ended = said.ended()
	}
	if own != nil {
		for role, sink := range sinksOf(own) {
			if sink.Kafka != nil {
				roles[sink.Kafka.Topic] = role
			}
		}
		if len(own.Rollups) > 0 {
			roles[ledger.StatesTopic(pipeline)] = contract.RoleStates
		}
	}
	return roles, ended, nil
}

func sinksOf(s *spec.Spec) map[string]spec.Sink {
	return map[string]spec.Sink{contract.RoleResults: s.Results.Sink, contract.RoleLate: s.Late, contract.RoleDeadLetter: s.DeadLetter}
}

// slotSays is what a partition of a ledger topic says.
type slotSays struct {
	published map[string]int // result topics by the latest edition of a row that names them
	states    bool           // a row names states in the states topic
	edition   int            // the latest of a row or floor, 0 without any
	ended     int            // the latest that a removal has ended, 0 before the first
}

type ledgerSays map[int32]*slotSays

// ended reports whether a removal has ended everything in every slot. A ledger in which nothing was ever written is ended, too.
func (l ledgerSays) ended() bool {
	latest := 0
	for _, slot := range l {
		latest = max(latest, slot.edition, slot.ended)
	}
	for _, slot := range l {
		if slot.ended < latest {
			return false
		}
	}
	return true
}

// readLedger reads a pipeline's ledger. With an error it returns what it has read before.
func readLedger(ctx context.Context, cluster *source.Cluster, pipeline string) (ledgerSays, error) {
	says := make(ledgerSays)
	partitions, err := cluster.Partitions(ctx, ledger.Topic(pipeline))
	if err != nil {
		return nil, err
	}
	for _, n := range partitions {
		says[n] = &slotSays{published: make(map[string]int)}
	}
	return says, ledger.Read(ctx, cluster, pipeline, func(rec ledger.Record) error {
		slot := says[rec.Partition]
		if slot == nil { // a partition that was added since
			slot = &slotSays{published: make(map[string]int)}
			says[rec.Partition] = slot
		}
		switch {
		case rec.Row != nil:
			edition := max(rec.Row.Edition, ledger.Edition)
			slot.edition = max(slot.edition, edition)
			slot.states = slot.states || len(rec.Row.States) > 0
			if topic := rec.Row.PublishedTo; topic != "" {
				slot.published[topic] = max(slot.published[topic], edition)
			}
		case rec.Floor != nil:
			slot.edition = max(slot.edition, rec.Floor.Edition, ledger.Edition)
		case rec.Ended != nil:
			slot.ended = max(slot.ended, rec.Ended.Edition)
		}
		return nil
	})
}

// namedElsewhere says of those of the topics that must stay why: a spec reads them, or another pipeline writes them.
func (r remains) namedElsewhere(ctx context.Context, pipeline string, own *spec.Spec, others []activities.Other, all []string,
	roles map[string]string,
	progress func(int64)) (kept map[string]string, err error) {
	kept = make(map[string]string)
	keep := func(topic, why string, args ...any) {
		if roles[topic] != "" && kept[topic] == "" {
			kept[topic] = fmt.Sprintf(why, args...)
		}
	}
	if own != nil {
		for _, topic := range own.Source.Topics {
			keep(topic, "the pipeline reads it")
		}
	}
	for _, other := range others {
		standing := ""
		if other.Standing != "" {
			standing = " (" + other.Standing + ")"
		}
		for _, topic := range other.Source.Topics {
			keep(topic, "pipeline %s%s reads it", other.Name, standing)
		}
		for _, sink := range sinksOf(other.Spec) {
			if sink.Kafka != nil {
				keep(sink.Kafka.Topic, "pipeline %s%s writes it", other.Name, standing)
			}
		}
		if len(other.Rollups) > 0 {
			keep(ledger.StatesTopic(other.Name), "pipeline %s%s writes it", other.Name, standing)
		}
	}
	suffix := ledger.Topic("")
	for i, topic := range all {
		other, ok := strings.CutSuffix(topic, suffix)
		if !ok || other == "" || other == pipeline {
			continue
		}
		keep(topic, "it is the ledger of pipeline %s", other)
		if len(kept) == len(roles) {
			continue
		}
		progress(int64(i))
		said, err := readLedger(ctx, r.cluster, other)
		if err != nil && !errors.Is(err, ledger.ErrCorrupt) {
			return nil, err
		}
		for _, slot := range said {
			for published, edition := range slot.published {
				if edition > slot.ended { // what a removal has ended names nothing any more, compacted or not
					keep(published, "the ledger of pipeline %s names it", other)
				}
			}
		}
	}
	return kept, nil
}
