package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
)

var firstHour = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

func TestReplayUsage(t *testing.T) {
	const day = " --from 2001-01-01T00:00:00Z --to 978393600000"
	for args, says := range map[string]string{
		"replay":                                           "millrace: NAME is missing; usage: millrace replay NAME",
		"replay No/Name" + day:                             `pipeline: "No/Name" is not a name`,
		"replay flights":                                   "--from and --to are needed, as in --from 2001-01-01T00:00:00Z",
		"replay flights --from yesterday":                  `--from is "yesterday"; want RFC 3339 such as 2001-01-01T00:00:00Z, or milliseconds since 1970`,
		"replay flights --lateness 1h" + day:               `replay: lateness is "1h"; want "as-read" or "none"`,
		"replay flights --from-late --lateness none" + day: "counts in what was late as read",
		"replay flights --spec ../../examples/flights/none.yaml" + day: "cannot read the spec",
		"replay orders --spec " + flightsSpec + day:                    "describes pipeline flights, not orders",
		"replay flights --rate -1" + day:                               "replay: rate is -1; want whole records a second",
		"replay flights --id a/b" + day:                                `--id: "a/b" is not an id of a replay; want 1 to 100 of A-Z a-z`,
		"replay flights surplus" + day:                                 `"surplus" is too much`,
		"replay flights --yesterday":                                   "unknown flag: --yesterday",
		"replay rate flights fix-1 fast":                               `RECORDS is "fast"; want whole records a second`,
		"replay approve flights fix-1":                                 "CHECKSUM is missing",
		"replay diff flights fix-1 --limit -1":                         "--limit is -1; want at least 0",
		"recount flights":                                              "--from and --to are needed",
		"recount flights --yesterday" + day:                            "recount: yesterday is true and from or to is given",
		"recount flights --scope all --yesterday":                      `--scope is "all"; want whole or first-offset`,
		"recount flights --spec x --yesterday":                         "unknown flag: --spec",
		"recount schedule flights":                                     "one of --cron and --every is needed",
		"recount schedule flights --every 1m":                          "--every is 1m; want whole seconds, 1h to 366d",
		`recount schedule flights --cron x --every 1d`:                 "one of --cron and --every is needed",
		"recount schedule flights --remove --every 1d":                 "--remove takes no --cron and no --every",
	} {
		code, out, errs := millrace(t, strings.Fields(args)...)
		require.Equal(t, ExitUsage, code, "%s: %s", args, errs)
		require.Contains(t, errs, says, args)
		require.Empty(t, out)
	}
	code, _, errs := millrace(t, strings.Fields("replay flights"+day)...)
	require.Equal(t, ExitUnreachable, code)
	require.Contains(t, errs, "Temporal at 127.0.0.1:1 does not answer")
}

func TestReplayInput(t *testing.T) {
	job := rereadJob{
		in: contract.ReplayInput{Pipeline: "flights", Recount: true}, from: "2001-01-01T01:00:00+01:00", to: "978393600000",
		scope: "first-offset",
	}
	in, err := job.input()
	require.NoError(t, err)
	require.Equal(t, contract.ReplayInput{
		Version: contract.Version, Pipeline: "flights", Recount: true, From: firstHour, To: firstHour.Add(24 * time.Hour),
		Scope: contract.ScopeFirstOffset,
	}, in)
	id := replayID(firstHour)
	require.Regexp(t, `^20010101T000000Z-[0-9a-f]{4}$`, id)
	require.NoError(t, contract.CheckReplayID(id))
	ids := make(map[string]bool)
	for range 8 {
		ids[replayID(firstHour)] = true
	}
	require.Greater(t, len(ids), 4, "two that begin in the same second do not have one id")
}

// The schedule is what the documentation says that plain Temporal makes of it.
func TestRecountSchedule(t *testing.T) {
	s := recountSchedule{cron: "0 3 * * *", job: rereadJob{in: contract.ReplayInput{Pipeline: "flights", Recount: true, Yesterday: true}}}
	o, err := s.options()
	require.NoError(t, err)
	require.Equal(t, "recount:flights", o.ID)
	require.Equal(t, []string{"0 3 * * *"}, o.Spec.CronExpressions)
	require.Equal(t, time.Hour, o.CatchupWindow)
	require.Equal(t, enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, o.Overlap)
	require.False(t, o.PauseOnFailure, "an incident does not stop it")
	action := o.Action.(*client.ScheduleWorkflowAction)
	require.Equal(t, "replay:flights:nightly", action.ID)
	require.Equal(t, contract.WorkflowReplay, action.Workflow)
	require.Equal(t, contract.ReplayInput{Version: 1, Pipeline: "flights", Recount: true, Yesterday: true}, action.Args[0])

	s.cron, s.every = "", durationFlag(24*time.Hour)
	o, err = s.options()
	require.NoError(t, err)
	require.Equal(t, 24*time.Hour, o.Spec.Intervals[0].Every)
}

func askingStatus() contract.ReplayStatus {
	until := noon.Add(7 * 24 * time.Hour)
	return contract.ReplayStatus{
		Pipeline: "flights", ID: "fix-1", State: contract.StateAsking, Note: "1 of 3 windows differ: ...", Until: &until, Began: noon,
		Ask: &contract.ReplayAsk{From: firstHour, To: firstHour.Add(3 * time.Hour), Window: "hourly", Lateness: contract.LatenessNone, Rate: 5},
		Plan: &contract.ReplayPlan{
			Windows: 3, Records: 1000, Bytes: 200_000, RedisBytes: 1 << 20, Seconds: 90, Rate: 50_000, Notes: []string{"a note"},
			First:   &report.WindowRef{Window: "hourly", Start: firstHour.UnixMilli()},
			Last:    &report.WindowRef{Window: "hourly", Start: firstHour.UnixMilli()},
			LeftOut: 5, Why: []contract.LeftWindow{{Window: &report.WindowRef{Window: "hourly", Start: firstHour.UnixMilli()},
				Detail: "it is not final"}},
		},
		Summary: &contract.ReplaySummary{Windows: 3, Equal: 2, Differ: 1, Added: 1, Changed: 4, Checksum: "c0ffee",
			Differences: []contract.WindowDifference{{
				WindowRef: report.WindowRef{Window: "hourly", Start: firstHour.UnixMilli()}, Revision: 2, Added: 1, Changed: 4, OldKeys: 8, NewKeys: 9,
				OldEvents: 100, NewEvents: 107, Wrong: []string{contract.PlaceView},
				Details: []string{`view: keys: 0 missing, 1 with other values, 0 too many; keys {"origin":"JFK"}`},
			}}},
	}
}

func TestDrawReplayStatus(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, drawReplayStatus(&b, askingStatus()))
	for _, text := range []string{
		"replay fix-1 of flights: asking: 1 of 3 windows differ: ...\n  waits for a decision; without one it is rejected at " +
			"2026-01-08T12:00:00Z\n",
		"  from 2001-01-01T00:00:00Z to 2001-01-01T03:00:00Z, window hourly, no event is late, at most 5 records a second\n",
		"  3 windows: 1000 records, 200k bytes; about 1.05M bytes in Redis and 1m30s at 50k records a second\n",
		"  the first is hourly 2001-01-01T00:00:00Z, the last hourly", "  note: a note\n",
		"  5 windows left out:\n    hourly 2001-01-01T00:00:00Z: it is not final\n    and 4 more\n",
		"hourly  2001-01-01T00:00:00Z         2      1        4        0  8 → 9  100 → 107  view\n",
		`  hourly 2001-01-01T00:00:00Z: wrong view: keys: 0 missing, 1 with other values, 0 too many; keys {"origin":"JFK"}` + "\n",
		"  checksum of the diff: c0ffee\n", "publish it with:   millrace replay approve flights fix-1 c0ffee\n",
	} {
		require.Contains(t, b.String(), text)
	}

	b.Reset()
	reading := askingStatus()
	reading.State, reading.Summary, reading.Until = contract.StateReading, nil, nil
	reading.Progress = &contract.ReplayProgress{Read: 250, Records: 1000, Rate: 50, Windows: 3, Waits: "flights/0 lags",
		Lanes: []contract.ReplayLanePart{{
			ReplayLane: contract.ReplayLane{Topic: "flights", End: 1000}, Offset: 250, Rate: 50,
		}}}
	require.NoError(t, drawReplayStatus(&b, reading))
	require.Contains(t, b.String(), "  25 % read, 250 of 1000 records at 50/s, 15s left; 0 of 3 windows compared; it waits: flights/0 lags\n")
	require.Contains(t, b.String(), "flights/0     250  1000   750         50\n")
	require.NotContains(t, b.String(), "approve")
}

// A replay that has ended is listed by how it has ended.
func TestDrawReplayRow(t *testing.T) {
	state := func(l listed, s contract.ReplayStatus) string {
		var table table
		s.Ask = askingStatus().Ask
		drawReplayRow(&table, l, s)
		return table.rows[0][3]
	}
	require.Equal(t, contract.StateAsking, state(listed{Open: true}, contract.ReplayStatus{State: contract.StateAsking}))
	for _, outcome := range []string{contract.OutcomeCarriedOut, contract.OutcomeRejected, contract.OutcomeCancelled, contract.OutcomeFailed} {
		require.Equal(t, outcome, state(listed{}, contract.ReplayStatus{State: contract.StateDone, Outcome: outcome}))
	}
	require.Equal(t, contract.StateDone, state(listed{}, contract.ReplayStatus{State: contract.StateDone}), "of an older release")
	require.Equal(t, "terminated", state(listed{}, contract.ReplayStatus{State: contract.StateReading}))
}

func TestHintsNameThePipeline(t *testing.T) {
	require.Equal(t, "see `millrace replay ls flights`", noReplay("flights"))
	require.Equal(t, "see `millrace recover ls flights`", noRecovery("recover:flights:0b2c5a0e:3"))
	require.Equal(t, "give the id of a workflow as `millrace recover ls NAME` lists them", noRecovery("fix-1"))
}

func TestDrawReplayResult(t *testing.T) {
	job := new(contract.JobReport)
	job.Add(contract.CarriedWindow{WindowRef: report.WindowRef{Window: "hourly", Start: firstHour.UnixMilli()},
		Outcome: contract.CarriedPublished, Revision: 3})
	r := contract.ReplayResult{
		Pipeline: "flights", ID: "fix-1", Outcome: contract.OutcomeCarriedOut, Note: "1 published",
		Began: noon, Ended: noon.Add(90 * time.Second), Published: job,
	}
	var b bytes.Buffer
	require.NoError(t, drawReplayResult(&b, r))
	require.Contains(t, b.String(), "replay fix-1 of flights: carried-out: 1 published\n")
	require.Contains(t, b.String(), "took 1m30s\n  published: 1 published\n    hourly 2001-01-01T00:00:00Z: published, revision 3\n")
	require.NoError(t, left(r))

	rejected := contract.ReplayResult{Outcome: contract.OutcomeRejected, Summary: askingStatus().Summary}
	b.Reset()
	require.NoError(t, drawReplayResult(&b, rejected))
	require.NotContains(t, b.String(), "checksum of the diff", "who rejects has seen what differs")
	rejected.Outcome = contract.OutcomeCarriedOut
	require.NoError(t, drawReplayResult(&b, rejected))
	require.Contains(t, b.String(), "checksum of the diff: c0ffee\n")

	r.Plan = askingStatus().Plan
	b.Reset()
	require.NoError(t, drawReplayResult(&b, r))
	require.Contains(t, b.String(), "took 1m30s\n  5 windows left out:\n    hourly 2001-01-01T00:00:00Z: it is not final\n    and "+
		"4 more\n  published:")
	job.Add(contract.CarriedWindow{Outcome: contract.CarriedMoved})
	require.Equal(t, ExitIncomplete, Code(left(r)))
	require.Equal(t, contract.CarriedMoved, job.Windows[0].Outcome, "what somebody should look at comes first")
}

// found is what a shadow has found.
type found struct{ rows []diff.Row }

func (f found) Manifest(context.Context) (*shadow.Manifest, error) {
	row := ledger.Row{Window: "hourly", Start: firstHour.UnixMilli(), Keys: 9, Events: 107}
	equal := ledger.Row{Window: "hourly", Start: firstHour.Add(time.Hour).UnixMilli()}
	return &shadow.Manifest{Checksum: "c0ffee", Headers: []*diff.Header{
		{Row: equal, Equal: true}, {Row: row, BaseRevision: 2, BaseKeys: 8, BaseEvents: 100, Added: 1, Changed: 1, Removed: 1, Pages: 2}, nil,
	}}, nil
}

func (f found) Page(_ context.Context, _ ledger.WindowID, number int) ([]diff.Row, error) {
	return f.rows[2*number : min(2*number+2, len(f.rows))], nil
}

func TestDrawDiff(t *testing.T) {
	f := found{[]diff.Row{
		{Key: []byte(`{"origin":"ATL"}`), Old: []byte(`{"n":1,"d":7}`), New: []byte(`{"n":2,"d":7}`)},
		{Key: []byte(`{"origin":"BOS"}`), New: []byte(`{"n":1,"d":3}`)},
		{Key: []byte(`{"origin":"SFO"}`), Old: []byte(`{"n":1,"d":3}`)},
	}}
	draw := func(json bool, filter diffFilter) (string, error) {
		var b bytes.Buffer
		err := drawDiff(t.Context(), &shell{out: &b, json: json}, f, "flights", "fix-1", filter)
		return b.String(), err
	}
	text, err := draw(false, diffFilter{})
	require.NoError(t, err)
	require.Equal(t, `hourly 2001-01-01T00:00:00Z against revision 2: 1 added, 1 changed, 1 removed; keys 8 → 9, events 100 → 107
           origin  WAS       IS
  changed  ATL     n 1       n 2
  added    BOS     -         n 1, d 3
  removed  SFO     n 1, d 3  -
checksum of the diff: c0ffee
`, text)
	text, err = draw(false, diffFilter{limit: 1})
	require.NoError(t, err)
	require.Contains(t, text, "and 2 keys more; see --limit")
	text, err = draw(true, diffFilter{start: "2001-01-01T00:00:00Z"})
	require.NoError(t, err)
	require.Contains(t, text, `[{"window":"hourly","start":"2001-01-01T00:00:00Z","kind":"changed","key":{"origin":"ATL"},"old":{"n":1,"d":7},"new":{"n":2,"d":7}}`)
	_, err = draw(false, diffFilter{window: "daily"})
	require.ErrorContains(t, err, "nothing of replay fix-1 of pipeline flights that fits differs")
}
