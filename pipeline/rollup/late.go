package rollup

import (
	"context"
	"fmt"
	"slices"
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

// lateCounts are, by family of windows that lanes fold events into, the starts of the windows that events missed: one for
// each event, ascending.
type lateCounts map[string][]int64

// countLate reads the late topic. It may hold an event twice, because a commit that is repeated sends it again.
func countLate(ctx context.Context, read LateReader) (lateCounts, error) {
	counts := make(lateCounts)
	if read == nil {
		return counts, nil
	}
	seen := make(map[LateEvent]struct{})
	err := read(ctx, func(e LateEvent) error {
		if _, twice := seen[e]; !twice {
			seen[e] = struct{}{}
			counts[e.Missed.Window] = append(counts[e.Missed.Window], e.Missed.Start)
		}
		return nil
	})
	for _, starts := range counts {
		slices.Sort(starts)
	}
	return counts, err
}

// within counts the events that missed a family's windows which begin in [start, end).
func (c lateCounts) within(family string, start, end int64) int64 {
	starts := c[family]
	from, _ := slices.BinarySearch(starts, start)
	to, _ := slices.BinarySearch(starts, end)
	return int64(to - from)
}
