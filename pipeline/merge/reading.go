package merge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/parallel"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// part is one lane's share of one slice generation of a window, in merge order.
type part struct {
	lane    int // rank
	slice   store.SliceID
	folded  int64
	merged  int64 // events in the entries of the group being merged
	counted int64 // events in the entries of the groups that were emitted
}

// partsOf lists what a window merges, by slice, generation, topic and partition.
func (m *Merger) partsOf(v *survey.View, ref window.Ref) []part {
	var parts []part
	for _, r := range m.plan.SlicesOf(ref) {
		for gen := 0; gen <= r.MaxGen; gen++ {
			for i := range v.Lanes {
				if s, ok := v.Lanes[i].Slices[survey.SliceKey{Start: r.Start, Gen: gen}]; ok {
					parts = append(parts, part{lane: i, slice: s.SliceID, folded: s.Folded})
				}
			}
		}
	}
	return parts
}

// groupEvents bounds the events, and with them the entries, that the merge of one group of buckets may see. Small
// windows are read in one call per part, large ones bucket by bucket.
const groupEvents = 8 << 10

// groupSize is how many buckets are merged at a time.
func groupSize(parts []part, buckets int) int {
	events := int64(1)
	for i := range parts {
		events += parts[i].folded
	}
	return int(min(int64(buckets), max(1, int64(buckets)*groupEvents/events)))
}

// groupBytes bounds the bytes of entries, over all parts, that one group of several buckets may have. A group that turns
// out to have more is read again as smaller ones; nobody knows before how long the texts in the entries are.
const groupBytes = 8 << 20

// errWide is that a group of several buckets has more than groupBytes.
var errWide = errors.New("group of buckets is too wide")

// fetched is one group of buckets of one part, copied out of the store.
type fetched struct {
	part  int
	buf   []byte // key length, key, entry length, entry, ...
	stamp int64  // highest
	count int64
	err   error
}

// reading is the reading of one window under one view. Its fetches run in goroutines of their own; everything else runs in
// the goroutine of Window.
type reading struct {
	*Merger
	view  *survey.View
	parts []part
	from  int  // the first bucket that was not emitted
	group int  // buckets that are read and merged together
	exact bool // an entry newer than its lane's meta ends the reading
	ahead *AheadError
	table *agg.Table // of the group being merged
	bytes int        // of its entries
	free  sync.Pool  // of *fetched
}

// eachGroup fetches every group of buckets of every part, from the first bucket that was not emitted, and passes them to
// fn in order, group by group; last marks the last part of a group. Up to ReadAhead fetches are in flight at a time, and no
// more than a group needs.
func (r *reading) eachGroup(ctx context.Context, fn func(f *fetched, last bool) error) error {
	first := r.from
	n := len(r.parts) * ((r.spec.Lane.Buckets - first + r.group - 1) / r.group)
	pass := func(f *fetched) error {
		err := f.err
		if err == nil {
			err = fn(f, f.part == len(r.parts)-1)
		}
		r.free.Put(f)
		return err
	}
	if r.cfg.ReadAhead <= 1 {
		for k := range n {
			if err := pass(r.fetchGroup(ctx, first, k)); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	queue := make([]chan *fetched, min(n, r.cfg.ReadAhead, max(2, len(r.parts))))
	start := func(k int) {
		ch := queue[k%len(queue)]
		wg.Go(func() { ch <- r.fetchGroup(ctx, first, k) })
	}
	for k := range queue {
		queue[k] = make(chan *fetched, 1)
		start(k)
	}
	for k := range n {
		if err := pass(<-queue[k%len(queue)]); err != nil {
			return err
		}
		if next := k + len(queue); next < n {
			start(next)
		}
	}
	return nil
}

// fetchGroup reads of part k % parts the group k / parts, counted from the bucket first.
func (r *reading) fetchGroup(ctx context.Context, first, k int) *fetched {
	f, ok := r.free.Get().(*fetched)
	if !ok {
		f = new(fetched)
	}
	*f = fetched{part: k % len(r.parts), buf: f.buf[:0]}
	p := &r.parts[f.part]
	l := &r.view.Lanes[p.lane]
	from := first + k/len(r.parts)*r.group
	to := min(from+r.group, r.spec.Lane.Buckets)
	guard, err := r.cfg.Reader.ReadSlice(ctx, l.ID, r.stateID, p.slice, from, to, func(_ int, key, entry []byte) error {
		_, stamp, count, err := agg.EntryHeader(entry)
		if err != nil {
			return err
		}
		f.stamp = max(f.stamp, stamp)
		f.count += count
		f.buf = append(binary.AppendUvarint(f.buf, uint64(len(key))), key...)
		f.buf = append(binary.AppendUvarint(f.buf, uint64(len(entry))), entry...)
		if len(f.buf) > groupBytes && to-from > 1 {
			return errWide
		}
		return nil
	})
	switch {
	case errors.Is(err, errWide):
		f.err = err
	case errors.Is(err, store.ErrLaneMoved), errors.Is(err, store.ErrNoMeta):
		f.err = fmt.Errorf("lane %s: %w: %w", l.ID, ErrMoved, err)
	case errors.Is(err, agg.ErrEntryCorrupt):
		f.err = &CorruptError{Lane: l, Slice: p.slice, Err: err}
	case err != nil:
		f.err = fmt.Errorf("lane %s, slice %s, buckets %d to %d: %w", l.ID, p.slice, from, to-1, err)
	case !guard.Follows(l.Meta.Guard()):
		f.err = fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
	}
	return f
}

// mergeGroup folds a fetched group into the table.
func (r *reading) mergeGroup(f *fetched) error {
	p := &r.parts[f.part]
	l := &r.view.Lanes[p.lane]
	if r.bytes += len(f.buf); r.bytes > groupBytes && r.group > 1 {
		return errWide
	}
	p.merged = f.count
	if f.stamp > l.Meta.Offset && r.ahead == nil {
		r.ahead = &AheadError{Lane: l.ID, Slice: p.slice, Stamp: f.stamp, Meta: l.Meta.Offset}
		if r.exact {
			return r.ahead
		}
	}
	for rest := f.buf; len(rest) > 0; {
		key, tail := cutField(rest)
		entry, tail := cutField(tail)
		err := r.table.MergeEntry(key, entry, int32(p.lane))
		if errors.Is(err, agg.ErrEntryCorrupt) {
			return &CorruptError{Lane: l, Slice: p.slice, Err: err}
		}
		if err != nil {
			return fmt.Errorf("lane %s, slice %s: %w", l.ID, p.slice, err)
		}
		rest = tail
	}
	return nil
}

// emitGroup renders the merged group, which makes it count.
func (r *reading) emitGroup(rows *rowRenderer, emit func(ledger.Content) error) error {
	if err := rows.render(r.table, emit); err != nil {
		return err
	}
	for i := range r.parts {
		r.parts[i].counted += r.parts[i].merged
	}
	r.from += r.group
	r.table.Reset()
	r.bytes = 0
	return nil
}

// narrow drops what was merged of a group that is too wide, and lets it be read as smaller ones.
func (r *reading) narrow() {
	r.group = max(1, r.group/2)
	r.table.Reset()
	r.bytes = 0
}

// merged lists the lanes that have a share of the window.
func (r *reading) merged() []*survey.Lane {
	seen := make(map[int]struct{}, len(r.view.Lanes))
	var lanes []*survey.Lane
	for i := range r.parts {
		n := r.parts[i].lane
		if _, ok := seen[n]; !ok {
			seen[n] = struct{}{}
			lanes = append(lanes, &r.view.Lanes[n])
		}
	}
	return lanes
}

// Prove reads the metas of lanes of a view once more: with the same owners and nothing gone backwards, what was read since the
// view belongs to it. ErrMoved otherwise.
func (m *Merger) Prove(ctx context.Context, lanes []*survey.Lane) error {
	return parallel.Do(ctx, m.cfg.Parallel, len(lanes), func(ctx context.Context, i int) error {
		l := lanes[i]
		meta, found, err := m.cfg.Reader.ReadMeta(ctx, l.ID)
		if err != nil {
			return fmt.Errorf("lane %s: %w", l.ID, err)
		}
		if found != l.Found || found && !meta.Guard().Follows(l.Meta.Guard()) {
			return fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
		}
		return nil
	})
}

// countEvents compares the events in the entries with the events folded. Entries newer than their meta hold events that the
// meta does not count yet, so such a reading can only be too high.
func (r *reading) countEvents(ctx context.Context) (events int64, err error) {
	for i := range r.parts {
		p := &r.parts[i]
		events += p.counted
		if p.counted == p.folded || r.ahead != nil && p.counted > p.folded {
			continue
		}
		return 0, r.mismatch(ctx, p)
	}
	return events, nil
}

// mismatch distinguishes entries that are missing from a slice that its lane dropped meanwhile, because another closer has
// made the window final.
func (r *reading) mismatch(ctx context.Context, p *part) error {
	id := r.view.Lanes[p.lane].ID
	_, stats, err := r.cfg.Reader.LaneView(ctx, id, r.stateID)
	if err != nil {
		return fmt.Errorf("lane %s: %w", id, err)
	}
	for _, s := range stats {
		if s.SliceID == p.slice && s.Folded == p.folded {
			return &MissingError{Lane: &r.view.Lanes[p.lane], Slice: p.slice, Entries: p.counted, Folded: p.folded}
		}
	}
	return fmt.Errorf("lane %s: slice %s: %w", id, p.slice, ErrMoved)
}

func cutField(b []byte) (field, rest []byte) {
	n, w := binary.Uvarint(b)
	return b[w : w+int(n)], b[w+int(n):]
}
