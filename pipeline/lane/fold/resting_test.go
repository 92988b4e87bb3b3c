package fold

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/page"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// everyKind are aggregates of all functions and types.
const everyKind = `
aggregates:
  n:  {func: count}
  si: {func: sum, field: v, type: int}
  sf: {func: sum, field: f, type: float}
  ai: {func: avg, field: v, type: int}
  af: {func: avg, field: f, type: float}
  li: {func: min, field: v, type: int}
  lf: {func: min, field: f, type: float}
  gi: {func: max, field: v, type: int}
  gf: {func: max, field: f, type: float}
  a:  {func: first, field: s, type: any}
  z:  {func: last, field: s, type: any}
`

// wideProgram has every kind of aggregate, slices that stay open for long, and small pages.
func wideProgram(t *testing.T) *Program {
	before, rest, _ := strings.Cut(foldtest.Spec, "\naggregates:")
	_, after, _ := strings.Cut(rest, "\nwindows:")
	parsed, err := spec.Parse("orders.yaml", []byte(before+everyKind+"windows:"+after))
	require.NoError(t, err)
	parsed.AllowedLateness *= 30
	p, err := Compile(parsed)
	require.NoError(t, err)
	p.Limit(Limits{Page: 400, Call: 3000, Deltas: 5, Merge: 2000, Spread: 4000, Deletes: 8})
	return p
}

// wideLog makes events of every kind of value, most of them recent.
func wideLog(r *rand.Rand, from int64, clock *int64, n int) *source.Batch {
	log := make([]source.Record, n)
	for i := range log {
		*clock += r.Int64N(3_000)
		at := *clock - r.Int64N(20_000)
		if r.IntN(20) == 0 {
			at -= r.Int64N(600_000)
		}
		s := []string{"null", "true", "-7", "1.25", `"short"`, `"a text that does not fit its row"`, "123456789012345678901"}[r.IntN(7)]
		f := []string{"null", "0.1", "-2.5e300", "3e-200", "17"}[r.IntN(5)]
		log[i] = foldtest.Record(from+int64(i), fmt.Sprintf(`{"k":"key-%d%s","t":%d,"v":%d,"f":%s,"s":%s}`,
			r.IntN(40), strings.Repeat("x", r.IntN(2)*20), at, r.Int64N(1_000_000)-500_000, f, s))
	}
	return foldtest.Batch(log...)
}

// naiveContent reads a slice of the shelf by definition: of each key the entry of the highest place, and what fields hold of
// the others.
func (h *shelf) naiveContent(p *Program, id store.SliceID) map[string]string {
	entries, places := map[string]string{}, map[string]page.Place{}
	for text, value := range h.slices[id].pages {
		name, err := page.ParseName(text)
		require.NoError(h.t, err)
		got, err := page.Parse(name, p.StateID, []byte(value))
		require.NoError(h.t, err)
		for i := range got.Len() {
			key, entry := got.Entry(i)
			if held, ok := places[string(key)]; !ok || held.Less(name.Place) {
				entries[string(key)], places[string(key)] = string(entry), name.Place
			}
		}
	}
	for key, entry := range h.slices[id].fields {
		if _, ok := entries[key]; !ok && !h.slices[id].stat.Paged {
			entries[key] = entry
		}
	}
	content := map[string]string{}
	for key, entry := range entries {
		one := p.layout.NewTable()
		require.NoError(h.t, one.LoadEntry([]byte(key), []byte(entry)))
		content[key] = string(one.AppendUnstamped(one.AppendValues(nil, 0), 0))
	}
	return content
}

// requireNaive holds the rows of a state against what the shelf has by definition.
func requireNaive(t *testing.T, h *shelf, s *State) {
	t.Helper()
	entries := 0
	s.EachSlice(func(stat store.SliceStat, table *agg.Table) {
		got, events := map[string]string{}, int64(0)
		for row := range uint32(table.Len()) {
			got[string(table.Key(row))] = string(table.AppendUnstamped(table.AppendValues(nil, row), row))
			events += table.Count(row)
		}
		require.Equal(t, h.naiveContent(s.program, stat.SliceID), got)
		require.Equal(t, stat.Folded, events)
		require.Empty(t, table.Dirty())
		entries += table.Len()
	})
	require.Equal(t, s.Entries(), entries)
}

// Whatever a lane has committed, and whether its slices rest or are made rows of at once, it comes back as what Redis holds by
// definition, and goes on with the very same commits.
func TestASliceThatRestsIsTheSliceThatItWas(t *testing.T) {
	rested, woken := 0, 0
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 5))
		p, clock := wideProgram(t), foldtest.Early
		h, s := newShelf(t), NewState(wideProgram(t), testLane, "id", 0, store.Cursor{})
		pages, c := r.IntN(3) > 0, &Commit{}
		for range 8 {
			for range 1 + r.IntN(6) {
				s.Fold(wideLog(r, s.offset, &clock, r.IntN(80)))
				s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none, Pages: pages, DeleteUpTo: s.cursor.Seq - r.Int64N(4)})
				h.put(c)
				s.Acknowledged(c)
			}
			pages = pages || r.IntN(3) == 0

			asleep, sum, err := h.load(p)
			require.NoError(t, err)
			awake, again, err := h.loadAwake(wideProgram(t))
			require.NoError(t, err)
			require.Equal(t, sum, again)
			requireNaive(t, h, awake)
			require.Equal(t, awake.Entries(), asleep.Entries())
			resting := restingSlices(asleep)
			require.Empty(t, restingSlices(awake))
			for _, sl := range resting {
				require.GreaterOrEqual(t, sl.bytes(), int64(sl.stored()))
			}
			rested += len(resting)

			goOnAlike(t, r, h, asleep, awake, &clock)
			woken += len(resting) - len(restingSlices(asleep))
			requireNaive(t, h, asleep)
			require.Equal(t, awake.Entries(), asleep.Entries())
			s, p = asleep, s.program
		}
	}
	require.Greater(t, rested, 30)
	require.Greater(t, woken, 10)
}

func restingSlices(s *State) (resting []*slice) {
	for _, sl := range s.slices {
		if sl.resting != nil {
			resting = append(resting, sl)
		}
	}
	return resting
}

// goOnAlike lets two states go on with the same records and demands the same commits, which go onto the shelf.
func goOnAlike(t *testing.T, r *rand.Rand, h *shelf, a, b *State, clock *int64) {
	t.Helper()
	ca, cb := &Commit{}, &Commit{}
	for range r.IntN(4) {
		batch := wideLog(r, a.offset, clock, r.IntN(30))
		a.Fold(batch)
		b.Fold(batch)
		if r.IntN(4) == 0 {
			found := h.index()
			if r.IntN(2) == 0 {
				found.Slices = found.Slices[:r.IntN(len(found.Slices)+1)]
				found.Meta.Balance.Known = r.IntN(2) == 0
			}
			for _, x := range h.index().Slices[len(found.Slices):] {
				delete(h.slices, x.SliceID)
			}
			a.Reseed(ca, found)
			b.Reseed(cb, found)
		} else {
			ctl := Control{IdleAt: -1, SealBefore: none, DropBefore: none, Pages: a.paged || r.IntN(3) == 0, DeleteUpTo: a.cursor.Seq - r.Int64N(3)}
			if r.IntN(3) == 0 {
				ctl.DropBefore = a.committed
			}
			if r.IntN(6) == 0 {
				ctl.Rewrite = a.cursor.Seq
			}
			a.Snapshot(ca, ctl)
			b.Snapshot(cb, ctl)
		}
		sortSlices(ca)
		sortSlices(cb)
		require.Equal(t, cb.Calls, ca.Calls)
		h.put(ca)
		a.Acknowledged(ca)
		b.Acknowledged(cb)
	}
	require.NoError(t, a.Lost())
}

// Redis may go back behind the commits whose pages rest in a lane: what it forgot is written again, and no more.
func TestWhatRestsIsWrittenAgainWhenRedisGoesBack(t *testing.T) {
	again := 0
	for seed := range uint64(8) {
		r, p, clock := rand.New(rand.NewPCG(seed, 6)), wideProgram(t), foldtest.Early
		h, s, c := newShelf(t), NewState(wideProgram(t), testLane, "id", 0, store.Cursor{}), &Commit{}
		commit := func(n int) {
			s.Fold(wideLog(r, s.offset, &clock, n))
			s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none, Pages: true})
			h.put(c)
			s.Acknowledged(c)
		}
		for range 4 {
			commit(200)
		}
		before := h.clone()
		commit(40)
		asleep, _, err := h.load(p)
		require.NoError(t, err)
		for _, sl := range restingSlices(asleep) {
			if newest := sl.resting.pages[0]; newest.Name.Seq > before.meta.Done {
				again += newest.Len()
			}
		}
		asleep.Reseed(c, before.index())
		require.Less(t, c.Entries, asleep.Entries())
		before.put(c)
		requireNaive(t, before, asleep)
		_, _, err = before.load(wideProgram(t))
		require.NoError(t, err)
	}
	require.Greater(t, again, 10)
}

// sortSlices brings what a commit says of slices into one order: it comes out of a map.
func sortSlices(c *Commit) {
	for i := range c.Calls {
		slices.SortFunc(c.Calls[i].Drop, func(x, y store.SliceDrop) int { return strings.Compare(x.String(), y.String()) })
		if m := c.Calls[i].Meta; m != nil {
			slices.SortFunc(m.Slices, func(x, y store.SliceStat) int { return strings.Compare(x.String(), y.String()) })
		}
	}
}

// An entry that cannot be read is refused when the lane is restored, also in a slice that would rest, and so is a slice of
// which a page is gone.
func TestWhatIsWrongWithASliceThatRestsShowsAtTheRestore(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(entry []byte) []byte // nil: the page is gone
		want  error
	}{
		{"corrupt", func(entry []byte) []byte { return entry[:len(entry)-1] }, agg.ErrEntryCorrupt},
		{"newer", func(entry []byte) []byte { return append([]byte{entry[0] + 1}, entry[1:]...) }, agg.ErrEntryVersion},
		{"gone", nil, store.ErrPartialLoss},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, p, clock := rand.New(rand.NewPCG(1, 1)), wideProgram(t), foldtest.Early
			h, s, commit := newShelf(t), NewState(wideProgram(t), testLane, "id", 0, store.Cursor{}), &Commit{}
			for range 3 {
				s.Fold(wideLog(r, s.offset, &clock, 200))
				s.Snapshot(commit, Control{IdleAt: -1, SealBefore: none, DropBefore: none, Pages: true})
				h.put(commit)
			}
			sound, _, err := h.load(p)
			require.NoError(t, err)
			resting := restingSlices(sound)
			require.NotEmpty(t, resting)
			sl := h.slices[resting[0].stat.SliceID]
			newest := resting[0].resting.pages[0]
			value := sl.pages[newest.Name.String()]
			delete(sl.pages, newest.Name.String())
			if c.spoil != nil {
				name, spoilt := spoilPage(p, newest, c.spoil)
				require.Len(t, value, newest.Name.Bytes)
				sl.pages[name] = spoilt
			}
			_, _, err = h.load(p)
			require.ErrorIs(t, err, c.want)
		})
	}
}

// spoilPage writes a page again with another last entry.
func spoilPage(p *Program, old *page.Page, spoil func(entry []byte) []byte) (name, value string) {
	var w page.Writer
	out := w.Begin(nil, p.StateID, old.Name.Offset)
	for i := range old.Len() {
		key, entry := old.Entry(i)
		if i == old.Len()-1 {
			entry = spoil(slices.Clone(entry))
		}
		out = w.Add(out, key, func(dst []byte) []byte { return append(dst, entry...) })
	}
	w.End(out)
	changed := old.Name
	changed.Bytes = len(out)
	return changed.String(), string(out)
}
