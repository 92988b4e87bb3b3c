package result_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/tests/long"
	"millrace/tests/oracle"
)

// aDay is 12 September 2023 in UTC.
var aDay = time.Date(2023, 9, 12, 0, 0, 0, 0, time.UTC).UnixMilli()

// smallDay has events in three hours of one day, one hour of them without any in between, and one in the next day; one event of
// the first hour comes late. It returns the start of the minute that it missed, and up to where everything is final.
func smallDay(w *rolling) (missed, end int64) {
	for i, m := range []int64{5, 6, 65, 185, 190, 24*60 + 10} {
		w.event(i%len(w.lanes), "a", aDay+m*minute+7, int64(i))
		w.event(i%len(w.lanes), fmt.Sprint("k", i), aDay+m*minute+9, int64(10*i))
	}
	end = w.pass(aDay + 25*hour)
	missed = aDay + 6*minute
	w.event(0, "late", missed+30_000, 99)
	return missed, end
}

// ofDay is what the ledger says of the windows of roll-ups: "<family> <minutes> r<revision> <children>".
func (w *rolling) ofDay() []string {
	var out []string
	for _, row := range w.ledger() {
		if row.Window != "minutely" {
			out = append(out, fmt.Sprintf("%s %d r%d %d", row.Window, (row.Start-aDay)/minute, row.Revision, len(row.Children)))
		}
	}
	return out
}

// wholeDay is what smallDay gives.
var wholeDay = []string{
	"days 0 r1 3", "days 1440 r1 1", "hours 0 r1 2", "hours 60 r1 1", "hours 180 r1 2", "hours 1440 r1 1", "months -15840 r1 2",
}

// correctWithLate corrects a minute as a replay does that counts what was late for it.
func (w *rolling) correctWithLate(start int64) {
	w.t.Helper()
	text := strings.Replace(w.text, "allowed_lateness: 30m", "allowed_lateness: 87600h", 1)
	shadow := &rolling{world: newWorld(w.t, text, len(w.lanes))}
	for i, l := range w.lanes {
		for _, r := range l.log {
			var e struct {
				K    string
				T, V int64
			}
			require.NoError(w.t, json.Unmarshal(r.Value, &e))
			shadow.event(i, e.K, e.T, e.V)
		}
		shadow.lanes[i].commit()
	}
	closer := shadow.closer()
	_, err := closer.Flush(w.ctx)
	require.NoError(w.t, err)
	counted := shadow.rowOf("minutely", start)
	content, err := shadow.contents().ReadStates(w.ctx, counted)
	require.NoError(w.t, err)

	base := w.rowOf("minutely", start)
	row := *counted
	row.Reason, row.Replay = ledger.ReasonReplay, &ledger.ReplayOrigin{
		ID: "x", BaseRevision: base.Revision, BaseChecksum: base.Checksum, Lateness: "none", Diff: "d",
	}
	slot := publish.New(publish.Config{
		Slot: w.slotOf("minutely", start), Pipeline: "orders", Families: []string{"minutely"}, Spec: w.spec.Version(),
		Kafka: w.kafka, State: w.store, Keep: w.spec.Retention, Now: func() time.Time { return w.clk.now },
	})
	defer slot.Close()
	require.NoError(w.t, slot.Do(func(h *publish.Held) error {
		done, err := h.Correct(w.ctx, &publish.Correction{
			Row: &row, BaseRevision: base.Revision, BaseChecksum: base.Checksum,
			Topics: publish.TopicIDs{Results: "made-first", States: "states-first"},
			Content: publish.InOrder{Rows: func(_ ctxType, emit func(ledger.Content) error) (int64, error) {
				for _, c := range content {
					if err := emit(c); err != nil {
						return 0, err
					}
				}
				return counted.Events, nil
			}},
		})
		require.Equal(w.t, publish.VerdictPublished, done.Verdict)
		return err
	}))
}

func (w *world) rowOf(family string, start int64) *ledger.Row {
	w.t.Helper()
	for _, row := range w.ledger() {
		if row.Window == family && row.Start == start {
			return &row
		}
	}
	require.Fail(w.t, "no row", "%s at %d", family, start)
	return nil
}

func (w *world) contents() *publish.Contents {
	renderer, err := agg.NewRenderer(w.spec)
	require.NoError(w.t, err)
	return &publish.Contents{Kafka: w.kafka, State: w.store, Render: renderer.Render}
}

// requireOracleOf compares what was published of windows that end at or before upper with what the oracle says of another
// lateness, and has everything verified.
func (w *rolling) requireOracleOf(text string, upper int64) {
	w.t.Helper()
	w.requireResultsOf(text, upper)
	w.verifyAt(w.clk)
}

// requireResultsOf is requireOracleOf for worlds that have lost what verify would miss.
func (w *rolling) requireResultsOf(text string, upper int64) {
	w.t.Helper()
	was := w.text
	w.text = text
	want, _ := w.expected(upper)
	w.text = was
	var got bytes.Buffer
	for _, r := range w.results() {
		if r.End <= upper {
			require.NoError(w.t, json.NewEncoder(&got).Encode(r))
		}
	}
	diff, err := oracle.Compare(strings.NewReader(want), &got, oracle.Options{})
	require.NoError(w.t, err)
	require.True(w.t, diff.Equal(), diff.String())
}

func (w *rolling) withLate() string {
	return strings.Replace(w.text, "allowed_lateness: 30m", "allowed_lateness: 87600h", 1)
}

func TestAnHourWithoutEvents(t *testing.T) {
	w := newRolling(t, "UTC", 1)
	_, end := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	done, booked := w.rollUp(c)
	require.Equal(t, "hours 4+0=0?1!0-0 days 2+0=0?0!0-0 months 1+0=0?0!0-0", families(done))
	require.Equal(t, wholeDay, w.ofDay())
	require.Len(t, booked, 7)
	require.Equal(t, "hours/2023-09-12T00:00:00Z published r1", booked[0])
	require.Equal(t, int64(1), w.rowOf("days", aDay).ChildLate)
	require.Equal(t, []ledger.Child{
		{Window: "hours", Start: aDay, Revision: 1, Checksum: w.rowOf("hours", aDay).Checksum},
		{Window: "hours", Start: aDay + hour, Revision: 1, Checksum: w.rowOf("hours", aDay+hour).Checksum},
		{Window: "hours", Start: aDay + 3*hour, Revision: 1, Checksum: w.rowOf("hours", aDay+3*hour).Checksum},
	}, w.rowOf("days", aDay).Children)
	w.requireOracle(end)
}

func TestWaitingNamesTheChild(t *testing.T) {
	w := newRolling(t, "UTC", 1)
	w.event(0, "a", aDay+5*minute, 1)
	w.event(0, "a", aDay+70*minute, 1)
	c := w.newCloser()
	w.closeAll(c)
	done, booked := w.rollUp(c)
	require.Empty(t, booked)
	require.Equal(t, 1, done.Families[0].Waiting, "the first hour ends, and nothing says that its other minutes are empty")
	require.Equal(t, "minutely", done.Waiting[0].Child)
	require.Equal(t, aDay+6*minute, done.Waiting[0].ChildStart)
	require.False(t, done.Done())
}

func TestALateMinuteIsOneRevisionOfEachLevel(t *testing.T) {
	for _, lost := range []string{"nothing", "everything in Redis"} {
		t.Run(lost, func(t *testing.T) {
			w := newRolling(t, "UTC", 2)
			missed, end := smallDay(w)
			c := w.newCloser()
			w.closeAll(c)
			w.rollUp(c)
			if lost != "nothing" {
				w.server.FlushAll()
			}
			w.correctWithLate(missed)
			done, booked := w.rollUp(w.newCloser())
			require.Equal(t, "hours 0+1=3?1!0-0 days 0+1=1?0!0-0 months 0+1=0?0!0-0", families(done))
			require.Equal(t, []string{
				"hours/2023-09-12T00:00:00Z published r2", "days/2023-09-12T00:00:00Z published r2", "months/2023-09-01T00:00:00Z published r2",
			}, booked)
			require.Equal(t, []string{"r1 rollup final", "r2 rollup final"}, w.history("days", aDay))
			if lost == "nothing" {
				w.requireOracleOf(w.withLate(), end)
			}
			require.Equal(t, 2, w.rowOf("hours", aDay).Children[1].Revision)
			for _, family := range []string{"hours", "days"} {
				row := w.rowOf(family, aDay)
				require.EqualValues(t, 1, row.Changed, "one key is new")
				require.Equal(t, []int{2, 2}, []int{len(row.Links), len(row.States)})
				states, err := w.contents().ReadStates(w.ctx, row)
				require.NoError(t, err)
				require.Len(t, states, int(row.Keys))
			}

			_, booked = w.rollUp(w.newCloser())
			require.Empty(t, booked)
		})
	}
}

func TestSkippedAndLimitedRuns(t *testing.T) {
	w := newRolling(t, "UTC", 1)
	_, end := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	for _, upper := range []int64{aDay + 2*hour, aDay + 2*hour, aDay + 4*hour - 1} {
		_, _, err := w.tryRollUp(c, upper)
		require.NoError(t, err)
		require.Equal(t, []string{"hours 0 r1 2", "hours 60 r1 1"}, w.ofDay(), "what ends later is left")
	}
	_, _, err := w.tryRollUp(c, aDay+24*hour) // those of 04:00 to 23:00 were skipped
	require.NoError(t, err)
	require.Equal(t, []string{"days 0 r1 3", "hours 0 r1 2", "hours 60 r1 1", "hours 180 r1 2"}, w.ofDay())
	w.rollUp(c)
	require.Equal(t, wholeDay, w.ofDay())
	w.requireOracle(end)
}

// A closer that dies between any two steps of a run, or loses the answer to one, leaves what the next run completes.
func TestRollupDiesAtEveryStep(t *testing.T) {
	steps := 0
	build := func() (*rolling, int64) {
		w := newRolling(t, "UTC", 1)
		_, end := smallDay(w)
		w.closeAll(w.newCloser())
		return w, end
	}
	w, _ := build()
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome { steps++; return publishtest.Pass })
	w.rollUp(w.newCloser())
	require.Greater(t, steps, 50)
	for _, outcome := range []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter} {
		for dies := 0; dies < steps; dies += 9 {
			w, end := build()
			n := 0
			w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
				if n++; n > dies {
					return outcome
				}
				return publishtest.Pass
			})
			_, _, err := w.tryRollUp(w.newCloser(), forever)
			require.Error(t, err, dies)
			w.kafka.Plan(nil)
			next := w.newCloser()
			w.rollUp(next)
			w.round(next) // shows what the one before did not live to show
			require.Equal(t, wholeDay, w.ofDay(), "died at step %d of %d", dies, steps)
			w.requireOracle(end)
		}
	}
}

// A child is corrected after its parent was published and before the grandparent is.
func TestAChildIsCorrectedInBetween(t *testing.T) {
	w := newRolling(t, "UTC", 2)
	missed, end := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	_, _, err := w.tryRollUp(c, aDay+hour)
	require.NoError(t, err)
	require.Equal(t, []string{"hours 0 r1 2"}, w.ofDay())
	w.correctWithLate(missed)
	_, booked := w.rollUp(w.newCloser())
	require.Equal(t, "hours/2023-09-12T00:00:00Z published r2", booked[0])
	require.Equal(t, []string{"r1 rollup final"}, w.history("days", aDay), "the day is made once, from what the hours are now")
	w.requireOracleOf(w.withLate(), end)
}

// The states of a child are gone: nothing is published of its parent, and the incident names the child.
func TestStatesThatAreGoneAreAnIncident(t *testing.T) {
	w := newRolling(t, "UTC", 2)
	missed, _ := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	w.rollUp(c)
	w.server.FlushAll()
	w.kafka.MakeTopicAgain(ledger.StatesTopic("orders"), "states-first", 3)
	w.correctWithLate(missed)
	done, booked := w.rollUp(w.newCloser())
	require.Equal(t, []string{"hours/2023-09-12T00:00:00Z  r0"}, booked)
	require.Len(t, done.Incidents, 1)
	require.Equal(t, "minutely", done.Incidents[0].Child)
	require.Equal(t, aDay+5*minute, done.Incidents[0].ChildStart)
	require.Contains(t, done.Incidents[0].Why,
		"incident state-lost: window hours/2023-09-12T00:00:00Z needs the state of window minutely/2023-09-12T00:05:00Z: ")
	require.Contains(t, done.Incidents[0].Why,
		"run `millrace recount orders --from 2023-09-12T00:05:00Z --to 2023-09-12T00:06:00Z`, approve what it finds, then `millrace compact run orders`")
	require.Equal(t, wholeDay, w.ofDay())
}

// The states of hours are gone, and those of their minutes are not: the day that misses them has them made anew.
func TestRollupsWhoseStatesAreGoneAreMadeAnew(t *testing.T) {
	w := newRolling(t, "UTC", 2)
	missed, end := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	w.rollUp(c)
	w.kafka.MakeTopicAgain(ledger.StatesTopic("orders"), "states-third", 3)
	for _, key := range w.server.Keys() {
		if strings.HasPrefix(key, "mr:{orders/hours/") || strings.HasPrefix(key, "mr:{orders/days/") {
			w.server.Del(key)
		}
	}
	w.correctWithLate(missed)
	done, booked := w.rollUp(w.newCloser())
	require.Empty(t, done.Incidents)
	require.Equal(t, []string{
		"hours/2023-09-12T00:00:00Z published r2", // corrected
		"hours/2023-09-12T01:00:00Z published r2", "hours/2023-09-12T03:00:00Z published r2", "days/2023-09-12T00:00:00Z published r2",
		"hours/2023-09-13T00:00:00Z published r2", "days/2023-09-13T00:00:00Z published r2", "months/2023-09-01T00:00:00Z published r2",
	}, booked)
	w.requireResultsOf(w.withLate(), end)
	require.Empty(t, w.rowOf("hours", aDay).Mends)
	require.Equal(t, "states", w.rowOf("hours", aDay+hour).Mends)

	_, booked = w.rollUp(w.newCloser())
	require.Empty(t, booked)
}

// What the topic has lost may still stand in Redis.
func TestStatesThatOnlyRedisHas(t *testing.T) {
	w := newRolling(t, "UTC", 2)
	_, end := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	w.kafka.MakeTopicAgain(ledger.StatesTopic("orders"), "states-second", 3)
	done, _ := w.rollUp(c)
	require.Empty(t, done.Incidents)
	require.Equal(t, wholeDay, w.ofDay())
	want, _ := w.expected(end)
	require.Equal(t, strings.Count(want, "\n"), len(w.results())-1, "all but the row of the window that passes the others")
}

// Two runs at once publish every window once.
func TestTwoRunsAtOnce(t *testing.T) {
	w := newRolling(t, "UTC", 1)
	_, end := smallDay(w)
	w.closeAll(w.newCloser())
	other := w.newCloser()
	first := true
	job := result.Job{ID: "rollup", Kind: result.JobRollup, Body: json.RawMessage(fmt.Sprintf(`{"upper_bound":%d}`, forever))}
	err := w.newCloser().CarryOut(w.ctx, job, func(ctx ctxType, work func(ctxType) error) error {
		if first {
			first = false
			w.rollUp(other)
		}
		return work(ctx)
	}, func(result.Carried) {})
	require.NoError(t, err)
	require.Equal(t, wholeDay, w.ofDay())
	w.requireOracle(end)
}

// TestRollupsConverge corrects minutes, runs up to any bound and lets closers die, in any order: the run that comes last leaves
// what the oracle says of everything that ever arrived.
func TestRollupsConverge(t *testing.T) {
	for seed := range long.Seeds(2, 6) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newRolling(t, "Europe/Berlin", 2)
		from := time.Date(2023, 10, 28, 20, 0, 0, 0, time.UTC).UnixMilli()
		var minutes []int64
		for m := range int64(30) {
			minutes = append(minutes, from+(m*55+r.Int64N(50))*minute)
			w.event(r.IntN(2), fmt.Sprint("k", r.IntN(4)), minutes[m]+r.Int64N(minute), r.Int64N(100))
		}
		end := w.pass(minutes[len(minutes)-1])
		r.Shuffle(len(minutes), func(i, j int) { minutes[i], minutes[j] = minutes[j], minutes[i] })
		late := minutes[:5]
		for _, m := range late {
			w.event(r.IntN(2), fmt.Sprint("k", r.IntN(6)), m-m%minute+r.Int64N(minute), r.Int64N(100))
		}
		w.closeAll(w.newCloser())
		for len(late) > 0 {
			switch r.IntN(3) {
			case 0:
				w.correctWithLate(late[0] - late[0]%minute)
				late = late[1:]
			case 1:
				_, _, err := w.tryRollUp(w.newCloser(), from+r.Int64N(40*24)*hour)
				require.NoError(t, err)
			case 2:
				left := r.IntN(150)
				w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
					if left--; left < 0 {
						return publishtest.Outcome(1 + r.IntN(2))
					}
					return publishtest.Pass
				})
				_, _, _ = w.tryRollUp(w.newCloser(), forever)
				w.kafka.Plan(nil)
			}
		}
		next := w.newCloser()
		w.rollUp(next)
		w.round(next)
		w.requireOracleOf(w.withLate(), end)
		_, booked := w.rollUp(w.newCloser())
		require.Empty(t, booked, "seed %d", seed)
	}
}
