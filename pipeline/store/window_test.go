package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

var window = store.WindowID{Pipeline: "flights", Window: "hourly", Start: 978307200000}

// at is a version of the first edition.
func at(rev int) store.Version { return store.Version{Edition: 1, Revision: rev} }

// writeEarlier writes the content of a revision as earlier releases did, one hash for each.
func writeEarlier(t *testing.T, client redis.UniversalClient, rev int, pages ...string) {
	t.Helper()
	values := []any{"attempt", "earlier", "header", "{}", "pages", len(pages)}
	for i, page := range pages {
		values = append(values, fmt.Sprintf("p%d", i), page)
	}
	require.NoError(t, client.HSet(ctx, fmt.Sprintf("mr:{%s}:r:%d", window, rev), values...).Err())
}

// earlierContent reads what writeEarlier wrote.
func earlierContent(s *store.Store, rev int) (string, error) {
	var all bytes.Buffer
	err := s.ReadRevision(ctx, window, rev, func(page []byte) error {
		all.Write(page)
		all.WriteByte('|')
		return nil
	})
	return all.String(), err
}

func TestReadRevision(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		_, err := earlierContent(s, 1)
		require.ErrorIs(t, err, store.ErrNoRevision)
		writeEarlier(t, client, 1, "one", "two\x00\xff")
		text, err := earlierContent(s, 1)
		require.NoError(t, err)
		require.Equal(t, "one|two\x00\xff|", text)
		stop := errors.New("enough")
		require.Equal(t, stop, s.ReadRevision(ctx, window, 1, func([]byte) error { return stop }))

		writeEarlier(t, client, 2)
		text, err = earlierContent(s, 2)
		require.NoError(t, err)
		require.Empty(t, text)

		require.NoError(t, client.HDel(ctx, "mr:{"+window.String()+"}:r:1", "p1").Err())
		_, err = earlierContent(s, 1)
		require.ErrorIs(t, err, store.ErrNoRevision)
		require.NoError(t, client.HDel(ctx, "mr:{"+window.String()+"}:r:1", "pages").Err())
		_, err = earlierContent(s, 1)
		require.ErrorIs(t, err, store.ErrNoRevision, "not complete")
	})
}

// Another incarnation of a pipeline begins at revision 1. What a closer of the one before shows or lets expire does not touch it.
func TestLaterEditionsWin(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		before, now := at(3), store.Version{Edition: 2, Revision: 1}
		shown := func(want store.Version, row string) {
			t.Helper()
			p, _, err := s.Published(ctx, window)
			require.NoError(t, err)
			require.Equal(t, store.Published{Current: want, Row: []byte(row)}, p)
		}
		require.NoError(t, client.HSet(ctx, "mr:{"+window.String()+"}:ledger", "current", "3", "final", "1", "row:3", "of v0.2").Err())
		shown(before, "of v0.2")
		require.NoError(t, s.Flip(ctx, window, now, false, []byte("new"), store.View{}, nil, nil, nil))
		shown(now, "new")
		require.ErrorIs(t, s.Flip(ctx, window, before, true, []byte("old"), store.View{}, nil, nil, nil), store.ErrRevisionBack)
		for _, d := range []time.Duration{0, time.Hour} {
			found, err := s.ExpireWindow(ctx, window, before, d)
			require.NoError(t, err)
			require.False(t, found)
		}
		shown(now, "new")
		require.Negative(t, keysOf(t, client)["ledger"])

		require.NoError(t, client.Del(ctx, "mr:{"+window.String()+"}:ledger").Err())
		require.NoError(t, s.Flip(ctx, window, before, true, []byte("old"), store.View{}, nil, nil, nil))
		found, err := s.ExpireWindow(ctx, window, now, time.Hour)
		require.NoError(t, err)
		require.False(t, found, "the view of the edition before is gone, and is to be shown again")
		require.Empty(t, keysOf(t, client))
	})
}

func TestFlipOnlyUpwards(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		_, found, err := s.Published(ctx, window)
		require.NoError(t, err)
		require.False(t, found)
		n, err := s.Trim(ctx, window)
		require.NoError(t, err)
		require.Zero(t, n)
		for rev := 1; rev <= 12; rev++ {
			writeEarlier(t, client, rev, "p")
			for range 2 {
				require.NoError(t, s.Flip(ctx, window, at(rev), false, []byte{byte('a' + rev)}, store.View{}, nil, nil, nil))
			}
		}
		require.ErrorIs(t, s.Flip(ctx, window, at(9), false, []byte("back"), store.View{}, nil, nil, nil), store.ErrRevisionBack)
		require.NoError(t, s.Flip(ctx, window, at(12), true, []byte("m"), store.View{}, nil, nil, nil))
		require.NoError(t, s.Flip(ctx, window, at(12), false, []byte("overtaken"), store.View{}, nil, nil, nil))
		p, found, err := s.Published(ctx, window)
		require.NoError(t, err)
		require.True(t, found)
		other := store.Version{Edition: 2, Revision: 1}
		require.True(t, p.Current.Less(other))
		require.Equal(t, store.Published{Current: at(12), Row: []byte("m")}, p)
		rows := func() (kept []string) {
			for field := range client.HGetAll(ctx, "mr:{"+window.String()+"}:ledger").Val() {
				if rev, ok := strings.CutPrefix(field, "row:"); ok {
					kept = append(kept, rev)
				}
			}
			return kept
		}
		require.Len(t, rows(), 12)

		n, err = s.Trim(ctx, window)
		require.NoError(t, err)
		require.Equal(t, 10, n)
		require.ElementsMatch(t, []string{"11", "12"}, rows())
		n, err = s.Trim(ctx, window)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = earlierContent(s, 10)
		require.ErrorIs(t, err, store.ErrNoRevision)
		for rev := 11; rev <= 12; rev++ {
			text, err := earlierContent(s, rev)
			require.NoError(t, err)
			require.Equal(t, "p|", text)
		}
	})
}
