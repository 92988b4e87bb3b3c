package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

var compacted = contract.CompactWork{
	Rollup: &report.Rollup{
		Families: []report.RolledFamily{
			{Name: "daily", Published: 3, Corrected: 1, Unchanged: 20, Waiting: 1, Keys: 700, ChildLate: 2}, {Name: "monthly", Waiting: 1},
		},
		Waiting: []report.Unfinished{{
			Window: "daily", Start: 978307200000, Child: "hourly", ChildStart: 978325200000, Why: "it is not final", Runs: 2,
		}},
	},
	Archived: &report.Archived{
		Families: []report.ArchivedFamily{{Name: "hourly", Files: 24, Bytes: 9000, Failed: 1}},
		Failed:   []report.Unfinished{{Window: "hourly", Start: 978307200000, Why: "no space left on device"}},
	},
	Stock: &contract.Stock{Families: []contract.StockFamily{
		{Name: "hourly", Windows: 48, Kept: 24, Expired: 24, ExpiredSince: 24, BytesFreed: 9000, Archived: 24, ArchivedBytes: 9000},
	}},
	Problems: []string{"1 window could not be archived: hourly 2001-01-01T00:00:00Z: no space left on device"},
}

func TestDrawCompacted(t *testing.T) {
	result := contract.CompactResult{
		Pipeline: "flights", Outcome: contract.OutcomeIncomplete, Bound: noon, Began: noon, Ended: noon.Add(1500 * time.Millisecond),
		CompactWork: compacted,
	}
	var out bytes.Buffer
	require.NoError(t, drawCompacted(&out, result))
	require.Equal(t, `flights up to 2026-01-01T12:00:00Z: incomplete, 3 rolled up, 1 corrected, 20 unchanged, 2 waiting, `+
		`24 archived (9000 bytes), 1 not archived, 24 expired, took 1.5s
ROLL-UP  ROLLED UP  CORRECTED  UNCHANGED  WAITING  INCIDENTS  FAILED  KEYS  LATE
daily            3          1         20        1          0       0   700     2
monthly          0          0          0        1          0       0     0     0
waiting daily 2001-01-01T00:00:00Z waits for hourly 2001-01-01T05:00:00Z: it is not final
ARCHIVED  FILES  BYTES  NEXT TIME  FAILED
hourly       24   9000          0       1
FAILED hourly 2001-01-01T00:00:00Z: no space left on device
WINDOWS  IN LEDGER  KEPT  EXPIRED  SINCE LAST RUN  BYTES FREED  ARCHIVED  BYTES
hourly          48    24       24              24         9000        24   9000
PROBLEM 1 window could not be archived: hourly 2001-01-01T00:00:00Z: no space left on device
`, out.String())
}

func TestDrawCompacts(t *testing.T) {
	list := compactList{
		Pipeline: "flights",
		Schedule: &compactTiming{ID: "compact:flights", When: "every 1h, jitter 1m", Next: []time.Time{noon.Add(time.Hour)}, Runs: 7, Skipped: 1,
			Paused: true, Note: "by somebody"},
		Runs: []compactRun{
			{listed: listed{Started: instant(noon.UnixMilli()), Open: true},
				state: contract.CompactStatus{State: contract.StateRollingUp, Note: "rolling up what is due", Bound: noon}},
			{listed: listed{Started: instant(noon.UnixMilli())}, state: contract.CompactStatus{State: contract.StateDone, Bound: noon,
				CompactWork: compacted}},
			{listed: listed{Started: instant(noon.UnixMilli())}, fails: "the archive is not shared"},
		},
	}
	var out bytes.Buffer
	require.NoError(t, drawCompacts(&out, &list))
	for _, text := range []string{
		"schedule compact:flights: every 1h, jitter 1m, next 2026-01-01T13:00:00Z\n",
		"PAUSED by somebody: go on with `temporal schedule toggle --unpause --schedule-id compact:flights`\n",
		"7 runs started, 1 skipped because the one before was under way, 0 missed\n",
		"2026-01-01T12:00:00Z  2026-01-01T12:00:00Z  rolling-up  rolling up what is due\n",
		"incomplete  3 rolled up, 1 corrected, 20 unchanged, 2 waiting, 24 archived (9000 bytes), 1 not archived, 24 expired; 1 window could not",
		"2026-01-01T12:00:00Z  -                     failed      the archive is not shared\n",
	} {
		require.Contains(t, out.String(), text)
	}
	out.Reset()
	require.NoError(t, drawCompacts(&out, &compactList{Pipeline: "flights"}))
	require.Equal(t, "pipeline flights has no schedule; make one with `millrace compact schedule flights`\nno run is known\n", out.String())
}

func TestDescribeTiming(t *testing.T) {
	for want, s := range map[string]*client.ScheduleSpec{
		"never":               nil,
		"every 1h, jitter 1m": {Intervals: []client.ScheduleIntervalSpec{{Every: time.Hour}}, Jitter: time.Minute},
		"every 1d at 3h":      {Intervals: []client.ScheduleIntervalSpec{{Every: 24 * time.Hour, Offset: 3 * time.Hour}}},
		"cron 5 * * * *, UTC": {Calendars: []client.ScheduleCalendarSpec{{Comment: "5 * * * *"}}, TimeZoneName: "UTC"},
		"1 calendar":          {Calendars: []client.ScheduleCalendarSpec{{}}},
	} {
		require.Equal(t, want, describeTiming(s))
	}
}

func TestCompactRefusesUsage(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"compact schedule flights --every 30s", "--every is 30s; want whole seconds, 1m to 30d"},
		{"compact schedule flights --every 1h --cron x", "--every and --cron are both given"},
		{"compact schedule flights --jitter 2d", "--jitter is 2d; want whole seconds, 0s to 1d"},
		{"compact run flights --until yesterday", `--until is "yesterday"; want RFC 3339`},
		{"compact backfill flights --from 2001-01-01T00:00:00Z", "--from or --to is missing"},
		{"compact backfill flights --from 2 --to 1", "want a range that does not end before its start"},
		{"compact ls flights --last -1", "--last is -1; want at least 0"},
	} {
		code, _, errs := millrace(t, strings.Fields(c.line)...)
		require.Equal(t, ExitUsage, code, c.line)
		require.Contains(t, errs, c.says, c.line)
	}
}
