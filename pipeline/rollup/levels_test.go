package rollup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
)

const (
	hour = int64(3_600_000)
	day  = 24 * hour
)

func dailyLevel(t *testing.T) (*level, *books) {
	t.Helper()
	s, err := spec.Parse("a.yaml", []byte(`
name: p
source: {topics: [in]}
event: {key: [k], time: {field: t, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: hourly, size: 1h}]
results: {kafka: {topic: out}}
rollups: [{name: daily, from: hourly, calendar: day}]
`))
	require.NoError(t, err)
	levels, err := compileLevels(s)
	require.NoError(t, err)
	return &levels[0], &books{
		slots: 1, rows: map[ledger.WindowID]*ledger.Row{}, floors: map[slotFamily]int64{}, ended: map[int32]int{}, rolled: map[string]int64{},
	}
}

func (b *books) add(start int64, final bool) {
	row := &ledger.Row{Window: "hourly", Start: start, End: start + hour, Revision: 1, Checksum: "c", Final: final, ClosedAt: start}
	b.rows[row.ID()] = row
}

func TestAWindowWithoutARowIsEmptyOnlyBelowTheFloor(t *testing.T) {
	l, b := dailyLevel(t)
	b.add(5*hour, true)
	parents := l.parentsOf(b, day)
	require.Len(t, parents, 1)
	require.Equal(t, ledger.WindowID{Window: "daily", Start: 0}, parents[0].id)
	require.Equal(t, day, parents[0].end)

	child, open, err := l.openChild(b, parents[0])
	require.NoError(t, err)
	require.True(t, open)
	require.Equal(t, ledger.WindowID{Window: "hourly", Start: 0}, child)

	b.floors[slotFamily{0, "hourly"}] = 5 * hour
	child, open, _ = l.openChild(b, parents[0])
	require.True(t, open)
	require.Equal(t, 6*hour, child.Start, "its own row says that the one before is final")
	_, known := l.finalUpTo(b, 2*day)
	require.True(t, known)

	b.floors[slotFamily{0, "hourly"}] = day
	_, open, _ = l.openChild(b, parents[0])
	require.False(t, open)
	end, _ := l.finalUpTo(b, 2*day)
	require.Equal(t, day, end)
	end, _ = l.finalUpTo(b, day-1)
	require.Zero(t, end, "what ends later is not asked for")

	b.add(7*hour, false)
	_, open, _ = l.openChild(b, l.parentsOf(b, day)[0])
	require.False(t, open, "the floor says that it is final, whatever its row says")
}

// A window that waits says for what: lanes that may still revise a child, or the floor of a child's family.
func TestWhatAnOpenChildWaitsFor(t *testing.T) {
	l, b := dailyLevel(t)
	child := ledger.WindowID{Window: "hourly", Start: 5 * hour}
	require.Equal(t, "it has no row, and the floor of hourly is not known yet: "+ledger.FloorRises, l.openText(b, child))
	b.floors[slotFamily{0, "hourly"}] = 5 * hour
	require.Equal(t, "it has no row, and the floor of hourly is 1970-01-01T05:00:00Z: "+ledger.FloorRises, l.openText(b, child))
	b.add(5*hour, false)
	require.Equal(t, "revision 1 is not final: lanes may still revise it", l.openText(b, child))

	weekly := &level{Rollup: &spec.Rollup{Name: "weekly", From: "daily"}, folded: "hourly"}
	require.Equal(t, "it has no row, and the floor of daily is not known yet: it rises as soon as nothing that daily is made of waits any more",
		weekly.openText(b, ledger.WindowID{Window: "daily"}))
}

func TestPeriodsBeyondWhatTheSpecWasCheckedFor(t *testing.T) {
	l, b := dailyLevel(t)
	periods, err := (&spec.Rollup{Name: "daily", Calendar: "day", Timezone: "Africa/Monrovia"}).Periods() // 44 minutes and a half, until 1972
	require.NoError(t, err)
	l.periods = periods
	b.add(time.Date(1971, 1, 1, 12, 0, 0, 0, time.UTC).UnixMilli(), true)
	_, _, err = l.openChild(b, l.parentsOf(b, 9*365*day)[0])
	require.ErrorContains(t, err, "lies in two windows of the roll-up")
}

func TestProvenanceKeepsChildrenWhoseRowsWereGivenUp(t *testing.T) {
	l, b := dailyLevel(t)
	child := func(start int64, checksum string) ledger.Child {
		return ledger.Child{Window: "hourly", Start: start, Revision: 1, Checksum: checksum}
	}
	base := &ledger.Row{Children: []ledger.Child{child(0, "a"), child(2*hour, "b"), child(9*hour, "d")}}
	b.add(2*hour, true)
	b.add(5*hour, true)
	p := l.parentsOf(b, day)[0]
	require.Equal(t, []ledger.Child{child(0, "a"), child(2*hour, "c"), child(5*hour, "c"), child(9*hour, "d")}, p.provenance(base))
	require.Equal(t, []ledger.Child{child(2*hour, "c"), child(5*hour, "c")}, p.provenance(nil))
}
