package result_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
)

// keepsShort is a pipeline whose minutes are kept for two hours in the ledger, its hours for three, and its days for ever so long.
const keepsShort = header + `
windows: [{name: minutely, size: 1m}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
allowed_lateness: 30m
retention: {results: 10m, ledger: 2h}
rollups:
  - {name: hours, from: minutely, calendar: hour, retention: 3h}
  - {name: days, from: hours, calendar: day, retention: 400d}
`

func newKeeping(t testing.TB, text string) *rolling {
	w := newWorld(t, text, 1)
	return &rolling{w, text, w.newClock()}
}

// counted is how many windows of each family have a row.
func (w *rolling) counted() map[string]int {
	n := map[string]int{}
	for _, row := range w.ledger() {
		n[row.Window]++
	}
	return n
}

// rest lets time pass, and the closer do what it does then.
func (w *rolling) rest(c *result.Closer, d time.Duration) {
	w.t.Helper()
	w.clk.pass(d)
	w.round(c)
}

func TestRowsStayWhileTheirParentNeedsThem(t *testing.T) {
	w := newKeeping(t, keepsShort)
	_, end := smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	all := w.counted()
	require.Equal(t, map[string]int{"minutely": 7}, all, "six minutes of two days, and the one that passes them")
	w.rest(c, 24*time.Hour)
	w.rest(c, time.Minute)
	require.Equal(t, all, w.counted(), "nobody has rolled them up yet")

	w.rollUp(c)
	require.Equal(t, map[string]int{"minutely": 7, "hours": 4, "days": 2}, w.counted())
	w.requireOracle(end)
	for range 3 { // the floors of the roll-ups are raised
		w.rest(c, time.Minute)
	}
	require.Equal(t, 7, w.counted()["minutely"], "a sibling may still be corrected, and the hour made anew")
	for slot := range ledger.DefaultSlots {
		floors := w.floorsOf(slot)
		require.Greater(t, floors["hours"], aDay+25*hour, slot)
		require.Greater(t, floors["days"], aDay+47*hour, slot)
		require.Greater(t, floors["minutely"], floors["hours"], slot)
	}

	w.rest(c, 2*time.Hour)
	w.rest(c, time.Minute)
	require.Equal(t, map[string]int{"minutely": 1, "hours": 4, "days": 2}, w.counted(), "those that nothing was made from yet stay")
	w.rest(c, time.Hour)
	w.rest(c, time.Minute)
	require.Equal(t, map[string]int{"minutely": 1, "days": 2}, w.counted())
	_, booked := w.rollUp(w.newCloser())
	require.Empty(t, booked, "what was given up is not made again")
	w.rest(c, 399*24*time.Hour)
	require.Equal(t, 2, w.counted()["days"])
	w.verifyAt(w.clk)
	w.rest(c, 24*time.Hour)
	w.rest(c, time.Minute)
	require.Equal(t, map[string]int{"minutely": 1}, w.counted())
	_, booked = w.rollUp(w.newCloser())
	require.Empty(t, booked)
}

// floorsOf are the latest floors of a slot, by family.
func (w *rolling) floorsOf(slot int) map[string]int64 {
	w.t.Helper()
	floors := map[string]int64{}
	require.NoError(w.t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
		if rec.Floor != nil && int(rec.Partition) == slot {
			floors[rec.Floor.Window] = rec.Floor.End
		}
		return nil
	}))
	return floors
}

func TestContentsOfEachLevelExpireByItself(t *testing.T) {
	w := newKeeping(t, strings.Replace(keepsShort, "retention: 3h", "retention: 1h", 1))
	smallDay(w)
	c := w.newCloser()
	w.closeAll(c)
	shown := func() map[string]int {
		keys, err := w.redis.Keys(w.ctx, "mr:{orders/*}:ledger").Result()
		require.NoError(t, err)
		n := map[string]int{}
		for _, key := range keys {
			family, _, _ := strings.Cut(strings.TrimPrefix(key, "mr:{orders/"), "/")
			if !strings.HasPrefix(family, "orders") {
				n[family]++
			}
		}
		return n
	}
	w.clk.pass(5 * time.Minute)
	w.rollUp(c)
	require.Equal(t, map[string]int{"minutely": 7, "hours": 4, "days": 2}, shown())
	w.rest(c, 6*time.Minute)
	require.Equal(t, map[string]int{"hours": 4, "days": 2}, shown())
	w.rest(c, time.Hour)
	require.Equal(t, map[string]int{"days": 2}, shown())
	done, _ := w.rollUp(c)
	require.Equal(t, 4, done.Families[0].Expired)
	require.Zero(t, done.Families[1].Expired)
	w.verifyAt(w.clk)
}
