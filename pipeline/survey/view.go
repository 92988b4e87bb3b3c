package survey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/parallel"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// View is one look at all lanes of a pipeline. It is immutable once taken.
type View struct {
	Lanes     []Lane // by topic and partition: the index is the lane's rank in merges
	Watermark int64  // the pipeline's, ms; window.NoTime while a lane gives none
	Holder    int    // index of the lane that holds the watermark back, -1 when there are no lanes
	Why       string // what the holder waits for
}

// Lane is a lane's meta and slices, read together.
type Lane struct {
	ID     store.LaneID
	Found  bool // the lane has a meta that can be read
	Meta   store.Meta
	Loss   error                        // a part of the lane's state is gone from Redis: store.ErrPartialLoss
	Bad    error                        // why the lane's state cannot be read, with Config.Lenient
	Slices map[SliceKey]store.SliceStat // with events; of the spec's own state only
	Held   int                          // slices that the lane holds, of whatever spec
	Ctl    store.Ctl
	Idle   bool        // left out: nothing waits for it in the log that could move its watermark
	Gone   bool        // its topic was deleted and made again: what it holds is of a log that is not there any more
	Ends   source.Ends // asked for when the lane claims to be idle, or Config.Lenient
	Why    string      // what the lane waits for, "" when it only reads
}

// SliceKey is a slice generation of the spec's width.
type SliceKey struct {
	Start int64 // ms
	Gen   int
}

// Passed is what the lane's lateness is decided with: no event it folds from now on belongs to a window whose deadline
// is at or before it.
func (l *Lane) Passed() int64 {
	if !l.Found || l.Gone {
		return window.NoTime
	}
	return max(l.Meta.Watermark, l.Meta.Sealed)
}

// Sealed reports whether every lane's committed state has passed a deadline. Nothing can change such a window any more.
func (v *View) Sealed(deadline int64) bool {
	for i := range v.Lanes {
		if v.Lanes[i].Passed() < deadline {
			return false
		}
	}
	return len(v.Lanes) > 0
}

// Dropped reports whether the lanes were told that a window of this deadline is final.
func (v *View) Dropped(deadline int64) bool {
	for i := range v.Lanes {
		if v.Lanes[i].Ctl.DropBefore >= deadline {
			return true
		}
	}
	return false
}

// Take reads the partition lists, then the lanes, then the broker's ends of those that claim to be idle: in this order,
// and never from a cache.
func Take(ctx context.Context, cfg Config) (*View, error) {
	ids, topicIDs, err := cfg.lanes(ctx)
	if err != nil {
		return nil, err
	}
	v := &View{Lanes: make([]Lane, len(ids)), Watermark: window.NoTime, Holder: -1}
	err = parallel.Do(ctx, cfg.Parallel, len(ids), func(ctx context.Context, i int) error {
		err := cfg.readLane(ctx, ids[i], &v.Lanes[i])
		if cfg.Lenient && store.Unreadable(err) {
			v.Lanes[i] = Lane{ID: ids[i], Bad: err, Why: "its state cannot be read"}
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	ctls, err := cfg.State.ReadCtl(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("read requests of the lanes: %w", err)
	}
	for i := range ctls {
		v.Lanes[i].Ctl = ctls[i]
	}
	for i := range v.Lanes {
		v.Lanes[i].compareTopic(topicIDs[v.Lanes[i].ID.Topic])
	}
	if err := cfg.proveIdle(ctx, v); err != nil {
		return nil, err
	}
	v.findWatermark()
	return v, nil
}

// lanes lists the lanes by topic and partition, as the cluster has them now, and the ids of the topics.
func (c *Config) lanes(ctx context.Context) (ids []store.LaneID, topicIDs map[string]string, err error) {
	topicIDs = make(map[string]string)
	for _, topic := range slices.Compact(slices.Sorted(slices.Values(c.Spec.Source.Topics))) {
		found, err := c.Topics.Topic(ctx, topic)
		if c.Lenient && errors.Is(err, source.ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("partitions of topic %s: %w", topic, err)
		}
		topicIDs[topic] = found.ID
		for _, p := range found.Partitions {
			ids = append(ids, store.LaneID{Pipeline: c.Spec.Name, Topic: topic, Partition: p})
		}
	}
	return ids, topicIDs, nil
}

// compareTopic finds lanes whose log is gone. Such a lane holds every window open, also those that it passed before: a topic
// that was made again with fewer partitions has fewer lanes, and what the others had folded would be missing.
func (l *Lane) compareTopic(id string) {
	if l.Gone = l.Gone || l.Found && l.Meta.TopicID != "" && id != "" && l.Meta.TopicID != id; l.Gone {
		l.Why = "its topic was deleted and made again"
	}
}

func (c *Config) readLane(ctx context.Context, id store.LaneID, l *Lane) error {
	*l = Lane{ID: id}
	stateID := c.Spec.StateID()
	if c.Lenient {
		stateID = "" // of any spec
	}
	meta, stats, err := c.State.LaneView(ctx, id, stateID)
	if errors.Is(err, store.ErrNoMeta) {
		l.Why = "it has committed nothing yet"
		return nil
	}
	if err != nil {
		return fmt.Errorf("lane %s: %w", id, err)
	}
	l.Found, l.Meta, l.Held = true, meta, len(stats)
	l.Loss = meta.CheckBalance(id, stats)
	if meta.Offset < 0 {
		l.Why = "it has committed nothing yet"
	}
	if meta.StateID != c.Spec.StateID() {
		l.Why = "its state is of another spec (" + meta.StateID + ")"
		return nil
	}
	l.Slices = make(map[SliceKey]store.SliceStat, len(stats))
	for _, s := range stats {
		if s.Width != c.Plan.Width {
			return fmt.Errorf("lane %s: %w: slice %s is %d ms wide, the spec's are %d ms",
				id, store.ErrCorrupt, s.SliceID, s.Width, c.Plan.Width)
		}
		if s.Folded > 0 {
			l.Slices[SliceKey{s.Start, s.Gen}] = s
		}
	}
	return nil
}

// Waiting describes what the watermark waits for.
func (v *View) Waiting() (w report.Waiting) {
	if v.Watermark != window.NoTime {
		w.Watermark = v.Watermark
	}
	if v.Holder < 0 {
		w.For = v.watermarkText() + ": the source topics have no partitions"
		return w
	}
	v.WaitFor(&w, v.Lanes[v.Holder].ID, v.Why)
	return w
}

// WaitFor says in w that the pipeline waits for a lane, and why.
func (v *View) WaitFor(w *report.Waiting, lane store.LaneID, why string) {
	w.Lane = report.LaneRef{Topic: lane.Topic, Partition: lane.Partition}.String()
	w.For = fmt.Sprintf("%s: lane %s: %s", v.watermarkText(), lane, why)
}

// watermarkText says where the watermark is.
func (v *View) watermarkText() string {
	if v.Watermark == window.NoTime {
		return "there is no watermark yet"
	}
	return "the watermark is " + window.FormatTime(v.Watermark)
}

// Furthest is the greatest watermark of a lane, ms; window.NoTime while none has one.
func (v *View) Furthest() int64 {
	furthest := int64(window.NoTime)
	for i := range v.Lanes {
		if l := &v.Lanes[i]; l.Found && !l.Gone {
			furthest = max(furthest, l.Meta.Watermark)
		}
	}
	return furthest
}

// Open lists the windows that at least one lane has events of, by deadline.
func (v *View) Open(plan *window.Plan) []window.Ref {
	lowest := make(map[int64]int) // slice start -> lowest generation
	for i := range v.Lanes {
		for k := range v.Lanes[i].Slices {
			if gen, ok := lowest[k.Start]; !ok || k.Gen < gen {
				lowest[k.Start] = k.Gen
			}
		}
	}
	seen := make(map[window.Ref]struct{})
	for start, gen := range lowest {
		for _, ref := range WindowsFrom(plan, start, gen) {
			seen[ref] = struct{}{}
		}
	}
	refs := make([]window.Ref, 0, len(seen))
	for ref := range seen {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b window.Ref) int {
		return cmp.Or(cmp.Compare(plan.Deadline(a), plan.Deadline(b)), cmp.Compare(a.Window, b.Window))
	})
	return refs
}

// WindowsFrom lists the windows that merge generation gen of a slice: those that have at least gen deadlines of the slice
// strictly before their own.
func WindowsFrom(plan *window.Plan, start int64, gen int) []window.Ref {
	refs := plan.WindowsOf(start)
	before := 0 // windows with a deadline strictly before that of refs[i]
	for i := range refs {
		if i > 0 && plan.Deadline(refs[i]) > plan.Deadline(refs[i-1]) {
			before = i
		}
		if before >= gen {
			return refs[i:]
		}
	}
	return nil
}

// Share sums up what the lane folded into the slice generations that a window merges; first is the one with the first
// event, nil without one.
func (l *Lane) Share(ranges []window.SliceRange) (first *store.SliceStat, lastOffset, folded int64) {
	lastOffset = -1
	if len(l.Slices) == 0 {
		return nil, lastOffset, 0
	}
	add := func(s store.SliceStat) {
		lastOffset = max(lastOffset, s.LastOffset)
		folded += s.Folded
		if first == nil || s.FirstOffset < first.FirstOffset {
			kept := s // s itself would be on the heap for each slice
			first = &kept
		}
	}
	most := 0
	for _, r := range ranges {
		most += r.MaxGen + 1
	}
	if most > len(l.Slices) { // long windows that overlap merge many generations, of which a lane has few
		for k, s := range l.Slices {
			i, ok := slices.BinarySearchFunc(ranges, k.Start, func(r window.SliceRange, start int64) int {
				return cmp.Compare(r.Start, start)
			})
			if ok && k.Gen <= ranges[i].MaxGen {
				add(s)
			}
		}
		return first, lastOffset, folded
	}
	for _, r := range ranges {
		for gen := 0; gen <= r.MaxGen; gen++ {
			if s, ok := l.Slices[SliceKey{r.Start, gen}]; ok {
				add(s)
			}
		}
	}
	return first, lastOffset, folded
}
