package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/calendar"
)

const rolledUp = `
name: trips
source: {topics: [trips]}
event: {key: [zone], time: {field: at, unit: ms}}
aggregates: {trips: {func: count}}
windows: [{name: hourly, size: 1h}]
allowed_lateness: 2h
results: {kafka: {topic: trips.windows}}
`

const days = Duration(day)

func TestRollups(t *testing.T) {
	s, err := Parse("trips.yaml", []byte(rolledUp+`
retention: {results: 3d, ledger: 10d}
rollups:
  - {name: daily, from: hourly, calendar: day, timezone: Europe/Berlin, retention: 400d}
  - {name: monthly, from: daily, calendar: month, timezone: Europe/Berlin}
archive: {dir: /var/lib/millrace/archive}
`))
	require.NoError(t, err)
	require.Equal(t, []Rollup{
		{Name: "daily", From: "hourly", Calendar: "day", Timezone: "Europe/Berlin", Retention: 400 * days},
		{Name: "monthly", From: "daily", Calendar: "month", Timezone: "Europe/Berlin", Retention: 3 * days},
	}, s.Rollups)
	require.Equal(t, &Archive{Dir: "/var/lib/millrace/archive"}, s.Archive)
	require.Equal(t, []string{"hourly", "daily", "monthly"}, s.Families())
	require.True(t, s.RolledUp("hourly") && s.RolledUp("daily"))
	require.False(t, s.RolledUp("monthly"))
	require.Equal(t, Retention{Results: 3 * days, Ledger: 10 * days}, s.Keeps("hourly"))
	require.Equal(t, Retention{Results: 400 * days, Ledger: 400 * days}, s.Keeps("daily"))
	require.Equal(t, Retention{Results: 3 * days, Ledger: 10 * days}, s.Keeps("monthly"))
	require.Equal(t, Duration(400*day+2*time.Hour), s.KeepResults())
	require.Equal(t, Duration(432*day+2*time.Hour), s.KeepStates(), "a month of days, whose rows are kept for 400 days")

	grid, ok := s.Grid("daily")
	require.True(t, ok)
	start, end := grid.Bounds(time.Date(2023, 3, 26, 12, 0, 0, 0, time.UTC).UnixMilli())
	require.Equal(t, 23*time.Hour.Milliseconds(), end-start)
	hours, ok := s.Grid("hourly")
	require.True(t, ok)
	require.Equal(t, calendar.Steps{Size: time.Hour.Milliseconds()}, hours)

	text, err := s.JSON()
	require.NoError(t, err)
	again, err := Parse("canonical", text)
	require.NoError(t, err)
	require.Equal(t, s, again)
}

func TestRollupsChangeTheVersionAndNotTheState(t *testing.T) {
	parse := func(more string) *Spec {
		s, err := Parse("trips.yaml", []byte(rolledUp+more))
		require.NoError(t, err)
		return s
	}
	plain := parse("")
	require.Equal(t, Duration(0), plain.KeepStates())
	require.Equal(t, "ef7221a4f7ce62b4", plain.Version(), "a spec without roll-ups keeps its version")
	utc := parse("rollups: [{name: daily, from: hourly, calendar: day}]")
	berlin := parse("rollups: [{name: daily, from: hourly, calendar: day, timezone: Europe/Berlin}]")
	require.Equal(t, plain.StateID(), berlin.StateID())
	require.Equal(t, calendar.UTC, utc.Rollups[0].Timezone)
	require.Len(t, map[string]bool{plain.Version(): true, utc.Version(): true, berlin.Version(): true}, 3)

	withZones, err := encode(struct {
		*Spec
		Zones string `json:"zones,omitempty"`
	}{berlin, calendar.DataHash()})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(withZones), `"zones":"8f55634d05f8bca1"}`), string(withZones))
}

func BenchmarkParseRollups(b *testing.B) {
	text := []byte(rolledUp + "rollups: [{name: daily, from: hourly, calendar: day, timezone: Europe/Berlin}]")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("trips.yaml", text); err != nil {
			b.Fatal(err)
		}
	}
}
