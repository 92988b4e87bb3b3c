package result

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// view is one look at all lanes of the pipeline. It is immutable once taken.
type view struct {
	lanes     []laneView // by topic and partition: the index is the lane's rank in merges
	watermark int64      // the pipeline's, ms; window.NoTime while a lane gives none
	holder    int        // index of the lane that holds the watermark back, -1 when there are no lanes
	why       string     // what the holder waits for
	resultID  string     // of the result topic; "" when there is none or it is not known
}

// laneView is a lane's meta and slices, read together.
type laneView struct {
	id     store.LaneID
	found  bool // the lane has a meta
	meta   store.Meta
	slices map[sliceKey]store.SliceStat
	ctl    store.Ctl
	idle   bool // left out: proved by the broker in this look
	why    string
}

type sliceKey struct {
	start int64
	gen   int
}

// passed is what the lane's lateness is decided with: no event it folds from now on belongs to a window whose deadline
// is at or before it.
func (l *laneView) passed() int64 {
	if !l.found {
		return window.NoTime
	}
	return max(l.meta.Watermark, l.meta.Sealed)
}

// sealed tells whether every lane's committed state has passed a deadline. Nothing can change such a window any more.
func (v *view) sealed(deadline int64) bool {
	for i := range v.lanes {
		if v.lanes[i].passed() < deadline {
			return false
		}
	}
	return len(v.lanes) > 0
}

// dropped tells whether the lanes were told that a window of this deadline is final.
func (v *view) dropped(deadline int64) bool {
	for i := range v.lanes {
		if v.lanes[i].ctl.DropBefore >= deadline {
			return true
		}
	}
	return false
}

// look reads the partition lists, then the lanes, then the broker's ends of those that claim to be idle.
func (c *Closer) look(ctx context.Context) (*view, error) {
	ids, err := c.lanes(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{lanes: make([]laneView, len(ids)), watermark: window.NoTime, holder: -1}
	err = parallel(ctx, c.cfg.Parallel, len(ids), func(ctx context.Context, i int) error {
		return c.readLane(ctx, ids[i], &v.lanes[i])
	})
	if err != nil {
		return nil, err
	}
	ctls, err := c.cfg.State.ReadCtl(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("read requests of the lanes: %w", err)
	}
	for i := range ctls {
		v.lanes[i].ctl = ctls[i]
	}
	if err := c.proveIdle(ctx, v); err != nil {
		return nil, err
	}
	if sink := c.cfg.Spec.Results.Kafka; sink != nil {
		// A topic that is not there shows when something is published.
		v.resultID, _ = c.cfg.Kafka.TopicID(ctx, sink.Topic)
	}
	v.settle()
	return v, nil
}

// lanes lists the lanes by topic and partition, as the cluster has them now.
func (c *Closer) lanes(ctx context.Context) ([]store.LaneID, error) {
	var ids []store.LaneID
	for _, topic := range c.topics {
		partitions, err := c.cfg.Kafka.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("partitions of topic %s: %w", topic, err)
		}
		partitions = slices.Sorted(slices.Values(partitions))
		for _, p := range partitions {
			ids = append(ids, store.LaneID{Pipeline: c.cfg.Spec.Name, Topic: topic, Partition: p})
		}
	}
	return ids, nil
}

func (c *Closer) readLane(ctx context.Context, id store.LaneID, l *laneView) error {
	*l = laneView{id: id}
	meta, stats, err := c.cfg.State.LaneView(ctx, id, c.stateID)
	if errors.Is(err, store.ErrNoMeta) {
		l.why = "it has committed nothing yet"
		return nil
	}
	if err != nil {
		return fmt.Errorf("lane %s: %w", id, err)
	}
	l.found, l.meta = true, meta
	if meta.Offset < 0 {
		l.why = "it has committed nothing yet"
	}
	l.slices = make(map[sliceKey]store.SliceStat, len(stats))
	for _, s := range stats {
		if s.Width != c.plan.Width {
			return fmt.Errorf("lane %s: slice %s is %d ms wide, the spec's are %d ms", id, s.SliceID, s.Width, c.plan.Width)
		}
		if s.Folded > 0 {
			l.slices[sliceKey{s.Start, s.Gen}] = s
		}
	}
	return nil
}

// proveIdle asks the brokers for the ends of all lanes that claim to be idle. The claim was read before, so a lane that
// is idle at the end found now has no event waiting.
func (c *Closer) proveIdle(ctx context.Context, v *view) error {
	var tps []source.TopicPartition
	for i := range v.lanes {
		if l := &v.lanes[i]; l.found && l.meta.IdleEnd >= 0 {
			tps = append(tps, source.TopicPartition{Topic: l.id.Topic, Partition: l.id.Partition})
		}
	}
	if len(tps) == 0 {
		return nil
	}
	ends, err := c.cfg.Kafka.Ends(ctx, tps...)
	if err != nil {
		return fmt.Errorf("end offsets of idle lanes: %w", err)
	}
	for i := range v.lanes {
		l := &v.lanes[i]
		if !l.found || l.meta.IdleEnd < 0 {
			continue
		}
		id, err := c.cfg.Kafka.TopicID(ctx, l.id.Topic)
		if err != nil {
			return fmt.Errorf("id of topic %s: %w", l.id.Topic, err)
		}
		if l.meta.TopicID != "" && id != "" && l.meta.TopicID != id {
			l.why = "its topic was deleted and made again"
			continue
		}
		end, ok := ends[source.TopicPartition{Topic: l.id.Topic, Partition: l.id.Partition}]
		// The high watermark, not the last stable offset: records of a transaction that is still open lie between the two.
		if l.idle = ok && end.HighWatermark == l.meta.IdleEnd && l.meta.Offset >= 0; !l.idle {
			l.why = fmt.Sprintf("it was idle at offset %d, the log ends at %d", l.meta.IdleEnd, end.HighWatermark)
		}
	}
	return nil
}

// settle finds the pipeline's watermark: the lowest of the lanes that are not idle, the greatest when all are.
func (v *view) settle() {
	idle := true
	for i := range v.lanes {
		l := &v.lanes[i]
		if l.idle {
			continue
		}
		mark := int64(window.NoTime)
		if l.found {
			mark = l.meta.Watermark
		}
		if idle || mark < v.watermark {
			v.watermark, v.holder = mark, i
			v.why = cmp.Or(l.why, "its watermark is the lowest")
			if l.why == "" && mark == window.NoTime {
				v.why = "it has seen no event and is not proved idle"
			}
		}
		idle = false
	}
	if !idle {
		return
	}
	for i := range v.lanes {
		if l := &v.lanes[i]; v.holder < 0 || l.meta.Watermark > v.watermark {
			v.watermark, v.holder, v.why = l.meta.Watermark, i, "all lanes are idle"
		}
	}
}

// waiting describes what the watermark waits for.
func (v *view) waiting() Waiting {
	w := Waiting{Watermark: v.watermark, Why: v.why}
	if v.holder >= 0 {
		w.Lane = v.lanes[v.holder].id.String()
	} else {
		w.Why = "the source topics have no partitions"
	}
	return w
}

// open lists the windows that at least one lane has events of, by deadline.
func (c *Closer) open(v *view) []window.Ref {
	lowest := make(map[int64]int) // slice start -> lowest generation
	for i := range v.lanes {
		for k := range v.lanes[i].slices {
			if gen, ok := lowest[k.start]; !ok || k.gen < gen {
				lowest[k.start] = k.gen
			}
		}
	}
	seen := make(map[window.Ref]struct{})
	for start, gen := range lowest {
		for _, ref := range c.windowsFrom(start, gen) {
			seen[ref] = struct{}{}
		}
	}
	refs := make([]window.Ref, 0, len(seen))
	for ref := range seen {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b window.Ref) int {
		return cmp.Or(cmp.Compare(c.plan.Deadline(a), c.plan.Deadline(b)), cmp.Compare(a.Window, b.Window))
	})
	return refs
}

// windowsFrom lists the windows that merge generation gen of a slice: those that have at least gen deadlines of the slice
// strictly before their own.
func (c *Closer) windowsFrom(start int64, gen int) []window.Ref {
	refs := c.plan.WindowsOf(start)
	before := 0 // windows with a deadline strictly before that of refs[i]
	for i := range refs {
		if i > 0 && c.plan.Deadline(refs[i]) > c.plan.Deadline(refs[i-1]) {
			before = i
		}
		if before >= gen {
			return refs[i:]
		}
	}
	return nil
}
