package verify

import (
	"context"
	"fmt"
	"strconv"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// LateRecord is where a record of the late topic came from.
type LateRecord struct {
	Reason    string
	Topic     string
	Partition int32
	Offset    int64
	Windows   string // for which it was late: name@start, with commas; an ellipsis ends a list that is not complete
}

// LateReader passes every record of the pipeline's late topic to fn.
type LateReader func(ctx context.Context, fn func(LateRecord) error) error

// reasonLate is the mr-reason of events that were late for all their windows, as lanes write it.
const reasonLate = "late"

// LateTopic reads a late topic of a cluster. Records that no lane wrote are passed over.
func LateTopic(cluster *source.Cluster, topic string) LateReader {
	return func(ctx context.Context, fn func(LateRecord) error) error {
		partitions, err := cluster.Partitions(ctx, topic)
		if err != nil {
			return fmt.Errorf("late topic %s: %w", topic, err)
		}
		for _, p := range partitions {
			tp := source.TopicPartition{Topic: topic, Partition: p}
			_, err := cluster.ReadCommittedHeaders(ctx, tp, 0, func(_ source.Record, headers []source.Header) error {
				if late, ok := parseLate(headers); ok {
					return fn(late)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("read %s: %w", tp, err)
			}
		}
		return nil
	}
}

func parseLate(headers []source.Header) (LateRecord, bool) {
	var r LateRecord
	seen := 0
	for _, h := range headers {
		switch value := string(h.Value); h.Key {
		case "mr-reason":
			r.Reason = value
			seen++
		case "mr-windows":
			r.Windows = value
		case "mr-topic":
			r.Topic = value
			seen++
		case "mr-partition":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return r, false
			}
			r.Partition = int32(n)
			seen++
		case "mr-offset":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return r, false
			}
			r.Offset = n
			seen++
		}
	}
	return r, seen == 4
}

// checkLate compares the late topic with the lanes' counters. A late record is sent before its commit, and again when the
// commit is repeated, so the topic is read as a set of source offsets; records above the committed offset belong to
// commits that are not there yet. More late offsets than the lane counts means that Redis lost a seal: events that were
// late under it were read again, on time. Such records are void, the revisions are right. Fewer are missing.
func (v *Report) checkLate(ctx context.Context, cfg *Config) error {
	type place struct {
		lane   int
		offset int64
	}
	lanes := make(map[string]int, len(v.Lanes))
	for i := range v.Lanes {
		lanes[v.Lanes[i].Lane] = i
		v.Lanes[i].Late = 0
	}
	seen := make(map[place]struct{})
	err := cfg.Late(ctx, func(r LateRecord) error {
		i, ok := lanes[store.LaneID{Pipeline: cfg.Spec.Name, Topic: r.Topic, Partition: r.Partition}.String()]
		if !ok || r.Reason != reasonLate || r.Offset >= v.Lanes[i].Offset {
			return nil
		}
		if _, twice := seen[place{i, r.Offset}]; !twice {
			seen[place{i, r.Offset}] = struct{}{}
			v.Lanes[i].Late++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		if l.Void = max(0, l.Late-l.Counters.Late); l.Late < l.Counters.Late {
			v.problem(ProblemLate, l.Lane, "%d events were late, the late topic holds %d of them", l.Counters.Late, l.Late)
		}
	}
	return nil
}
