package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// laneLine is one lane as status shows it. Redis is the truth about it, the broker about its end; what only the hot path
// knows comes from its last heartbeat.
type laneLine struct {
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	State     string         `json:"state"`
	Reason    string         `json:"reason,omitempty"`
	Choices   []string       `json:"choices,omitempty"` // what can be decided about it
	Epoch     int64          `json:"epoch"`
	Offset    int64          `json:"offset"` // committed: the next to read; -1 before the first commit
	End       int64          `json:"end"`
	Lag       int64          `json:"lag"`
	Watermark *int64         `json:"watermark_ms"` // null before the first event
	Idle      bool           `json:"idle"`
	Rate      float64        `json:"records_per_second"`
	Slices    int            `json:"slices"`
	Counters  store.Counters `json:"counters"`
	UpdatedAt int64          `json:"updated_at_ms"` // of the last commit, by the worker's clock
}

func (l *laneLine) name() string { return fmt.Sprintf("%s/%d", l.Topic, l.Partition) }

// lanesView is all lanes of a pipeline, and what follows from them.
type lanesView struct {
	Lanes     []laneLine
	Watermark int64 // least of the lanes that are not idle, ms; window.NoTime while one has none
	Open      int   // windows with events whose end lies beyond the watermark
	Waiting   int   // windows past their end that still take late events
}

// readLanes looks at every lane once.
func readLanes(ctx context.Context, srv *servers, s *spec.Spec) (lanesView, error) {
	plan, err := window.NewPlan(s)
	if err != nil {
		return lanesView{}, err
	}
	var tps []source.TopicPartition
	for _, topic := range s.Source.Topics {
		partitions, err := srv.cluster.Partitions(ctx, topic)
		if errors.Is(err, source.ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return lanesView{}, reached(ctx, err)
		}
		for _, p := range partitions {
			tps = append(tps, source.TopicPartition{Topic: topic, Partition: p})
		}
	}
	ends, err := srv.cluster.Ends(ctx, tps...)
	if err != nil {
		return lanesView{}, reached(ctx, err)
	}
	view := lanesView{Watermark: window.NoTime}
	windows := map[window.Ref]bool{}
	for _, tp := range tps {
		line, starts, err := readLane(ctx, srv.store, s, tp, ends[tp])
		if err != nil {
			return lanesView{}, reached(ctx, err)
		}
		view.Lanes = append(view.Lanes, line)
		for _, start := range starts {
			for _, ref := range plan.WindowsOf(start) {
				windows[ref] = true
			}
		}
	}
	view.Watermark = least(view.Lanes)
	for ref := range windows {
		switch {
		case plan.End(ref) > view.Watermark:
			view.Open++
		case plan.Deadline(ref) > view.Watermark:
			view.Waiting++
		}
	}
	return view, nil
}

// readLane also lists the starts of the slices the lane holds.
func readLane(ctx context.Context, st *store.Store, s *spec.Spec, tp source.TopicPartition, ends source.Ends) (laneLine, []int64, error) {
	line := laneLine{Topic: tp.Topic, Partition: tp.Partition, State: "new", Offset: store.NotStarted, End: ends.End}
	meta, stats, err := st.LaneView(ctx, store.LaneID{Pipeline: s.Name, Topic: tp.Topic, Partition: tp.Partition}, "")
	if errors.Is(err, store.ErrNoMeta) {
		line.Lag = ends.End - ends.Start
		return line, nil, nil
	}
	if err != nil {
		return line, nil, err
	}
	line.State, line.Epoch, line.Offset = "committed", meta.Owner.Epoch(), meta.Offset
	line.Lag = max(0, ends.End-max(meta.Offset, ends.Start))
	if meta.Watermark != store.NoTime {
		line.Watermark = &meta.Watermark
	}
	line.Idle = meta.IdleEnd != store.NotIdle && meta.IdleEnd == ends.End
	line.Counters, line.UpdatedAt = meta.Counters, meta.UpdatedAt
	line.Slices = len(stats)
	if meta.StateID != s.StateID() {
		line.Reason = "state of another spec (" + meta.StateID + ")"
		return line, nil, nil
	}
	starts := make([]int64, len(stats))
	for i := range stats {
		starts[i] = stats[i].Start
	}
	slices.Sort(starts)
	return line, slices.Compact(starts), nil
}

// least is the pipeline's watermark as the closer sees it: idle lanes do not hold it back, and when all are idle the
// greatest counts.
func least(lanes []laneLine) int64 {
	least, greatest, busy := int64(window.NoTime), int64(window.NoTime), 0
	for _, l := range lanes {
		mark := int64(window.NoTime)
		if l.Watermark != nil {
			mark = *l.Watermark
		}
		greatest = max(greatest, mark)
		if l.Idle {
			continue
		}
		if busy == 0 || mark < least {
			least = mark
		}
		busy++
	}
	if busy == 0 {
		return greatest
	}
	return least
}

// rates fills in what only two looks can tell.
func (v *lanesView) rates(before *lanesView, elapsed time.Duration) {
	if before == nil || elapsed <= 0 {
		return
	}
	earlier := make(map[string]int64, len(before.Lanes))
	for i := range before.Lanes {
		earlier[before.Lanes[i].name()] = before.Lanes[i].Counters.Read
	}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		if was, ok := earlier[l.name()]; ok && l.Counters.Read >= was {
			l.Rate = float64(l.Counters.Read-was) / elapsed.Seconds()
		}
	}
}

// totals sums the counters of all lanes.
func (v *lanesView) totals() store.Counters {
	var sum store.Counters
	for i := range v.Lanes {
		sum.Add(v.Lanes[i].Counters)
	}
	return sum
}

// sentence says what became of the records.
func sentence(c store.Counters) string {
	return fmt.Sprintf("%s read: %d folded, %d late, %d filtered, %d invalid, %d too far ahead",
		counted(int(c.Read), "record"), c.Folded, c.Late, c.Filtered, c.Invalid, c.Ahead)
}
