package publish_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/publish"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

const plainKey = "mr:{p/hour/3600000}:rows" // of window 1

// plainRows is what another program reads of window 1, and the revision that it is of; nil when there is nothing.
func (d *desk) plainRows() (int, rows) {
	d.t.Helper()
	if !d.redis.Exists(plainKey) {
		return 0, nil
	}
	fields, err := d.redis.HKeys(plainKey)
	require.NoError(d.t, err)
	found := rows{}
	for _, field := range fields {
		if strings.HasPrefix(field, "{") {
			found[field] = d.redis.HGet(plainKey, field)
		}
	}
	revision, err := strconv.Atoi(d.redis.HGet(plainKey, "revision"))
	require.NoError(d.t, err)
	return revision, found
}

// dyingPublish is a closer that publishes, and dies before it shows the row.
func (d *desk) dyingPublish(c *content) {
	d.t.Helper()
	require.NoError(d.t, d.slot().Do(func(h *publish.Held) error {
		_, err := h.Publish(d.t.Context(), d.draft(h, 1, false), c)
		return err
	}))
}

// Whatever becomes of closers and of what Redis holds: at every instant the plain rows are the whole content of the revision
// that they name, and where Redis has the content of the latest revision they are there.
func TestPlainRowsAreTheContentOfTheirRevision(t *testing.T) {
	corrections := 80
	if os.Getenv("MILLRACE_TEST_LONG") != "" {
		corrections = 2000
	}
	rnd := rand.New(rand.NewPCG(3, 5))
	d := newDesk(t)
	d.plain = true
	contents := map[int]rows{}
	looks, empty := 0, 0
	calls, dying := 0, false // calls to Redis that are left of a closer that is dying
	d.faults.Plan(func(storetest.Op) storetest.Outcome {
		looks++
		if revision, found := d.plainRows(); revision > 0 {
			require.Equal(t, contents[revision], found, "revision %d", revision)
		}
		if !dying {
			return storetest.Pass
		}
		switch calls--; {
		case calls > 0:
			return storetest.Pass
		case calls == 0:
			return storetest.FailAfter
		}
		return storetest.FailBefore
	})
	s := d.slot()
	now := someRows(300)
	contents[1] = now
	before := d.publish(s, 1, false, now)
	for n := range corrections {
		var touched []string
		now, touched = now.change(rnd)
		c := &content{rows: now, touched: touched}
		contents[before.Revision+1] = now
		switch rnd.IntN(12) {
		case 0:
			d.redis.FlushAll()
		case 1:
			d.damageView(rnd)
		case 2:
			d.redis.Del(plainKey)
		case 3:
			s = d.slot()
		case 4:
			d.dyingPublish(c)
			s = d.slot()
			require.NoError(t, s.ShowRows(t.Context(), true, true))
		case 5: // one that dies between two calls to Redis
			calls, dying = rnd.IntN(10), true
			_ = d.slot().Do(func(h *publish.Held) error {
				if _, err := h.Publish(t.Context(), d.draft(h, 1, false), c); err != nil {
					return err
				}
				return h.ShowRows(t.Context())
			})
			dying = false
			s = d.slot()
		case 6: // all keys have other values: the revision is whole
			for key := range now {
				now[key] = fmt.Sprintf(`{"n":%d}`, rnd.IntN(5))
			}
			c.touched = nil
		case 7: // the other layout, for a revision
			d.plain = false
			d.publishContent(d.slot(), 1, false, c)
			require.False(t, d.redis.Exists(plainKey))
			d.plain = true
			s = d.slot()
		}
		row := d.publishContent(s, 1, false, c)
		require.Equal(t, now, d.readLinks(row), n)
		before = row
		in, err := d.contents().InView(t.Context(), row)
		revision, found := d.plainRows()
		if err == nil && in.Missing == "" || found != nil {
			require.Equal(t, row.Revision, revision, n)
			require.Equal(t, now, found, n)
			continue
		}
		empty++
	}
	t.Logf("%d revisions, %d looks, %d times Redis had lost the content", before.Revision, looks, empty)
	require.Less(t, empty, corrections/3)
}

// A revision that changes more than one call takes is staged before it is shown: the rows of the one before stay until then.
func TestALargeDifferenceIsStaged(t *testing.T) {
	d := newDesk(t)
	d.plain = true
	s := d.slot()
	all := someRows(300)
	d.publish(s, 1, false, all)
	now := maps.Clone(all)
	delete(now, `{"k":3}`)
	for i := range 3 {
		now[fmt.Sprintf(`{"k":%d}`, 10+i)] = `"` + strings.Repeat("v", 250<<10) + `"`
	}
	var seen []int
	d.faults.Plan(func(storetest.Op) storetest.Outcome {
		revision, found := d.plainRows()
		if seen = append(seen, revision); revision == 1 {
			require.Equal(t, all, found)
		}
		return storetest.Pass
	})
	row := d.publish(s, 1, false, now)
	require.Len(t, row.Links, 2)
	require.NotContains(t, seen, 0)
	revision, found := d.plainRows()
	require.Equal(t, 2, revision)
	require.Equal(t, now, found)
	require.Empty(t, d.staged())
}

// staged lists the hashes of plain rows that are not shown.
func (d *desk) staged() []string {
	return slices.DeleteFunc(d.redis.Keys(), func(key string) bool { return !strings.HasPrefix(key, plainKey+":") })
}

// The rows of a revision that goes out as it comes are staged in many calls. When Redis loses them between two calls, what is
// staged is not all of them, and is not shown. Without a result topic nothing is published then.
func TestLargeRowsThatRedisLosesAreNotShown(t *testing.T) {
	for _, sink := range []string{"out", ""} {
		for at := range 6 { // before which call, counted from the second on; 0: none
			d := newDesk(t)
			d.plain, d.sink = true, sink
			all := rows{}
			for i := range 60 {
				all[fmt.Sprintf(`{"k":"large-%d"}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
			}
			calls := 0
			d.faults.Plan(func(storetest.Op) storetest.Outcome {
				if staged := d.staged(); len(staged) > 0 {
					if calls++; calls == at {
						d.redis.Del(staged[0])
					}
				}
				return storetest.Pass
			})
			s := d.slot()
			err := d.tryPublish(s, &content{rows: all})
			if at > 0 && sink == "" {
				require.ErrorIs(t, err, store.ErrDraftGone)
				require.Nil(t, d.latest(1))
				require.Empty(t, d.staged())
				err, at = d.tryPublish(s, &content{rows: all}), 0
			}
			require.NoError(t, err)
			row := d.latest(1)
			require.Equal(t, all, d.read(row))
			if at > 0 {
				require.False(t, d.redis.Exists(plainKey))
				require.Nil(t, row.View)
				continue
			}
			require.Greater(t, calls, 6)
			revision, found := d.plainRows()
			require.Equal(t, 1, revision)
			require.Equal(t, all, found)
		}
	}
}

// The layout is switched on and off while windows are open and after they are final.
func TestTheLayoutOfPublishedWindowsChanges(t *testing.T) {
	for _, final := range []bool{false, true} {
		d := newDesk(t)
		all := someRows(300)
		row := d.publish(d.slot(), 1, final, all)
		require.False(t, d.redis.Exists(plainKey))

		d.plain = true
		s := d.slot()
		require.NoError(t, s.ShowRows(t.Context(), true, true))
		_, err := s.Sweep(t.Context())
		require.NoError(t, err)
		revision, found := d.plainRows()
		require.Equal(t, []any{row.Revision, all}, []any{revision, found})
		if final {
			require.Equal(t, d.redis.TTL("mr:{p/hour/3600000}:ledger"), d.redis.TTL(plainKey))
			require.Positive(t, d.redis.TTL(plainKey))
		}
		d.redis.Del(plainKey)
		require.NoError(t, s.ShowRows(t.Context(), true, false)) // Redis may have forgotten something
		_, err = s.Sweep(t.Context())
		require.NoError(t, err)
		revision, found = d.plainRows()
		require.Equal(t, []any{row.Revision, all}, []any{revision, found}, "final: %t", final)

		d.plain = false
		require.NoError(t, d.slot().ShowRows(t.Context(), true, true))
		require.False(t, d.redis.Exists(plainKey) && !final)
		if final {
			d.pass(time.Hour)
			require.False(t, d.redis.Exists(plainKey))
			require.Empty(t, d.redis.Keys())
		}
	}
}

// An attempt whose transaction failed leaves no rows; those of one that died expire.
func TestStagedRowsOfAttemptsGo(t *testing.T) {
	d := newDesk(t)
	d.plain = true
	s := d.slot()
	all := someRows(300)
	d.publish(s, 1, false, all)
	same := &content{rows: all}
	require.NoError(t, s.Do(func(h *publish.Held) error {
		draft := d.draft(h, 1, false)
		draft.Topics.Results = "" // nothing proves that it may differ: all of it is merged, and is the same
		_, err := h.Publish(t.Context(), draft, same)
		return err
	}))
	require.Empty(t, d.staged())

	id := store.WindowID{Pipeline: "p", Window: "hour", Start: hour}
	require.NoError(t, d.store.StageRows(t.Context(), id, store.Version{Edition: 1, Revision: 2}, "dead", 0, false, nil))
	require.Len(t, d.staged(), 1)
	d.pass(25 * time.Hour)
	require.Empty(t, d.staged())
	revision, found := d.plainRows()
	require.Equal(t, []any{1, all}, []any{revision, found})
}
