package result_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/verify"
)

const keepsMinutes = hourly + `
retention: {results: 10m, ledger: 30d}
`

// clock is the closers' and, moved along with it, Redis' clock.
type clock struct {
	w   *world
	now time.Time
}

func (w *world) newClock() *clock { return &clock{w: w, now: time.UnixMilli(base)} }

func (c *clock) use(cfg *result.Config) { cfg.Now = func() time.Time { return c.now } }

func (c *clock) pass(d time.Duration) {
	c.now = c.now.Add(d)
	c.w.server.FastForward(d)
}

// kept maps the start of a window, in minutes, to what Redis has of it: "name=minutes" for each key, with "ever" for one
// that never expires.
func (w *world) kept() map[int64]string {
	w.t.Helper()
	keys, err := w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Result()
	require.NoError(w.t, err)
	slices.Sort(keys)
	out := map[int64]string{}
	for _, key := range keys {
		tag, name, _ := strings.Cut(strings.TrimPrefix(key, "mr:{orders/hourly/"), "}:")
		start, err := strconv.ParseInt(tag, 10, 64)
		require.NoError(w.t, err)
		left := "ever"
		if ttl := w.redis.PTTL(w.ctx, key).Val(); ttl > 0 {
			left = strconv.Itoa(int(ttl.Round(time.Second) / time.Minute))
		}
		at := (start - base) / minute
		out[at] = strings.TrimSpace(out[at] + " " + name + "=" + left)
	}
	return out
}

// finals publishes n final windows of an hour, from 0 on, and one that is open.
func (w *world) finals(c *result.Closer, n int) {
	w.t.Helper()
	l := w.lanes[0]
	for i := range n {
		l.event("x", float64(60*i+10), 1)
	}
	l.event("x", float64(60*n+10), 1)
	l.event("y", float64(60*n+61), 1) // passes the end of the open window, not its deadline
	l.event("y", float64(60*n+31), 1)
	l.commit()
	for range 10 {
		if r := w.round(c); r.Due == 0 {
			break
		}
	}
	l.idle()
}

func TestContentsAndViewsOfFinalWindowsExpire(t *testing.T) {
	w := newWorld(t, keepsMinutes, 1)
	clk := w.newClock()
	c := w.closer(clk.use)
	w.finals(c, 2)
	require.Equal(t, map[int64]string{0: "ledger=10 v:1=10", 60: "ledger=10 v:1=10", 120: "ledger=ever v:1=ever"}, w.kept())
	w.verifyAt(clk)

	clk.pass(4 * time.Minute)
	w.round(c)
	require.Equal(t, "ledger=6 v:1=6", w.kept()[0], "it counts from closed_at, whoever looks and how often")
	clk.pass(6 * time.Minute)
	w.round(c)
	require.Equal(t, map[int64]string{120: "ledger=ever v:1=ever"}, w.kept())
	clk.pass(2 * time.Minute)
	w.verifyAt(clk)
}

// A closer may die between the ledger row and anything it does in Redis; whoever comes next expires what it left.
func TestExpiryThatWasLostIsFound(t *testing.T) {
	for _, lost := range []string{"flip", "expiry"} {
		t.Run(lost, func(t *testing.T) {
			w := newWorld(t, keepsMinutes, 1)
			clk := w.newClock()
			dead := w.closer(clk.use, func(c *result.Config) { c.State = &dying{w.store, lost} })
			w.finals(dead, 3)
			for start, names := range w.kept() {
				require.NotRegexp(t, `=10\b`, names, start)
			}

			clk.pass(4 * time.Minute)
			w.round(w.closer(clk.use))
			kept := w.kept()
			require.Len(t, kept, 4)
			for start, names := range kept {
				if start < 180 {
					require.Equal(t, "ledger=6 v:1=6", names, start)
				}
			}
			clk.pass(7 * time.Minute)
			require.Len(t, w.kept(), 1)
			w.round(w.closer(clk.use))
			w.verifyAt(clk)
		})
	}
}

// dying is the state of a closer that dies before it flips a view, or before it lets it expire.
type dying struct {
	*store.Store
	before string
}

func (d *dying) Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte, view store.View,
	fields []store.ViewField, gone []string, rows *store.Rows) error {
	if d.before == "flip" {
		return storetest.ErrInjected
	}
	return d.Store.Flip(ctx, id, v, final, row, view, fields, gone, rows)
}

func (d *dying) ExpireWindow(context.Context, store.WindowID, store.Version, time.Duration) (bool, error) {
	return false, storetest.ErrInjected
}

// Windows of earlier versions have no time to live. A sweep gives each one its own, a bounded number a round, and removes
// those whose time is over at once.
func TestSweepFindsWindowsOfEarlierVersions(t *testing.T) {
	const windows = 700
	w := newWorld(t, keepsMinutes, 1)
	clk := w.newClock()
	old := w.closer(clk.use, func(c *result.Config) { c.MaxPerRound = 1000 })
	w.finals(old, windows/2)
	clk.pass(7 * time.Minute)
	for i := range windows / 2 {
		w.lanes[0].event("x", float64(60*(windows/2+2+i)+10), 1)
	}
	w.lanes[0].commit()
	w.round(old)
	for _, key := range w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Val() {
		require.NoError(t, w.redis.Persist(w.ctx, key).Err())
	}
	clk.pass(5 * time.Minute) // the older half is due

	next := w.closer(clk.use)
	settled, rounds := 0, 0
	for backlog := 1; backlog > 0; rounds++ {
		backlog = w.round(next).Kept.Backlog
		now := 0
		for _, names := range w.kept() {
			if strings.Contains(names, "=ever") {
				now++
			}
		}
		if rounds > 0 {
			require.LessOrEqual(t, settled-now, 2*publish.SweepBatch*ledger.DefaultSlots, "a round is bounded")
		}
		settled = now
		require.Less(t, rounds, 20)
	}
	require.Greater(t, rounds, 1)
	for start, names := range w.kept() {
		require.GreaterOrEqual(t, start, int64(60*windows/2), "what was due is gone")
		if start < 60*windows {
			require.Contains(t, names, "=5", start)
		}
	}
	w.verifyAt(clk)
}

// An emptied Redis is given back what readers may still ask for, and nothing that has expired.
func TestExpiredViewsAreNotShownAgain(t *testing.T) {
	w := newWorld(t, keepsMinutes, 1)
	clk := w.newClock()
	c := w.closer(clk.use)
	w.finals(c, 2)
	clk.pass(8 * time.Minute)
	l := w.lanes[0]
	l.event("x", 400, 1)
	l.commit()
	w.round(c)
	clk.pass(4 * time.Minute)
	require.Equal(t, []int64{120, 180}, slices.Sorted(maps.Keys(w.kept())), "only what became final later")

	for _, key := range w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Val() {
		require.NoError(t, w.redis.Del(w.ctx, key).Err())
	}
	for range 3 {
		w.round(w.closer(clk.use))
		require.Equal(t, []int64{120, 180}, slices.Sorted(maps.Keys(w.kept())))
	}
	w.verifyAt(clk)

	// A closer that was frozen since before shows its revision now. It is found within an hour.
	id := store.WindowID{Pipeline: "orders", Window: "hourly", Start: base}
	next := w.closer(clk.use)
	w.round(next)
	require.NoError(t, w.store.Flip(w.ctx, id, store.Version{Edition: 1, Revision: 1}, false, []byte(mustJSON(t, w.ledger()[0])),
		store.View{}, nil, nil, nil))
	require.Len(t, w.kept(), 3)
	clk.pass(59 * time.Minute)
	w.round(next)
	require.Len(t, w.kept(), 1)
	clk.pass(time.Minute)
	w.round(next)
	require.Empty(t, w.kept())
}

func (w *world) verifyAt(clk *clock) *verify.Report {
	w.t.Helper()
	v, err := verify.Run(w.ctx, verify.Config{
		Spec: w.spec, State: w.store, Kafka: w.kafka, Now: func() time.Time { return clk.now },
	})
	require.NoError(w.t, err)
	require.Empty(w.t, v.Problems)
	return v
}
