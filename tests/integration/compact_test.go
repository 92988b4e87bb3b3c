package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/tests/rig"
)

const compactYAML = `name: shops
source: {topics: [shops], format: json}
event: {key: [shop], time: {field: at, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: hourly, size: 1h}]
rollups:
  - {name: daily, from: hourly, calendar: day, timezone: Europe/Berlin}
  - {name: weekly, from: daily, calendar: week, timezone: Europe/Berlin}
watermark: {out_of_orderness: 1m, idle_timeout: 1s}
allowed_lateness: 0s
results: {kafka: {topic: shops.windows}}
late: {kafka: {topic: shops.late}}
`

// compactList is what `compact ls --json` says.
type compactList struct {
	Schedule *struct {
		ID   string `json:"id"`
		Runs int    `json:"runs"`
	} `json:"schedule"`
	Runs []compactRun `json:"runs"`
}

type compactRun struct {
	ID     string                 `json:"workflow_id"`
	Open   bool                   `json:"open"`
	Status contract.CompactStatus `json:"status"`
}

// firstCompact waits for the first run to end, and returns what it came to beside all runs.
func (p *pipeline) firstCompact() (compactList, contract.CompactStatus) {
	p.T.Helper()
	list := p.compacts(1, func(time.Time) bool { return true })
	return list, list.Runs[len(list.Runs)-1].Status
}

// compacts waits until all runs have ended and n of them count, and returns those, the latest first. Which ones count is
// decided by their bound: when a full hour passes meanwhile, the schedule starts one more.
func (p *pipeline) compacts(n int, counts func(bound time.Time) bool) (list compactList) {
	p.T.Helper()
	rig.Eventually(p.T, fmt.Sprintf("%d runs have ended", n), patience, func() bool {
		list = compactList{}
		answer := p.CLI("compact", "ls", p.Spec.Name, "--json", "--last", "0")
		if answer.Code == cli.ExitUnreachable { // a busy machine: Temporal has not answered in time
			return false
		}
		require.Zero(p.T, answer.Code, answer.Err)
		require.NoError(p.T, json.Unmarshal([]byte(answer.Out), &list))
		open := false
		for _, r := range list.Runs {
			open = open || r.Open
		}
		list.Runs = slices.DeleteFunc(list.Runs, func(r compactRun) bool { return !counts(r.Status.Bound) })
		return !open && len(list.Runs) >= n
	})
	return list
}

// rolledUp is how many windows a run has published first, published again and left unchanged.
func rolledUp(t *testing.T, s contract.CompactStatus) (first, corrected, unchanged int) {
	require.Equal(t, contract.StateDone, s.State)
	require.Empty(t, s.Problems)
	for _, f := range s.Rollup.Families {
		first, corrected, unchanged = first+f.Published, corrected+f.Corrected, unchanged+f.Unchanged
		require.Zero(t, f.Incidents+f.Failed)
	}
	return first, corrected, unchanged
}

// hoursFrom are the values of an event in every hour of some weeks, and how many there are by day and week in Berlin. The first
// week begins at from.
func hoursFrom(t *testing.T, from time.Time, hours int) (values [][]byte, counts map[string]map[int64]int) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	counts = map[string]map[int64]int{"daily": {}, "weekly": {}}
	for n := range hours {
		at := from.Add(time.Duration(n) * time.Hour)
		values = append(values, fmt.Appendf(nil, `{"shop":"a","at":%d}`, at.UnixMilli()))
		y, m, d := at.In(berlin).Date()
		monday := (int(at.In(berlin).Weekday()) + 6) % 7
		counts["daily"][time.Date(y, m, d, 0, 0, 0, 0, berlin).UnixMilli()]++
		counts["weekly"][time.Date(y, m, d-monday, 0, 0, 0, 0, berlin).UnixMilli()]++
	}
	return values, counts
}

// published counts the events in the published windows of a family, by start.
func (p *pipeline) published(family string) map[int64]int {
	p.T.Helper()
	found := make(map[int64]int)
	for _, value := range p.Latest() {
		var row struct {
			Window string         `json:"window"`
			Start  time.Time      `json:"start"`
			Values map[string]int `json:"values"`
		}
		require.NoError(p.T, json.Unmarshal(value, &row))
		if row.Window == family {
			found[row.Start.UnixMilli()] += row.Values["n"]
		}
	}
	return found
}

// again are the families of the windows that were published more than once, from the shortest; no window may have a third revision.
func again(rows []ledger.Row) (families []string) {
	for _, family := range []string{"hourly", "daily", "weekly"} {
		for _, row := range rows {
			if row.Window == family && row.Revision == 2 {
				families = append(families, family)
			} else if row.Revision > 2 {
				families = append(families, fmt.Sprintf("%s revision %d", row.ID(), row.Revision))
			}
		}
	}
	return families
}

// startOf is the start of the window of a family that a time lies in.
func startOf(rows []ledger.Row, family string, at time.Time) int64 {
	for _, row := range rows {
		if row.Window == family && row.Start <= at.UnixMilli() && at.UnixMilli() < row.End {
			return row.Start
		}
	}
	return 0
}

// A schedule rolls up in one run what nobody has rolled up for two weeks; further runs find nothing to do, a backfill of four times
// is four runs, a late event corrects its day and its week, a pipeline that is stopped is compacted like any other, and a removal takes the schedule away.
func TestCompactBySchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(compactYAML, 2)
	name := p.Spec.Name
	w.Ready(w.Worker())
	p.Start()
	// Two weeks in Berlin, where the clocks change on 25 March. Every hour has an event, so that no floor has to be waited for.
	from := time.Date(2001, 3, 18, 23, 0, 0, 0, time.UTC)
	values, counts := hoursFrom(t, from, 14*24-1)
	last := from.AddDate(0, 0, 20)
	halves := make([][][]byte, p.Parts)
	for n, value := range values {
		halves[n%len(halves)] = append(halves[n%len(halves)], value)
	}
	for n, half := range halves {
		p.Send(int32(n), append(half, fmt.Appendf(nil, `{"shop":"a","at":%d}`, last.UnixMilli()))...)
	}
	rig.Eventually(t, "every hour is final", patience, func() bool {
		final := 0
		for _, row := range p.Ledger() {
			if row.Final {
				final++
			}
		}
		return final == len(values)
	})

	scheduled := p.Must("compact", "schedule", name, "--every", "1h", "--jitter", "0s", "--start-now")
	require.Contains(t, scheduled.Out, "created schedule compact:"+name)
	list, begun := p.firstCompact()
	require.Equal(t, contract.CompactID(name), list.Schedule.ID)
	first, corrected, _ := rolledUp(t, begun)
	require.Equal(t, len(counts["daily"])+len(counts["weekly"]), first)
	require.Zero(t, corrected)
	require.Equal(t, counts["daily"], p.published("daily"))
	require.Equal(t, counts["weekly"], p.published("weekly"))
	p.Must("verify", name, "--spec", p.File)

	rows := len(p.Ledger())
	p.Must("compact", "backfill", name, "--from", "2001-05-01T00:00:00Z", "--to", "2001-05-01T03:00:00Z")
	filled := p.compacts(4, func(bound time.Time) bool { return bound.Year() == 2001 })
	require.Len(t, filled.Runs, 4, "the start and the end count")
	for n, r := range filled.Runs {
		require.Equal(t, time.Date(2001, 5, 1, 3-n, 0, 0, 0, time.UTC), r.Status.Bound, "one after the other")
		first, corrected, unchanged := rolledUp(t, r.Status)
		require.Equal(t, []int{0, 0, len(counts["daily"]) + len(counts["weekly"])}, []int{first, corrected, unchanged})
	}
	require.Len(t, p.Ledger(), rows)

	// An event that was late is counted in by a replay: one more revision of its hour, its day and its week.
	late := from.Add(100*time.Hour + 7*time.Minute)
	p.Send(0, fmt.Appendf(nil, `{"shop":"a","at":%d}`, late.UnixMilli()))
	rig.Eventually(t, "the event is late", patience, func() bool {
		m, _ := p.Meta(0)
		return m.Counters.Late == 1
	})
	hour := late.Truncate(time.Hour)
	p.Must("replay", name, "--from", hour.Format(time.RFC3339), "--to", hour.Add(time.Hour).Format(time.RFC3339), "--from-late", "--id", "late")
	var found contract.ReplayStatus
	require.NoError(t, json.Unmarshal([]byte(p.Must("replay", "show", name, "late", "--json").Out), &found))
	p.Must("replay", "approve", name, "late", found.Summary.Checksum)
	before := p.Ledger()
	p.Must("compact", "run", name)
	require.Equal(t, []string{"hourly", "daily", "weekly"}, again(p.Ledger()), "revision 2 of each, and of nothing else")
	require.Len(t, p.Ledger(), len(before))
	counts["daily"][startOf(before, "daily", late)]++
	counts["weekly"][startOf(before, "weekly", late)]++
	require.Equal(t, counts["daily"], p.published("daily"))
	require.Equal(t, counts["weekly"], p.published("weekly"))
	p.Must("verify", name, "--spec", p.File)

	p.Update("stop", name)
	var result contract.CompactResult
	require.NoError(t, json.Unmarshal([]byte(p.Must("compact", "run", name, "--json").Out), &result))
	require.Equal(t, contract.OutcomeCompacted, result.Outcome)
	require.Len(t, again(p.Ledger()), 3, "nothing was published twice")

	p.Must("rm", name, "--topics", "--yes", "--grace", "1s")
	gone := p.CLI("compact", "unschedule", name)
	require.Equal(t, 1, gone.Code, gone.Err)
	require.Contains(t, gone.Err, "has no schedule")
	refused := p.CLI("compact", "run", name)
	require.Equal(t, 1, refused.Code)
	require.Contains(t, refused.Err, "was removed")
	require.Empty(t, p.keys())
}
