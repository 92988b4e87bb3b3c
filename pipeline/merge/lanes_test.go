package merge_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/page"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

const (
	minute = int64(60_000)
	// start is that of the windows; it is a whole hour.
	start = (foldtest.Early/(60*minute) + 1) * 60 * minute
)

// ref is the window that begins at start.
var ref = window.Ref{Start: start}

// world is a pipeline of lanes whose pages are held in memory, as the last commit of each left
// them.
type world struct {
	t     testing.TB
	spec  *spec.Spec
	plan  *window.Plan
	lanes []*lane

	mu    sync.Mutex
	reads map[string]int // of pages, by lane, slice and name
	calls int
	fail  func(id store.LaneID, p store.SlicePage) error // asked for each page that is read
}

// lane is a lane that is driven by hand.
type lane struct {
	w       *world
	program *fold.Program
	state   *fold.State
	id      store.LaneID
	offset  int64
	meta    store.Meta
	slices  map[store.SliceID]*store.SliceIndex
	values  map[string][]byte // of pages, by slice and name
}

// text is a spec whose windows are of an hour, in slices of 20 minutes.
func text() string {
	return strings.NewReplacer(
		"  - {name: minute, size: 1m}\n  - {name: five, size: 5m}\n", "  - {name: hour, size: 1h, slide: 20m}\n",
		"where: \"v != 13\"\n", "",
		"aggregates:\n", "aggregates:\n  first: {func: first, field: k}\n",
	).Replace(foldtest.Spec)
}

func newWorld(t testing.TB, text string, lanes int, limits fold.Limits) *world {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(text))
	require.NoError(t, err)
	plan, err := window.NewPlan(s)
	require.NoError(t, err)
	w := &world{t: t, spec: s, plan: plan, reads: make(map[string]int)}
	for i := range lanes {
		program, err := fold.Compile(s)
		require.NoError(t, err)
		program.Limit(limits)
		id := store.LaneID{Pipeline: s.Name, Topic: "orders", Partition: int32(i)}
		w.lanes = append(w.lanes, &lane{
			w: w, program: program, id: id, state: fold.NewState(program, id, "topic", 0, store.Cursor{}),
			meta:   store.Meta{Done: store.NoCommit},
			slices: make(map[store.SliceID]*store.SliceIndex), values: make(map[string][]byte),
		})
	}
	return w
}

// events folds one event of each key, minutes after start.
func (l *lane) events(at float64, keys ...string) {
	records := make([]source.Record, len(keys))
	for i, key := range keys {
		records[i] = foldtest.EventAt(l.offset, key, start+int64(at*float64(minute))+l.offset%97, l.offset)
		l.offset++
	}
	l.state.Fold(foldtest.Batch(records...))
}

// commit makes what was folded the lane's content.
func (l *lane) commit() {
	c := new(fold.Commit)
	l.state.Snapshot(c, fold.Control{SealBefore: store.NoTime, DropBefore: store.NoTime, IdleAt: -1, Pages: true})
	for _, call := range c.Calls {
		for _, p := range call.Pages {
			name, err := page.ParseName(p.Name)
			require.NoError(l.w.t, err)
			x := l.slices[p.Slice]
			if x == nil {
				x = &store.SliceIndex{}
				l.slices[p.Slice] = x
			}
			x.Pages = append(x.Pages, store.StoredPage{Name: name, Hash: p.Hash})
			l.values[p.Slice.String()+p.Name] = []byte(p.Value)
		}
		for _, d := range call.Delete {
			x := l.slices[d.Slice]
			x.Pages = slices.DeleteFunc(x.Pages, func(p store.StoredPage) bool {
				return slices.Contains(d.Names, p.String())
			})
		}
		if call.Meta != nil {
			l.meta.Offset, l.meta.Done, l.meta.Cursor = call.Meta.Offset, call.Next.Seq, call.Next
			for _, s := range call.Meta.Slices {
				l.slices[s.SliceID].SliceStat = s
			}
		}
	}
	l.state.Acknowledged(c)
}

func (w *world) view() *survey.View {
	v := &survey.View{}
	for _, l := range w.lanes {
		at := survey.Lane{ID: l.id, Found: true, Meta: l.meta, Slices: make(map[survey.SliceKey]store.SliceStat)}
		for id, x := range l.slices {
			at.Slices[survey.SliceKey{Start: id.Start, Gen: id.Gen}] = x.SliceStat
		}
		v.Lanes = append(v.Lanes, at)
	}
	return v
}

func (w *world) merger(workers, readAhead int) *merge.Merger {
	w.t.Helper()
	m, err := merge.New(merge.Config{
		Spec: w.spec, Plan: w.plan, Reader: w, Parallel: 2, ReadAhead: readAhead, Workers: workers,
	})
	require.NoError(w.t, err)
	return m
}

// open opens the window that begins at start.
func (w *world) open(workers, readAhead int) *merge.Opened {
	w.t.Helper()
	o, err := w.merger(workers, readAhead).Open(w.t.Context(), w.view(), ref)
	require.NoError(w.t, err)
	return o
}

// row is a row that is kept.
type row struct {
	key, values string
	hash        uint64
	digest      ledger.Digest
}

// collect appends batches to rows.
func collect(rows *[]row) func(*ledger.Rows) error {
	return func(r *ledger.Rows) error {
		for i, c := range r.Content {
			*rows = append(*rows, row{string(c.Key), string(c.Values), r.Hashes[i], r.Digests[i]})
		}
		return nil
	}
}

func (w *world) lane(id store.LaneID) *lane { return w.lanes[id.Partition] }

// ReadGuards implements merge.SliceReader.
func (w *world) ReadGuards(_ context.Context, ids ...store.LaneID) ([]store.Guard, error) {
	guards := make([]store.Guard, len(ids))
	for i, id := range ids {
		guards[i] = w.lane(id).meta.Guard()
	}
	return guards, nil
}

// LaneView implements merge.SliceReader.
func (w *world) LaneView(_ context.Context, id store.LaneID, _ string) (store.Meta, []store.SliceStat, error) {
	var stats []store.SliceStat
	for _, x := range w.lane(id).slices {
		stats = append(stats, x.SliceStat)
	}
	return w.lane(id).meta, stats, nil
}

// ReadSlice implements merge.SliceReader: no lane has fields.
func (w *world) ReadSlice(_ context.Context, id store.LaneID, _ string, _ store.SliceID, _, _ int,
	_ func(bucket int, key, entry []byte) error) (store.Guard, error) {
	return w.lane(id).meta.Guard(), nil
}

// Index implements merge.SliceReader.
func (w *world) Index(_ context.Context, id store.LaneID, _ string, spans store.Spans,
	_ []store.SliceStat) (store.LaneIndex, error) {
	l := w.lane(id)
	x := store.LaneIndex{Meta: l.meta}
	for id, s := range l.slices {
		if spans.Holds(id) {
			found := *s
			found.Pages = slices.Clone(s.Pages)
			slices.SortFunc(found.Pages, func(a, b store.StoredPage) int {
				if a.Place == b.Place {
					return strings.Compare(a.String(), b.String())
				}
				if a.Less(b.Place) {
					return 1
				}
				return -1
			})
			x.Slices = append(x.Slices, found)
		}
	}
	return x, nil
}

// ReadPages implements merge.SliceReader.
func (w *world) ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	l := w.lane(id)
	w.mu.Lock()
	w.calls++
	w.mu.Unlock()
	for i, wanted := range pages {
		if err := w.note(ctx, id, wanted); err != nil {
			return store.Guard{}, err
		}
		p, err := page.Parse(wanted.Name, stateID, l.values[wanted.Slice.String()+wanted.String()])
		if err != nil {
			return store.Guard{}, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
		}
		if err := fn(i, p); err != nil {
			return store.Guard{}, err
		}
	}
	return l.meta.Guard(), nil
}

func (w *world) note(ctx context.Context, id store.LaneID, p store.SlicePage) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads[fmt.Sprintf("%s %s %s", id, p.Slice, p.String())]++
	if w.fail != nil {
		if err := w.fail(id, p); err != nil {
			return err
		}
	}
	return ctx.Err()
}
