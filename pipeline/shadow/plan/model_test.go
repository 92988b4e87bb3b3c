package plan

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// The model is a pipeline in a few lines: lanes that decide records by watermark and seals, and a closer that makes windows
// final and writes rows with anchors. It knows which offsets each window holds, and forgets rows and metas as time does. A
// plan is right when a lane that follows it finds, for each window planned, the offsets that the row holds.

const modelText = `
name: orders
source: {topics: [orders], format: json}
event: {key: [k], time: {field: t, unit: ms}, max_future: %dms}
aggregates: {n: {func: count}}
windows: [{name: short, size: 100ms}%s]
watermark: {out_of_orderness: %dms, idle_timeout: 5s}
allowed_lateness: %dms
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
`

// modelKind is what becomes of a record whatever the watermark.
type modelKind int

const (
	modelEvent modelKind = iota
	modelFiltered
	modelInvalid
)

type modelRecord struct {
	kind      modelKind
	time      int64
	timestamp int64
}

// modelLane decides records. It is the same for the pipeline and for a shadow of it.
type modelLane struct {
	m       *model
	offset  int64
	era     int64
	maxTime int64
	sealed  int64
	still   int64 // nothing from here on could move the watermark
	seals   []store.Seal
	slices  map[modelSlice]*modelStat
	held    map[window.Ref][]int64 // offsets that count, in order
	late    []LateRecord
}

type modelSlice struct {
	start int64
	gen   int
}

type modelStat struct {
	first, last, folded int64
	basis               store.Basis
}

func (m *model) newLane() *modelLane {
	return &modelLane{
		m: m, maxTime: window.NoTime, sealed: window.NoTime,
		slices: make(map[modelSlice]*modelStat), held: make(map[window.Ref][]int64),
	}
}

func (l *modelLane) watermark() int64 {
	if l.maxTime == window.NoTime {
		return window.NoTime
	}
	return l.maxTime - l.m.disorder
}

func (l *modelLane) effective() int64 { return max(l.watermark(), l.sealed) }

// seal adopts a seal as a lane does: only one that changes what is late is remembered, in place of the one before it when
// nothing between the two could move the watermark.
func (l *modelLane) seal(before int64) {
	if before <= l.sealed {
		return
	}
	matters := before > l.effective()
	if l.sealed = before; !matters {
		return
	}
	if n := len(l.seals); n > 0 && l.seals[n-1].Offset >= l.still {
		l.seals = l.seals[:n-1]
	}
	l.seals = append(l.seals, store.Seal{Offset: l.offset, Before: before})
}

// read decides one record. admitted counts in generation 0 whatever its lateness.
func (l *modelLane) read(r modelRecord, admitted bool) {
	offset := l.offset
	l.offset++
	if r.kind == modelInvalid {
		return
	}
	basis := store.Basis{Known: true, Watermark: l.watermark(), Sealed: l.sealed}
	before := l.effective()
	l.maxTime = max(l.maxTime, r.time)
	l.still = l.offset
	if r.kind == modelFiltered {
		return
	}
	start := l.m.windows.SliceStart(r.time)
	gen, late := l.m.windows.Place(start, before)
	if missed := l.m.windows.Missed(start, before); len(missed) > 0 {
		rec := LateRecord{Offset: offset}
		for _, ref := range missed {
			rec.Windows = append(rec.Windows, l.m.id(ref))
		}
		l.late = append(l.late, rec)
	}
	if admitted {
		gen, late = 0, false
	}
	if late {
		return
	}
	key := modelSlice{start, gen}
	s := l.slices[key]
	if s == nil {
		s = &modelStat{first: offset, basis: basis}
		l.slices[key] = s
	}
	s.last, s.folded = offset, s.folded+1
	for _, ref := range l.m.windows.WindowsOf(start)[gen:] {
		l.held[ref] = append(l.held[ref], offset)
	}
}

type model struct {
	r        *rand.Rand
	spec     *spec.Spec
	windows  *window.Plan
	disorder int64
	lanes    []*modelLane
	logs     [][]modelRecord
	clock    int64
	book     *Book
	held     map[ledger.WindowID][][]int64 // by lane, as of the final row
	trimmed  []int64
}

func newModel(t *testing.T, seed uint64) *model {
	r := rand.New(rand.NewPCG(seed, 7))
	disorder, lateness, future := r.Int64N(60), r.Int64N(3)*r.Int64N(120), r.Int64N(120)
	more := ""
	switch r.IntN(3) {
	case 1:
		more = ", {name: long, size: 400ms}"
	case 2:
		more = ", {name: slide, size: 200ms, slide: 50ms}"
	}
	s, err := spec.Parse("model.yaml", fmt.Appendf(nil, modelText, future, more, disorder, lateness))
	require.NoError(t, err)
	windows, err := window.NewPlan(s)
	require.NoError(t, err)
	m := &model{
		r: r, spec: s, windows: windows, disorder: disorder, clock: 10_000,
		book: &Book{
			Edition: ledger.Edition, Slots: ledger.DefaultSlots, Rows: map[ledger.WindowID]*ledger.Row{},
			Tombstones: map[ledger.WindowID]bool{}, Floors: map[FloorID]*ledger.Floor{},
		},
		held: map[ledger.WindowID][][]int64{},
	}
	for range 1 + r.IntN(3) {
		m.addLane()
	}
	return m
}

func (m *model) addLane() {
	m.lanes = append(m.lanes, m.newLane())
	m.logs = append(m.logs, nil)
}

func (m *model) id(ref window.Ref) ledger.WindowID {
	return ledger.WindowID{Window: m.spec.Windows[ref.Window].Name, Start: ref.Start}
}

// run lets the pipeline live for a number of steps.
func (m *model) run(steps int) {
	busy := m.r.IntN(len(m.lanes))
	for range steps {
		m.clock += m.r.Int64N(12)
		switch n := m.r.IntN(100); {
		case n < 70:
			i := busy
			if m.r.IntN(3) == 0 {
				i = m.r.IntN(len(m.lanes))
			}
			m.produce(i)
		case n < 78:
			m.sealSome()
		case n < 96:
			m.close()
		case n < 97:
			busy = m.r.IntN(len(m.lanes))
		case n < 98 && m.r.IntN(8) == 0: // an operator's decision: what was published before says nothing of the lane any more
			m.lanes[busy].era++
		case n < 98 && len(m.lanes) < 4:
			m.addLane()
			m.lanes[len(m.lanes)-1].seal(m.finalBefore()) // a lane that begins is bound by what is final
		}
	}
}

// produce appends a record and reads it. Its time is no more than max_future beyond its timestamp.
func (m *model) produce(i int) {
	r := modelRecord{timestamp: m.clock, time: m.clock - m.r.Int64N(1+m.r.Int64N(400))}
	if future := m.spec.Event.MaxFuture.Millis(); future > 0 && m.r.IntN(4) == 0 {
		r.time = m.clock + m.r.Int64N(future+1)
	}
	switch m.r.IntN(12) {
	case 0:
		r.kind = modelFiltered
	case 1:
		r.kind = modelInvalid
	}
	m.logs[i] = append(m.logs[i], r)
	m.lanes[i].read(r, false)
}

// sealSome lets lanes that are idle adopt what the others have passed.
func (m *model) sealSome() {
	top := int64(window.NoTime)
	for _, l := range m.lanes {
		top = max(top, l.watermark())
	}
	if top == window.NoTime {
		return
	}
	for _, l := range m.lanes {
		if m.r.IntN(2) == 0 {
			end := top - m.r.Int64N(100) - m.spec.AllowedLateness.Millis()
			l.seal(end - end%50 + m.spec.AllowedLateness.Millis())
		}
	}
}

// close makes the windows final that every lane has passed, some of them later than others.
func (m *model) close() {
	passed := int64(1 << 60)
	for _, l := range m.lanes {
		passed = min(passed, l.effective())
	}
	seen := map[window.Ref]bool{}
	for _, l := range m.lanes {
		for ref := range l.held {
			seen[ref] = true
		}
	}
	floor := int64(1 << 60)
	refs := slices.SortedFunc(maps.Keys(seen), func(a, b window.Ref) int {
		return cmp.Or(cmp.Compare(m.windows.End(a), m.windows.End(b)), cmp.Compare(a.Window, b.Window))
	})
	for _, ref := range refs {
		id := m.id(ref)
		if m.book.Rows[id] != nil {
			continue
		}
		if m.windows.Deadline(ref) > passed || m.r.IntN(4) == 0 {
			floor = min(floor, m.windows.End(ref)-1)
			continue
		}
		m.publish(ref, id)
	}
	if end := min(floor, passed-m.spec.AllowedLateness.Millis()); passed != window.NoTime && m.r.IntN(3) == 0 {
		m.raiseFloors(end)
	}
}

func (m *model) publish(ref window.Ref, id ledger.WindowID) {
	row := &ledger.Row{
		Version: ledger.RowVersion, Pipeline: "orders", Window: id.Window, Start: id.Start, End: m.windows.End(ref), Edition: ledger.Edition,
		Revision: 1, Final: true, Exact: true, Checksum: "x", Reason: ledger.ReasonWatermark,
	}
	held := make([][]int64, len(m.lanes))
	for i, l := range m.lanes {
		c := ledger.Cover{Topic: "orders", Partition: int32(i), Offset: l.offset, LastOffset: -1, Era: l.era, FirstOffset: -1}
		var first *store.SliceStat
		for _, r := range m.windows.SlicesOf(ref) {
			for gen := 0; gen <= r.MaxGen; gen++ {
				if s := l.slices[modelSlice{r.Start, gen}]; s != nil {
					c.Folded += s.folded
					c.LastOffset = max(c.LastOffset, s.last)
					if first == nil || s.first < first.FirstOffset {
						first = &store.SliceStat{FirstOffset: s.first, Basis: s.basis}
					}
				}
			}
		}
		c.SetAnchor(&store.Meta{Seals: l.seals, TopicID: "id"}, first)
		if m.r.IntN(30) == 0 {
			c.Seals, c.Recountable = nil, false
		}
		row.Lanes = append(row.Lanes, c)
		held[i] = slices.Clone(l.held[ref])
		row.Events += c.Folded
	}
	m.book.Rows[id], m.held[id] = row, held
}

func (m *model) raiseFloors(end int64) {
	for slot := range m.book.Slots {
		for _, w := range m.spec.Windows {
			f := &ledger.Floor{Window: w.Name, Edition: ledger.Edition, End: end}
			for i, l := range m.lanes {
				f.Lanes = append(f.Lanes, ledger.FloorLane{Topic: "orders", Partition: int32(i), Offset: l.offset, TopicID: "id", Era: l.era})
			}
			if old := m.book.Floors[FloorID{slot, w.Name}]; old == nil || old.End < end {
				m.book.Floors[FloorID{slot, w.Name}] = f
			}
		}
	}
}

// finalBefore is the greatest deadline of a window that is final.
func (m *model) finalBefore() int64 {
	before := int64(window.NoTime)
	for _, row := range m.book.Rows {
		before = max(before, row.End+m.spec.AllowedLateness.Millis())
	}
	return before
}

// age lets time take rows, log and metas away.
func (m *model) age() {
	if m.r.IntN(2) == 0 { // rows are given up in the order in which they became final
		ids := m.sorted()
		for _, id := range ids[:m.r.IntN(len(ids)/2+1)] {
			delete(m.book.Rows, id)
			m.book.Tombstones[id] = true
		}
	}
	m.trimmed = make([]int64, len(m.lanes))
	if m.r.IntN(3) == 0 {
		for i := range m.trimmed {
			if n := len(m.logs[i]); n > 0 && m.r.IntN(2) == 0 {
				m.trimmed[i] = m.r.Int64N(int64(n)/2 + 1)
			}
		}
	}
}

func (m *model) sorted() []ledger.WindowID {
	return slices.SortedFunc(maps.Keys(m.book.Rows), func(a, b ledger.WindowID) int {
		return cmp.Or(cmp.Compare(m.book.Rows[a].End, m.book.Rows[b].End), cmp.Compare(a.Window, b.Window))
	})
}

func (m *model) facts() []Facts {
	var out []Facts
	for i, l := range m.lanes {
		f := Facts{
			Topic: "orders", Partition: int32(i), TopicID: "id", LogStart: m.trimmed[i], LogEnd: l.offset, FirstTime: window.NoTime, Late: l.late,
		}
		if f.LogStart < f.LogEnd {
			f.FirstTime = m.logs[i][f.LogStart].timestamp
		}
		if m.r.IntN(3) > 0 && l.offset > 0 {
			meta := &store.Meta{Offset: l.offset, Era: l.era, Sealed: l.sealed, Seals: l.seals, TopicID: "id"}
			if n := len(meta.Seals); n > 1 && m.r.IntN(2) == 0 { // lanes forget the oldest
				k := 1 + m.r.IntN(n-1)
				meta.Seals = append([]store.Seal{{Offset: meta.Seals[k-1].Offset, Before: window.NoTime}}, meta.Seals[k:]...)
			}
			f.Meta = meta
		}
		out = append(out, f)
	}
	return out
}

func (m *model) offsetsOf(at int64) ([]int64, error) {
	var out []int64
	for i, log := range m.logs {
		first := int64(len(log))
		for o := m.trimmed[i]; o < int64(len(log)); o++ {
			if log[o].timestamp >= at {
				first = o
				break
			}
		}
		out = append(out, first)
	}
	return out, nil
}

// follow reads a lane as the plan says, and returns the offsets that each window holds.
func (m *model) follow(l *Lane, log []modelRecord) map[window.Ref][]int64 {
	shadow := m.newLane()
	shadow.offset = l.Start
	if l.Basis.Watermark != window.NoTime {
		shadow.maxTime = l.Basis.Watermark + m.disorder
	}
	shadow.sealed = l.Basis.Sealed
	seals := l.Seals
	for shadow.offset < l.End {
		for len(seals) > 0 && seals[0].Offset <= shadow.offset {
			shadow.seal(seals[0].Before)
			seals = seals[1:]
		}
		_, admitted := slices.BinarySearch(l.Late, shadow.offset)
		shadow.read(log[shadow.offset], admitted)
	}
	return shadow.held
}

func (m *model) ask(lateness Lateness) Ask {
	from := int64(10_000) + m.r.Int64N(1+(m.clock-10_000)/2)
	return Ask{
		Pipeline: "orders", ID: "r", From: from, To: from + m.r.Int64N(1+m.clock-from), Lateness: lateness,
		Live: m.spec, Spec: m.spec, Now: time.UnixMilli(m.clock),
	}
}

func (m *model) plan(ask Ask) (*Plan, error) {
	s, err := Select(ask, m.book)
	if err != nil {
		return nil, err
	}
	return s.Build(m.facts(), m.offsetsOf)
}

// sum of what a run of seeds has brought about, so that the test cannot pass for want of trying.
type modelSum struct {
	plans, windows, empty, whole, part, seals int

	// Windows that are wrong when a plan is followed otherwise.
	wrongFirst, wrongTime, wrongSeal int
}

func TestPlansDecideAsWasDecided(t *testing.T) {
	var sum modelSum
	reasons := map[string]int{}
	for seed := range uint64(600) {
		m := newModel(t, seed)
		m.run(150 + m.r.IntN(500))
		m.age()
		p, err := m.plan(m.ask(AsRead))
		if err != nil {
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			reasons[refused.Reason()]++
			continue
		}
		for _, r := range p.Refused {
			reasons[r.Reason]++
		}
		m.require(t, seed, p, &sum)
	}
	t.Logf("%+v, refusals %v", sum, reasons)
	require.Greater(t, sum.plans, 300)
	require.Greater(t, sum.windows, 5000)
	require.Greater(t, sum.empty, 50)
	require.Greater(t, sum.seals, 500)
	require.Greater(t, sum.whole, 150)
	require.Greater(t, sum.part, 50)
	require.Greater(t, sum.wrongFirst, 200, "reading from the first offset alone is known to be wrong")
	require.Positive(t, sum.wrongTime, "a basis needs the greatest event time that the lane had seen")
	require.Positive(t, sum.wrongSeal, "a basis needs the seal that the lane had adopted")
	for _, reason := range []string{ReasonNotFinal, ReasonTombstoned, ReasonTrimmed, ReasonControl, ReasonEra} {
		require.Greater(t, reasons[reason], 20, reason)
	}
}

// differs is 1 when two windows hold other offsets, for counting.
func differs(a, b []int64) int {
	if slices.Equal(a, b) {
		return 0
	}
	return 1
}

// require follows a plan and holds every window against its row.
func (m *model) require(t *testing.T, seed uint64, p *Plan, sum *modelSum) {
	t.Helper()
	sum.plans++
	if p.Scope == Whole {
		sum.whole++
	} else {
		sum.part++
	}
	for i := range p.Lanes {
		l := &p.Lanes[i]
		if l.Offsets() > 0 {
			require.GreaterOrEqual(t, l.Start, m.trimmed[i])
		}
		require.LessOrEqual(t, l.End, int64(len(m.logs[i])))
		sum.seals += len(l.Seals)
		held := m.follow(l, m.logs[i])
		without := func(change func(*store.Basis)) map[window.Ref][]int64 {
			other := *l
			change(&other.Basis)
			return m.follow(&other, m.logs[i])
		}
		timeless := without(func(b *store.Basis) { b.Watermark = window.NoTime })
		sealless := without(func(b *store.Basis) { b.Sealed = window.NoTime })
		naive := m.follow(&Lane{Start: m.firstOffset(p, i, l.Start), End: l.End, Basis: nothing}, m.logs[i])
		for k := range p.Windows {
			w := &p.Windows[k]
			ref := m.ref(w)
			want := []int64(nil)
			if was := m.held[w.ID()]; i < len(was) {
				want = was[i]
			}
			if len(want) == 0 {
				sum.empty++
			}
			require.Equal(t, want, slices.Clip(held[ref]), "seed %d, lane %d of %+v, window %s", seed, i, l, w.ID())
			for _, offset := range held[ref] {
				require.Less(t, offset, w.Ends[i])
			}
			sum.windows++
			sum.wrongFirst += differs(want, naive[ref])
			sum.wrongTime += differs(want, timeless[ref])
			sum.wrongSeal += differs(want, sealless[ref])
		}
	}
}

// firstOffset is the lowest first offset of the plan's windows in a lane.
func (m *model) firstOffset(p *Plan, lane int, otherwise int64) int64 {
	first := int64(-1)
	for k := range p.Windows {
		if row := m.book.Rows[p.Windows[k].ID()]; row != nil {
			if c, ok := row.Cover("orders", int32(lane)); ok && c.FirstOffset >= 0 && (first < 0 || c.FirstOffset < first) {
				first = c.FirstOffset
			}
		}
	}
	if first < 0 {
		return otherwise
	}
	return first
}

func (m *model) ref(w *Window) window.Ref {
	i := slices.IndexFunc(m.spec.Windows, func(s spec.Window) bool { return s.Name == w.Name })
	return window.Ref{Window: i, Start: w.Start}
}

// TestPlansFindEverythingThatArrived: with lateness none every event of a window counts, and so it does with what the late
// topic holds.
func TestPlansFindEverythingThatArrived(t *testing.T) {
	for _, lateness := range []Lateness{None, FromLate} {
		t.Run(string(lateness), func(t *testing.T) {
			plans, windows, more := 0, 0, 0
			for seed := range uint64(300) {
				m := newModel(t, seed)
				m.run(150 + m.r.IntN(500))
				m.age()
				p, err := m.plan(m.ask(lateness))
				if err != nil {
					var refused *RefusedError
					require.ErrorAs(t, err, &refused)
					continue
				}
				plans++
				for i := range p.Lanes {
					held := m.followAll(&p.Lanes[i], m.logs[i], lateness)
					for k := range p.Windows {
						w := &p.Windows[k]
						want := m.arrived(i, w)
						require.Equal(t, want, slices.Clip(held[m.ref(w)]), "seed %d, lane %d of %+v, window %s", seed, i, p.Lanes[i], w.ID())
						windows++
						if was := m.held[w.ID()]; i >= len(was) && len(want) > 0 || i < len(was) && len(want) > len(was[i]) {
							more++
						}
					}
				}
			}
			t.Logf("%d plans, %d windows of a lane, %d with more than was counted", plans, windows, more)
			require.Greater(t, plans, 100)
			require.Greater(t, more, 200)
		})
	}
}

func (m *model) followAll(l *Lane, log []modelRecord, lateness Lateness) map[window.Ref][]int64 {
	if lateness == FromLate {
		return m.follow(l, log)
	}
	held := map[window.Ref][]int64{}
	for offset := l.Start; offset < l.End; offset++ {
		if r := log[offset]; r.kind == modelEvent {
			for _, ref := range m.windows.WindowsOf(m.windows.SliceStart(r.time)) {
				held[ref] = append(held[ref], offset)
			}
		}
	}
	return held
}

// arrived lists the events of a window in a lane's log.
func (m *model) arrived(lane int, w *Window) (offsets []int64) {
	for offset, r := range m.logs[lane] {
		if r.kind == modelEvent && r.time >= w.Start && r.time < w.End {
			offsets = append(offsets, int64(offset))
		}
	}
	return offsets
}
