package store_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

const plainRowsKey = "mr:{flights/hourly/978307200000}:rows"

// someRow is the row of a key.
func someRow(key, values string) store.ViewField {
	return store.ViewField{Name: `{"k":"` + key + `"}`, Value: []byte(values)}
}

// flipRows shows a revision whose pages do not matter.
func flipRows(t *testing.T, s *store.Store, rev int, view store.View, rows *store.Rows) error {
	t.Helper()
	return s.Flip(ctx, window, at(rev), false, []byte("row"), view, []store.ViewField{directory(rev, rev)}, nil, rows)
}

// plainRows is what another program reads: the revision, and the rows by key.
func plainRows(t *testing.T, client redis.UniversalClient) (revision string, rows map[string]string) {
	t.Helper()
	all := client.HGetAll(ctx, plainRowsKey).Val()
	revision = all["revision"]
	maps.DeleteFunc(all, func(field, _ string) bool { return !strings.HasPrefix(field, "{") })
	return revision, all
}

func requireRows(t *testing.T, client redis.UniversalClient, rev int, want map[string]string) {
	t.Helper()
	revision, rows := plainRows(t, client)
	require.Equal(t, fmt.Sprint(rev), revision)
	require.Equal(t, want, rows)
	require.Equal(t, time.Duration(-1), client.PTTL(ctx, plainRowsKey).Val())
}

func requireNoRows(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	require.Zero(t, client.Exists(ctx, plainRowsKey).Val())
}

func TestPlainRows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		view := writeWhole(t, s, 1, "a")
		require.NoError(t, s.StageRows(ctx, window, at(1), "a", 0, false, []store.ViewField{someRow("a", "1")}))
		requireNoRows(t, client)
		require.Greater(t, client.PTTL(ctx, plainRowsKey+":1:1:a").Val(), 23*time.Hour)
		require.ErrorIs(t, flipRows(t, s, 1, view, &store.Rows{Staged: "a"}), store.ErrNoRows, "they are not complete")
		requireNoRows(t, client)
		require.NoError(t, s.StageRows(ctx, window, at(1), "a", 1, true, []store.ViewField{someRow("b", "1")}))
		for range 2 { // a call that is repeated changes nothing
			require.NoError(t, flipRows(t, s, 1, view, &store.Rows{Staged: "a"}))
			requireRows(t, client, 1, map[string]string{`{"k":"a"}`: "1", `{"k":"b"}`: "1"})
		}
		require.Zero(t, client.Exists(ctx, plainRowsKey+":1:1:a").Val())

		second := &store.Rows{Base: 1, Changed: []store.ViewField{someRow("a", "2"), someRow("c", "2")}, Gone: []string{`{"k":"b"}`}}
		want := map[string]string{`{"k":"a"}`: "2", `{"k":"c"}`: "2"}
		for range 2 {
			require.NoError(t, flipRows(t, s, 2, view, second))
			requireRows(t, client, 2, want)
		}
		require.ErrorIs(t, flipRows(t, s, 1, view, &store.Rows{}), store.ErrRevisionBack)
		requireRows(t, client, 2, want)
		p, _, err := s.Published(ctx, window)
		require.NoError(t, err)
		require.Equal(t, store.Published{Current: at(2), Row: []byte("row"), HasContent: true, Rows: 2}, p)
		read, err := s.ReadRows(ctx, window, []string{`{"k":"c"}`, `{"k":"b"}`})
		require.NoError(t, err)
		require.Equal(t, store.RowsRead{Revision: 2, Rows: 2, Values: []string{"2", ""}}, read)

		// A row that is written again without its content leaves the rows alone.
		require.NoError(t, s.Flip(ctx, window, at(2), false, []byte("again"), store.View{}, nil, nil, &store.Rows{}))
		requireRows(t, client, 2, want)

		// A difference from another revision than the one that is shown.
		require.ErrorIs(t, flipRows(t, s, 4, view, &store.Rows{Base: 3, Changed: []store.ViewField{someRow("a", "4")}}), store.ErrNoRows)
		requireNoRows(t, client)
		require.NoError(t, s.StageRows(ctx, window, at(4), "made", 0, true, []store.ViewField{someRow("a", "4")}))
		require.NoError(t, flipRows(t, s, 4, view, &store.Rows{Staged: "made"}))
		requireRows(t, client, 4, map[string]string{`{"k":"a"}`: "4"})

		// The content is lost, and its rows are not: the row is written again.
		require.NoError(t, client.Del(ctx, "mr:{"+window.String()+"}:v:1").Err())
		require.NoError(t, flipRows(t, s, 4, view, &store.Rows{}))
		requireRows(t, client, 4, map[string]string{`{"k":"a"}`: "4"})
		p, _, err = s.Published(ctx, window)
		require.NoError(t, err)
		require.False(t, p.HasContent)

		// A revision whose content Redis lost.
		lost := store.View{Whole: 5, Attempt: "lost"}
		require.NoError(t, flipRows(t, s, 5, lost, &store.Rows{Staged: "lost"}))
		requireNoRows(t, client)
		read, err = s.ReadRows(ctx, window, []string{`{"k":"a"}`})
		require.NoError(t, err)
		require.Equal(t, store.RowsRead{Values: []string{""}}, read)
	})
}

// The pages of a revision may be those of an attempt that another one has overtaken, and so may staged rows: only rows of the
// attempt that the ledger names are shown.
func TestRowsOfAnotherAttemptAreNotShown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		writeWhole(t, s, 1, "first")
		require.NoError(t, s.StageRows(ctx, window, at(1), "first", 0, false, []store.ViewField{someRow("a", "first"), someRow("b", "first")}))
		second := writeWhole(t, s, 1, "second")
		require.NoError(t, s.StageRows(ctx, window, at(1), "second", 0, true, []store.ViewField{someRow("a", "second")}))
		require.NoError(t, s.StageRows(ctx, window, at(1), "first", 2, true, []store.ViewField{someRow("c", "first")}))
		require.NoError(t, s.DiscardDraft(ctx, window, at(1), "first"))
		require.NoError(t, flipRows(t, s, 1, second, &store.Rows{Staged: "second"}))
		requireRows(t, client, 1, map[string]string{`{"k":"a"}`: "second"})

		// A difference to a content of the same revision that somebody else has written.
		other := writeWhole(t, s, 2, "other")
		require.ErrorIs(t, flipRows(t, s, 2, other, &store.Rows{Base: 1, Changed: []store.ViewField{someRow("b", "2")}}), store.ErrNoRows)
		requireNoRows(t, client)

		writeWhole(t, s, 3, "third")
		require.NoError(t, s.StageRows(ctx, window, at(3), "third", 0, true, []store.ViewField{someRow("a", "third")}))
		require.NoError(t, s.DiscardDraft(ctx, window, at(3), "third"))
		require.Empty(t, client.Keys(ctx, plainRowsKey+":*").Val())
		require.ErrorIs(t, s.StageRows(ctx, window, at(1), "late", 0, true, nil), store.ErrSuperseded)
	})
}

// Another incarnation of the pipeline begins at revision 1, which its predecessor has shown.
func TestRowsOfAnEarlierEditionGo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		next := store.Version{Edition: 2, Revision: 1}
		showRows := func() {
			view := writeWhole(t, s, 1, "a")
			require.NoError(t, s.StageRows(ctx, window, at(1), "a", 0, true, []store.ViewField{someRow("a", "old")}))
			require.NoError(t, flipRows(t, s, 1, view, &store.Rows{Staged: "a"}))
		}
		showRows()
		view := store.View{Whole: 1, Attempt: "b"}
		require.NoError(t, s.WriteDraft(ctx, window, next, "b", 0, []store.ViewField{page(1, "b"), directory(1, 1)}))
		require.NoError(t, s.StageRows(ctx, window, next, "b", 0, true, []store.ViewField{someRow("b", "new")}))
		require.NoError(t, s.Flip(ctx, window, next, false, []byte("row"), view, nil, nil, &store.Rows{Staged: "b"}))
		requireRows(t, client, 1, map[string]string{`{"k":"b"}`: "new"})
		require.ErrorIs(t, s.StageRows(ctx, window, at(2), "late", 0, true, nil), store.ErrSuperseded)

		require.NoError(t, client.FlushAll(ctx).Err())
		showRows()
		_, err := s.ExpireWindow(ctx, window, next, time.Hour)
		require.NoError(t, err)
		requireNoRows(t, client)
	})
}

func TestRowsExpireWithTheirWindow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		view := writeWhole(t, s, 1, "a")
		require.NoError(t, s.StageRows(ctx, window, at(1), "a", 0, true, []store.ViewField{someRow("a", "1")}))
		require.NoError(t, s.Flip(ctx, window, at(1), true, []byte("row"), view, nil, nil, &store.Rows{Staged: "a"}))
		require.NoError(t, s.StageRows(ctx, window, at(2), "dead", 0, false, []store.ViewField{someRow("a", "2")}))
		shown, err := s.ExpireWindow(ctx, window, at(1), time.Hour)
		require.NoError(t, err)
		require.True(t, shown)
		left := client.PTTL(ctx, plainRowsKey).Val()
		require.True(t, left > 59*time.Minute && left <= time.Hour, left)
		left = client.PTTL(ctx, plainRowsKey+":1:2:dead").Val()
		require.True(t, left > 23*time.Hour && left <= 24*time.Hour, left)
		require.NoError(t, s.Flip(ctx, window, at(1), true, []byte("row"), view, nil, nil, &store.Rows{Staged: "a"}))
		requireRows(t, client, 1, map[string]string{`{"k":"a"}`: "1"})
		_, err = s.ExpireWindow(ctx, window, at(1), 0)
		require.NoError(t, err)
		require.Empty(t, withoutDrafts(keysOf(t, client)))
	})
}

// Whoever shows a revision in the layout of pages takes the rows away, whatever revision they are of.
func TestRowsGoWithTheLayout(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		for rev := 1; rev <= 2; rev++ {
			view := writeWhole(t, s, rev, "a")
			require.NoError(t, s.StageRows(ctx, window, at(rev), "a", 0, true, []store.ViewField{someRow("a", "1")}))
			require.NoError(t, flipRows(t, s, rev, view, &store.Rows{Staged: "a"}))
			require.NoError(t, s.StageRows(ctx, window, at(rev), "again", 0, true, nil))
			again := view
			if rev == 2 {
				again = store.View{} // as a row that says more of the same content
			}
			require.NoError(t, flipRows(t, s, rev, again, nil))
			requireNoRows(t, client)
			requireShown(t, s, rev, view, "a")
		}
	})
}

// Rows of any number are staged in calls of bounded length.
func TestManyRows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		var rows []store.ViewField
		want := map[string]string{}
		for i := range 12_000 {
			rows = append(rows, someRow(fmt.Sprint("key-", i), `{"n":1234567890}`))
			want[rows[i].Name] = string(rows[i].Value)
		}
		view := writeWhole(t, s, 1, "a")
		require.NoError(t, s.StageRows(ctx, window, at(1), "a", 0, true, rows))
		require.NoError(t, flipRows(t, s, 1, view, &store.Rows{Staged: "a"}))
		requireRows(t, client, 1, want)
		changed := &store.Rows{Base: 1, Gone: []string{}}
		for i := range rows {
			if i%2 == 0 {
				changed.Gone = append(changed.Gone, rows[i].Name)
				delete(want, rows[i].Name)
				continue
			}
			changed.Changed = append(changed.Changed, store.ViewField{Name: rows[i].Name, Value: []byte("2")})
			want[rows[i].Name] = "2"
		}
		require.NoError(t, flipRows(t, s, 2, view, changed))
		requireRows(t, client, 2, want)
	})
}

// Whoever may not rename is told so, shows nothing wrong, and goes on once the right is there.
func TestPlainRowsWithoutTheRightToRename(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		if _, single := client.(*redis.Client); !single || client.Do(ctx, "ACL", "SETUSER", "default", "-rename").Err() != nil {
			t.Skip("this server has no rights to take away")
		}
		s := store.New(client)
		view := writeWhole(t, s, 1, "a")
		require.NoError(t, s.StageRows(ctx, window, at(1), "a", 0, true, []store.ViewField{someRow("a", "1")}))
		require.ErrorContains(t, flipRows(t, s, 1, view, &store.Rows{Staged: "a"}), "can't run this command")
		requireNoRows(t, client)
		require.NoError(t, client.Do(ctx, "ACL", "SETUSER", "default", "+rename").Err())
		require.NoError(t, flipRows(t, s, 1, view, &store.Rows{Staged: "a"}))
		requireRows(t, client, 1, map[string]string{`{"k":"a"}`: "1"})
	})
}
