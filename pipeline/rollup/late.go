package rollup

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/window"
)

// LateEvent is an event of the late topic: where it came from, and a window that it missed.
type LateEvent struct {
	Topic     string
	Partition int32
	Offset    int64
	Missed    ledger.WindowID
}

// LateReader passes the events of the pipeline's late topic to fn, once for every window that they missed, and maybe more
// than once.
type LateReader func(ctx context.Context, fn func(LateEvent) error) error

// LateTopic reads a late topic of a cluster. Records that no lane wrote are passed over.
func LateTopic(cluster *source.Cluster, topic string) LateReader {
	return func(ctx context.Context, fn func(LateEvent) error) error {
		partitions, err := cluster.Partitions(ctx, topic)
		if err != nil {
			return err
		}
		for _, p := range partitions {
			tp := source.TopicPartition{Topic: topic, Partition: p}
			_, err := cluster.ReadCommittedHeaders(ctx, tp, 0, func(_ source.Record, headers []source.Header) error {
				for _, e := range ParseLate(headers) {
					if err := fn(e); err != nil {
						return err
					}
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

// ParseLate reads the headers of a late record, as lanes write them: one event for each window that it names. A record that
// no lane wrote has none.
func ParseLate(headers []source.Header) []LateEvent {
	var e LateEvent
	var names string
	seen := 0
	for _, h := range headers {
		var err error
		var n int64
		switch value := string(h.Value); h.Key {
		case "mr-topic":
			e.Topic = value
		case "mr-partition":
			n, err = strconv.ParseInt(value, 10, 32)
			e.Partition = int32(n)
		case "mr-offset":
			e.Offset, err = strconv.ParseInt(value, 10, 64)
		case "mr-windows":
			names = value
		default:
			continue
		}
		if err != nil {
			return nil
		}
		seen++
	}
	if seen != 4 {
		return nil
	}
	var events []LateEvent
	for name := range strings.SplitSeq(names, ",") {
		family, start, ok := strings.Cut(name, "@")
		if !ok {
			continue // there were more than the header holds
		}
		ms, err := window.ParseTime(start)
		if err != nil {
			continue
		}
		e.Missed = ledger.WindowID{Window: family, Start: ms}
		events = append(events, e)
	}
	return events
}

// lateCounts is how many events missed each window that lanes fold events into. The late topic may hold one twice, because a
// commit that is repeated sends it again.
type lateCounts map[ledger.WindowID]int64

func countLate(ctx context.Context, read LateReader) (lateCounts, error) {
	counts := make(lateCounts)
	if read == nil {
		return counts, nil
	}
	seen := make(map[LateEvent]struct{})
	err := read(ctx, func(e LateEvent) error {
		if _, twice := seen[e]; !twice {
			seen[e] = struct{}{}
			counts[e.Missed]++
		}
		return nil
	})
	return counts, err
}

// within sums the counts of a family's windows that begin in [start, end).
func (c lateCounts) within(family string, start, end int64) int64 {
	var sum int64
	for id, n := range c {
		if id.Window == family && start <= id.Start && id.Start < end {
			sum += n
		}
	}
	return sum
}
