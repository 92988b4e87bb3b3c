package publish_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
)

// recordsOf are the rows of a revision that stand in the result topic.
func (d *desk) recordsOf(revision int) rows {
	d.t.Helper()
	found := rows{}
	require.NoError(d.t, ledger.ReadResults(d.t.Context(), d.kafka, d.sink, "p", func(r ledger.ResultRow) error {
		if r.Revision == revision {
			if found[string(r.Key)] = string(r.Values); r.Deleted {
				found[string(r.Key)] = "-"
			}
		}
		return nil
	}))
	return found
}

// readLinks is the content of a row as a reader finds it who has nothing but the ledger and the result topic.
func (d *desk) readLinks(row *ledger.Row) rows {
	d.t.Helper()
	found, err := d.contents().InResults(d.t.Context(), row)
	require.NoError(d.t, err)
	require.Empty(d.t, found.Missing)
	return asRows(found.Rows)
}

func someRows(n int) rows {
	r := rows{}
	for i := range n {
		r[fmt.Sprintf(`{"k":%d}`, i)] = `{"n":1}`
	}
	return r
}

func TestARevisionPublishesWhatItChanges(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(200)
	first := d.publish(s, 1, false, now)
	require.Equal(t, []ledger.Link{{Revision: 1, TopicID: "first", Whole: true, Partitions: first.Links[0].Partitions}}, first.Links)

	now = maps.Clone(now)
	now[`{"k":7}`] = `{"n":2}`
	now[`{"k":1000}`] = `{"n":1}`
	delete(now, `{"k":8}`)
	c := &content{rows: now, touched: []string{`{"k":7}`, `{"k":1000}`, `{"k":8}`}}
	second := d.publishContent(s, 1, false, c)
	require.Equal(t, rows{`{"k":7}`: `{"n":2}`, `{"k":1000}`: `{"n":1}`, `{"k":8}`: "-"}, d.recordsOf(2))
	require.Equal(t, []int64{200, 3}, []int64{second.Keys, second.Changed})
	require.Equal(t, []int{1, 2}, []int{second.Links[0].Revision, second.Links[1].Revision})
	require.False(t, second.Links[1].Whole)
	sum, _ := now.sum()
	require.Equal(t, sum, second.Checksum)
	require.Less(t, c.asked, 100, "of pages of a sixteenth each")
	shown, seen := d.view(1)
	require.Equal(t, []any{second, now, now}, []any{shown, seen, d.readLinks(second)})

	same := d.publishContent(s, 1, true, &content{rows: now, touched: []string{`{"k":7}`}})
	require.Equal(t, []int{2, 2}, []int{same.Revision, len(same.Links)})
	require.True(t, same.Final)
	require.Equal(t, second.View, same.View)
}

// A lane that an operator gave another past may have lost keys: whoever reads the result topic alone learns of it, too.
func TestKeysThatLeaveAreDeletedInAWholeRevision(t *testing.T) {
	for _, large := range []bool{false, true} {
		d := newDesk(t)
		s := d.slot()
		all := someRows(100)
		if large {
			for i := range 60 { // more than is held: it goes out as it comes
				all[fmt.Sprintf(`{"k":"large-%d"}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
			}
		}
		d.publish(s, 1, false, all)
		now := maps.Clone(all)
		for i := range 80 {
			delete(now, fmt.Sprintf(`{"k":%d}`, i))
		}
		var row *ledger.Row
		require.NoError(t, s.Do(func(h *publish.Held) error {
			draft := d.draft(h, 1, false)
			draft.Forgets = true
			r, err := h.Publish(t.Context(), draft, &content{rows: now})
			if err == nil {
				row = r.Row
			}
			return errors.Join(err, h.ShowRows(t.Context()))
		}))
		require.Len(t, row.Links, 1)
		_, shown := d.view(1)
		require.Equal(t, now, shown)
		require.Equal(t, now, d.readLinks(row))
		left, err := ledger.Results(t.Context(), d.kafka, d.sink, "p")
		require.NoError(t, err)
		require.Len(t, left, len(now))
	}
}

// Whoever reads the links of a window's latest row has the whole content, whatever was lost of what Redis shows: after a
// series of random corrections by closers that come and go, with views that are gone, cut, older than the ledger or damaged.
func TestLinksHoldTheWholeContent(t *testing.T) {
	corrections := 200
	if os.Getenv("MILLRACE_TEST_LONG") != "" {
		corrections = 1000
	}
	rnd := rand.New(rand.NewPCG(7, 11))
	d := newDesk(t)
	s := d.slot()
	now := someRows(300)
	before, whole, damaged := d.publish(s, 1, false, now), 0, false
	for n := range corrections {
		var touched []string
		now, touched = now.change(rnd)
		switch rnd.IntN(12) {
		case 0:
			d.redis.FlushAll()
			damaged = true // until the next whole revision: the same content is not written again
		case 1:
			d.damageView(rnd)
			damaged = true
		case 2:
			touched = nil
		case 3:
			s = d.slot()
		case 4: // a closer publishes and dies before it shows the row
			damaged = true
			dying := d.slot()
			require.NoError(t, dying.Do(func(h *publish.Held) error {
				_, err := h.Publish(t.Context(), d.draft(h, 1, false), &content{rows: now, touched: touched})
				return err
			}))
			s = d.slot()
			require.NoError(t, s.ShowRows(t.Context(), true, true))
		}
		row := d.publishContent(s, 1, false, &content{rows: now, touched: touched})
		require.Contains(t, []int{before.Revision, before.Revision + 1, before.Revision + 2}, row.Revision, n)
		if len(row.Links) == 1 && row.Revision > before.Revision {
			whole++
			damaged = false
		}
		before = row
		sum, keys := now.sum()
		require.Equal(t, []any{sum, keys}, []any{row.Checksum, row.Keys}, n)
		require.LessOrEqual(t, len(row.Links), 16)
		require.Equal(t, now, d.readLinks(row), n)
		found, err := d.contents().InView(t.Context(), row)
		if !damaged || err == nil && found.Missing == "" {
			require.NoError(t, err)
			require.Empty(t, found.Missing, n)
			require.Equal(t, now, asRows(found.Rows), n)
		}
	}
	t.Logf("%d revisions, %d rows are of whole ones", before.Revision, whole)
	require.Less(t, whole, corrections/2)
}

// damageView takes something from what Redis has of the window.
func (d *desk) damageView(rnd *rand.Rand) {
	keys := slices.DeleteFunc(d.redis.Keys(), func(key string) bool {
		return len(d.redis.HGet(key, "attempt")) == 0 || strings.HasSuffix(key, ":rows")
	})
	if len(keys) == 0 {
		return
	}
	key := keys[rnd.IntN(len(keys))]
	fields, err := d.redis.HKeys(key)
	require.NoError(d.t, err)
	field := fields[rnd.IntN(len(fields))]
	if value := []byte(d.redis.HGet(key, field)); rnd.IntN(2) > 0 && len(value) > 1 {
		value[rnd.IntN(len(value))]++
		d.redis.HSet(key, field, string(value))
		return
	}
	d.redis.HDel(key, field)
}
