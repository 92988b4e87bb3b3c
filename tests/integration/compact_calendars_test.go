package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/tests/long"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

const calendarsYAML = `name: minutes
source: {topics: [minutes], format: json}
event: {key: [k], time: {field: t, unit: ms}}
aggregates: {n: {func: count}, v: {func: sum, field: v, type: int}, mean: {func: avg, field: v}}
windows: [{name: minutely, size: 1m}]
rollups:
  - {name: hours, from: minutely, calendar: hour, timezone: %[1]s}
  - {name: days, from: hours, calendar: day, timezone: %[1]s, retention: 400d}
  - {name: months, from: days, calendar: month, timezone: %[1]s, retention: 400d}
watermark: {out_of_orderness: 1m, idle_timeout: 0s}
allowed_lateness: 10m
results: {kafka: {topic: minutes.results}}
late: {kafka: {topic: minutes.late}}
`

// calendarZones are time zones with what is odd about them, and the time around that.
var calendarZones = []struct {
	zone  string
	spans [][2]string
}{
	{"Europe/Berlin", [][2]string{ // a day of 23 hours and one of 25
		{"2023-03-25T20:00:00Z", "2023-03-27T04:00:00Z"}, {"2023-10-28T20:00:00Z", "2023-10-30T04:00:00Z"},
	}},
	{"Pacific/Apia", [][2]string{{"2011-12-29T06:00:00Z", "2012-01-01T14:00:00Z"}}},     // a day that is missing
	{"America/St_Johns", [][2]string{{"2010-11-06T20:00:00Z", "2010-11-08T06:00:00Z"}}}, // a day that begins twice
}

// calendars is a pipeline of minutes that are rolled up to months of a time zone.
type calendars struct {
	*pipeline
	zone string
	end  time.Time // everything that ends at or before it is final
}

// Minutes are rolled up to hours, days and months where clocks change, while one of two workers is killed. What is published is
// the oracle's. Then Redis is emptied while the pipeline is stopped, and one minute is corrected by an event that was late: its
// hour, its day and its month get one revision each, made from what the states topic holds of their other children.
func TestCompactCalendars(t *testing.T) {
	if !long.Wanted {
		t.Skip("floors rise once a minute, and Temporal gives a killed worker up after 30 s; set MILLRACE_TEST_LONG")
	}
	t.Parallel()
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	workers := map[string]*rig.Process{}
	for range 2 {
		one := w.Worker()
		workers[one.Name] = one
		w.Ready(one)
	}
	var all []*calendars
	for _, c := range calendarZones {
		p := &calendars{pipeline: w.newPipeline(fmt.Sprintf(calendarsYAML, c.zone), 2), zone: c.zone}
		p.feed(c.spans)
		p.Start()
		all = append(all, p)
	}
	for _, p := range all {
		rig.Eventually(t, p.zone+": the floors have risen", 3*patience, func() bool { return p.floor() >= p.end.UnixMilli() })
	}

	p := all[0]
	p.Must("compact", "schedule", p.Spec.Name, "--every", "1h", "--jitter", "0s", "--start-now")
	var victim string
	rig.Eventually(t, "a worker has rolled the first windows up", patience, func() bool {
		victim = p.runningOn(contract.CloseWindowsID(p.Spec.Name), contract.ActivityCarryOut)
		return victim != "" && len(p.ofRollups()) > 0
	})
	workers[victim].Kill()
	published := len(p.ofRollups())
	_, begun := p.firstCompact()
	first, corrected, _ := rolledUp(t, begun)
	t.Logf("%s: %d windows were rolled up when %s was killed, %d in the end", p.zone, published, victim, len(p.ofRollups()))
	require.Less(t, published, first)
	require.Zero(t, corrected)
	for _, p := range all[1:] {
		p.Must("compact", "run", p.Spec.Name)
	}
	for _, p := range all {
		p.requireOracle()
	}

	late := at3339(t, "2023-03-26T05:07:00Z")
	p.Send(0, fmt.Appendf(nil, `{"k":"late","t":%d,"v":1}`, late.UnixMilli()))
	p.Reach(p.Total())
	for _, p := range all {
		p.Update("stop", p.Spec.Name)
	}
	require.NoError(t, rdb.Client().FlushAll(context.Background()).Err())
	before := p.counts()
	p.Must("replay", p.Spec.Name, "--from", late.Format(time.RFC3339), "--to", late.Add(time.Minute).Format(time.RFC3339),
		"--from-late", "--id", "late")
	var found contract.ReplayStatus
	p.decodeInto(p.Must("replay", "show", p.Spec.Name, "late", "--json").Out, &found)
	p.Must("replay", "approve", p.Spec.Name, "late", found.Summary.Checksum)
	p.Must("compact", "run", p.Spec.Name)
	berlin, err := time.LoadLocation(p.zone)
	require.NoError(t, err)
	for key, start := range map[string]time.Time{
		"minutely": late, "hours": late.Truncate(time.Hour),
		"days":   time.Date(2023, 3, 26, 0, 0, 0, 0, berlin),
		"months": time.Date(2023, 3, 1, 0, 0, 0, 0, berlin),
	} {
		before[fmt.Sprintf(`%s %d {"k":"late"}`, key, start.UnixMilli())]++
	}
	require.Equal(t, before, p.counts())
	var revised []string
	for _, row := range p.Ledger() {
		if row.Revision > 1 {
			revised = append(revised, fmt.Sprintf("%s r%d", row.ID(), row.Revision))
		}
	}
	require.ElementsMatch(t, []string{
		"hours/2023-03-26T05:00:00Z r2", "days/2023-03-25T23:00:00Z r2", "months/2023-02-28T23:00:00Z r2",
	}, revised, "the minute itself had no event before")
}

func at3339(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at
}

// feed sends an event every other minute of some spans of time, but for one hour in seven, now and then one of long before, and at
// last some of so much later that everything before them is final.
func (p *calendars) feed(spans [][2]string) {
	p.T.Helper()
	values := make([][][]byte, p.Parts)
	add := func(n int, key string, at time.Time) {
		lane := n % len(values)
		values[lane] = append(values[lane], fmt.Appendf(nil, `{"k":%q,"t":%d,"v":%d}`, key, at.UnixMilli(), n%100-30))
	}
	n := 0
	for _, span := range spans {
		for at := at3339(p.T, span[0]); at.Before(at3339(p.T, span[1])); at = at.Add(2*time.Minute + 7*time.Second) {
			if n++; at.Hour()%7 == 3 {
				continue
			}
			add(n, fmt.Sprintf("k%d", n%5), at)
			if n%11 == 0 {
				add(n, "k0", at.Add(-time.Duration(n%30)*time.Minute))
			}
		}
		p.end = at3339(p.T, span[1]).AddDate(0, 0, 40)
	}
	for lane := range values {
		add(lane, "end", p.end)
		add(lane, "end", p.end.Add(2*time.Hour))
		p.Send(int32(lane), values[lane]...)
	}
}

// floor is up to which time every window is final, ms; 0 while nobody says so.
func (p *calendars) floor() int64 {
	p.T.Helper()
	var status struct {
		Kept report.Kept `json:"kept"`
	}
	p.decodeInto(p.Must("status", p.Spec.Name, "--json").Out, &status)
	return status.Kept.Floor
}

func (p *calendars) decodeInto(text string, into any) {
	p.T.Helper()
	require.NoError(p.T, json.Unmarshal([]byte(text), into), "%s", text)
}

// ofRollups are the ledger's rows of the windows that were rolled up.
func (p *calendars) ofRollups() (rows []ledger.Row) {
	p.T.Helper()
	for _, row := range p.Ledger() {
		if row.Window != "minutely" {
			rows = append(rows, row)
		}
	}
	return rows
}

// counts are how many events stand in each window and key that ends in time: "<family> <start> <key>".
func (p *calendars) counts() map[string]int {
	p.T.Helper()
	counts := make(map[string]int)
	for _, value := range p.Latest() {
		var row ledger.ResultRow
		require.NoError(p.T, row.UnmarshalJSON(value))
		var values struct{ N int }
		p.decodeInto(string(row.Values), &values)
		if row.End <= p.end.UnixMilli() {
			counts[fmt.Sprintf("%s %d %s", row.Window, row.Start, row.Key)] = values.N
		}
	}
	return counts
}

// requireOracle compares what was published of all windows that end in time with the oracle.
func (p *calendars) requireOracle() {
	p.T.Helper()
	s, err := oracle.ReadSpec(p.YAML)
	require.NoError(p.T, err)
	s.Name = p.Spec.Name
	want, err := oracle.Run(s, p.Fed)
	require.NoError(p.T, err)
	families := make(map[string]int)
	inTime := want.Rows[:0]
	for _, row := range want.Rows {
		if row.End <= p.end.UnixMilli() {
			inTime = append(inTime, row)
			families[row.Window]++
		}
	}
	want.Rows = inTime
	var rows bytes.Buffer
	require.NoError(p.T, want.WriteJSON(&rows))
	var got bytes.Buffer
	for _, value := range p.Latest() {
		var row ledger.ResultRow
		require.NoError(p.T, row.UnmarshalJSON(value))
		if row.End <= p.end.UnixMilli() {
			got.Write(append(value, '\n'))
		}
	}
	diff, err := oracle.Compare(strings.NewReader(rows.String()), &got, oracle.Options{})
	require.NoError(p.T, err)
	require.True(p.T, diff.Equal(), "%s: %s", p.zone, diff)
	p.T.Logf("%s: equal to the oracle: rows by family %v, %d events late", p.zone, families, len(want.Late))
	require.Len(p.T, families, 4)
	require.NotEmpty(p.T, want.Late)
	p.Must("verify", p.Spec.Name, "--spec", p.File)
}
