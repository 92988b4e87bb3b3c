package result_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/rollup"
	"millrace/pipeline/window"
	"millrace/tests/oracle"
)

// minutesIn is a pipeline of minutes that are rolled up into hours, days and months of a zone.
func minutesIn(zone string) string {
	return header + fmt.Sprintf(`
windows: [{name: minutely, size: 1m}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
allowed_lateness: 30m
retention: {results: 30d, ledger: 60d}
rollups:
  - {name: hours, from: minutely, calendar: hour, timezone: %[1]s}
  - {name: days, from: hours, calendar: day, timezone: %[1]s, retention: 400d}
  - {name: months, from: days, calendar: month, timezone: %[1]s, retention: 400d}
`, zone)
}

// rolling is a world whose windows are rolled up.
type rolling struct {
	*world
	text string
	clk  *clock
}

func newRolling(t testing.TB, zone string, partitions int) *rolling {
	text := minutesIn(zone)
	w := newWorld(t, text, partitions)
	return &rolling{w, text, w.newClock()}
}

func (w *rolling) newCloser(change ...func(*result.Config)) *result.Closer {
	late := func(_ context.Context, fn func(rollup.LateEvent) error) error {
		for _, headers := range w.late {
			for _, e := range rollup.ParseLate(headers) {
				if err := fn(e); err != nil {
					return err
				}
			}
		}
		return nil
	}
	use := func(c *result.Config) {
		c.Now = func() time.Time { return w.clk.now }
		c.Jobs = map[string]result.JobKind{result.JobRollup: result.Rollups{Late: late}}
	}
	return w.closer(append([]func(*result.Config){use}, change...)...)
}

// event is one more event of a lane.
func (w *rolling) event(lane int, key string, ms, v int64) {
	w.lanes[lane].event(key, float64(ms-base)/float64(minute), v)
}

// closeAll publishes every window that the lanes have passed, makes it final and raises the floors.
func (w *rolling) closeAll(c *result.Closer) {
	w.t.Helper()
	for range 400 {
		for _, l := range w.lanes {
			l.commit()
		}
		if r := w.round(c); r.Due == 0 {
			w.clk.pass(time.Minute)
			w.round(c)
			return
		}
	}
	require.Fail(w.t, "rounds never end")
}

// forever is an upper bound beyond every window.
var forever = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// rollUp rolls up what ends at or before forever, and returns the report and what was booked as "<window> <verdict> r<revision>".
func (w *rolling) rollUp(c *result.Closer) (done report.Rollup, booked []string) {
	w.t.Helper()
	done, booked, err := w.tryRollUp(c, forever)
	require.NoError(w.t, err)
	return done, booked
}

func (w *rolling) tryRollUp(c *result.Closer, upper int64) (done report.Rollup, booked []string, err error) {
	job := result.Job{ID: "rollup", Kind: result.JobRollup, Body: json.RawMessage(fmt.Sprintf(`{"upper_bound":%d}`, upper))}
	err = c.CarryOut(w.ctx, job, atOnce, func(b result.Carried) {
		if b.Rollup != nil {
			done = *b.Rollup
			return
		}
		booked = append(booked, fmt.Sprintf("%s %s r%d", b.Window, b.Verdict, b.Revision))
	})
	return done, booked, err
}

// families is what became of the windows of each roll-up: published, corrected, unchanged, waiting, incidents and failed.
func families(r report.Rollup) string {
	var parts []string
	for _, f := range r.Families {
		parts = append(parts, fmt.Sprintf("%s %d+%d=%d?%d!%d-%d",
			f.Name, f.Published, f.Corrected, f.Unchanged, f.Waiting, f.Incidents, f.Failed))
	}
	return strings.Join(parts, " ")
}

// expected is what the oracle says of the windows that end at or before upper, and of how many events each roll-up window
// lacks.
func (w *rolling) expected(upper int64) (string, map[string]map[int64]int64) {
	w.t.Helper()
	s, err := oracle.ReadSpec([]byte(w.text))
	require.NoError(w.t, err)
	var lanes []oracle.Lane
	for _, l := range w.lanes {
		in := oracle.Lane{Topic: l.tp.Topic, Partition: l.tp.Partition}
		for _, r := range l.log {
			in.Records = append(in.Records, oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp, Value: r.Value})
		}
		lanes = append(lanes, in)
	}
	res, err := oracle.Run(s, lanes)
	require.NoError(w.t, err)
	res.Rows = slices.DeleteFunc(res.Rows, func(r oracle.Row) bool { return r.End > upper })
	var out bytes.Buffer
	require.NoError(w.t, res.WriteJSON(&out))
	return out.String(), res.ChildLate
}

// requireOracle compares everything that was published of windows that end at or before upper with the oracle, and the
// ledger with what was published.
func (w *rolling) requireOracle(upper int64) {
	w.t.Helper()
	want, late := w.expected(upper)
	var got bytes.Buffer
	for _, r := range w.results() {
		if r.End <= upper {
			require.NoError(w.t, json.NewEncoder(&got).Encode(r))
		}
	}
	diff, err := oracle.Compare(strings.NewReader(want), &got, oracle.Options{})
	require.NoError(w.t, err)
	require.True(w.t, diff.Equal(), diff.String())
	require.Positive(w.t, diff.Expected)
	for _, row := range w.ledger() {
		if row.Window != "minutely" && row.End <= upper {
			require.Equal(w.t, late[row.Window][row.Start], row.ChildLate, row.ID().String())
			require.NotEmpty(w.t, row.Children)
			require.Equal(w.t, ledger.ReasonRollup, row.Reason)
			require.True(w.t, row.Final && row.Exact)
		}
	}
	w.verifyAt(w.clk)
}

// feed produces events on all lanes around some times, in the order of time but for what comes late, and then one far later.
func (w *rolling) feed(seed uint64, n int, spans ...[2]int64) (end int64) {
	r := rand.New(rand.NewPCG(seed, 9))
	var times []int64
	for _, span := range spans {
		for range n {
			times = append(times, span[0]+r.Int64N(span[1]-span[0]))
		}
	}
	slices.Sort(times)
	for i, ms := range times {
		switch {
		case i > 0 && r.IntN(20) == 0:
			ms = times[i-1] - r.Int64N(120*minute) // maybe late
		case r.IntN(6) == 0:
			ms -= ms % minute // at the very start of a window
		}
		w.event(r.IntN(len(w.lanes)), fmt.Sprintf("k%d", r.IntN(5)), ms, r.Int64N(1000)-500)
	}
	return w.pass(times[len(times)-1])
}

// pass moves all lanes on, so that everything before the returned time is final, and below the floors.
func (w *rolling) pass(ms int64) (end int64) {
	end = ms + 40*24*hour
	end -= end % minute
	for lane := range w.lanes {
		w.event(lane, "end", end, 0)
		w.event(lane, "end", end+2*hour, 0)
	}
	return end
}

func at3339(t testing.TB, text string) int64 {
	t.Helper()
	ms, err := window.ParseTime(text)
	require.NoError(t, err)
	return ms
}

func TestRollupsAreTheOracles(t *testing.T) {
	for _, c := range []struct {
		name, zone string
		spans      [][2]string
	}{
		{"Berlin, a day of 23 hours", "Europe/Berlin", [][2]string{{"2023-03-25T20:00:00Z", "2023-03-27T04:00:00Z"}}},
		{"Berlin, a day of 25 hours", "Europe/Berlin", [][2]string{{"2023-10-28T20:00:00Z", "2023-10-30T04:00:00Z"}}},
		{"Apia, a day that is missing", "Pacific/Apia", [][2]string{{"2011-12-29T06:00:00Z", "2012-01-01T14:00:00Z"}}},
		{"St John's, a day that begins twice", "America/St_Johns", [][2]string{{"2010-11-06T20:00:00Z", "2010-11-08T06:00:00Z"}}},
		{"Sao Paulo, a day without midnight", "America/Sao_Paulo", [][2]string{{"2018-11-03T20:00:00Z", "2018-11-05T06:00:00Z"}}},
		{"months apart", "Asia/Kathmandu", [][2]string{
			{"2023-06-30T16:00:00Z", "2023-06-30T20:00:00Z"}, {"2023-08-31T16:00:00Z", "2023-08-31T20:00:00Z"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newRolling(t, c.zone, 2)
			var spans [][2]int64
			for _, s := range c.spans {
				spans = append(spans, [2]int64{at3339(t, s[0]), at3339(t, s[1])})
			}
			end := w.feed(uint64(len(c.name)), 150, spans...)
			closer := w.newCloser()
			w.closeAll(closer)
			first, _ := w.rollUp(closer)
			require.Empty(t, first.Failed)
			require.Empty(t, first.Incidents)
			for _, f := range first.Families {
				require.Positive(t, f.Published, f.Name)
				require.Zero(t, f.Corrected+f.Unchanged, f.Name)
			}
			w.requireOracle(end)

			again, booked := w.rollUp(w.newCloser())
			require.Empty(t, booked)
			for i, f := range again.Families {
				require.Zero(t, f.Published+f.Corrected+f.Failed, f.Name)
				require.Equal(t, first.Families[i].Published, f.Unchanged, f.Name)
			}
		})
	}
}
