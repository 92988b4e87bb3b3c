package store_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

var window = store.WindowID{Pipeline: "flights", Window: "hourly", Start: 978307200000}

// pages returns a build function for the pages and the header.
func pages(header string, pages ...string) func(add func([]byte) error) ([]byte, error) {
	return func(add func([]byte) error) ([]byte, error) {
		buf := []byte{}
		for _, page := range pages {
			buf = append(buf[:0], page...)
			if err := add(buf); err != nil {
				return nil, err
			}
		}
		return []byte(header), nil
	}
}

func content(t *testing.T, s *store.Store, rev int) (store.Revision, string) {
	var all bytes.Buffer
	r, err := s.ReadRevision(ctx, window, rev, func(page []byte) error {
		all.Write(page)
		all.WriteByte('|')
		return nil
	})
	require.NoError(t, err)
	return r, all.String()
}

func TestPrepareIsImmutable(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		_, err := s.ReadRevision(ctx, window, 1, nil)
		require.ErrorIs(t, err, store.ErrNoRevision)

		r, fresh, err := s.Prepare(ctx, window, 1, pages("head", "one", "two\x00\xff"))
		require.NoError(t, err)
		require.True(t, fresh)
		require.NotEmpty(t, r.Attempt)
		require.Equal(t, store.Revision{Number: 1, Pages: 2, Attempt: r.Attempt, Header: []byte("head")}, r)
		again, fresh, err := s.Prepare(ctx, window, 1, func(func([]byte) error) ([]byte, error) {
			t.Fatal("a complete revision is not built again")
			return nil, nil
		})
		require.NoError(t, err)
		require.False(t, fresh)
		require.Equal(t, r, again)
		stored, text := content(t, s, 1)
		require.Equal(t, r, stored)
		require.Equal(t, "one|two\x00\xff|", text)

		r, fresh, err = s.Prepare(ctx, window, 2, pages("empty"))
		require.NoError(t, err)
		require.True(t, fresh)
		stored, text = content(t, s, 2)
		require.Equal(t, store.Revision{Number: 2, Attempt: r.Attempt, Header: []byte("empty")}, stored)
		require.Empty(t, text)
	})
}

func TestPrepareInterrupted(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		stop := errors.New("killed")
		_, _, err := s.Prepare(ctx, window, 1, func(add func([]byte) error) ([]byte, error) {
			require.NoError(t, add([]byte("left")))
			require.NoError(t, add([]byte("over")))
			require.NoError(t, add([]byte("pages")))
			return nil, stop
		})
		require.ErrorIs(t, err, stop)
		_, err = s.ReadRevision(ctx, window, 1, nil)
		require.ErrorIs(t, err, store.ErrNoRevision)

		// A second attempt takes over in the middle of a third.
		_, _, err = s.Prepare(ctx, window, 1, func(add func([]byte) error) ([]byte, error) {
			require.NoError(t, add([]byte("slow")))
			_, fresh, err := s.Prepare(ctx, window, 1, pages("head", "quick"))
			require.NoError(t, err)
			require.True(t, fresh)
			return nil, add([]byte("slow again"))
		})
		require.ErrorIs(t, err, store.ErrSuperseded)
		_, text := content(t, s, 1)
		require.Equal(t, "quick|", text)

		// The server forgets a page.
		_, _, err = s.Prepare(ctx, window, 2, func(add func([]byte) error) ([]byte, error) {
			require.NoError(t, add([]byte("one")))
			kept := len(faults.Log(window.String()))
			require.NoError(t, add([]byte("two")))
			require.NoError(t, faults.Rewind(ctx, window.String(), kept))
			return []byte("head"), add([]byte("three"))
		})
		require.ErrorIs(t, err, store.ErrSuperseded)

		// The answer to the last call is lost.
		writes := 0
		faults.Plan(func(op storetest.Op) storetest.Outcome {
			if op.Tag == window.String() && op.Args[0] == "evalsha" {
				if writes++; writes == 3 {
					return storetest.FailAfter
				}
			}
			return storetest.Pass
		})
		_, _, err = s.Prepare(ctx, window, 2, pages("head", "first"))
		require.ErrorIs(t, err, storetest.ErrInjected)
		faults.Plan(nil)
		r, fresh, err := s.Prepare(ctx, window, 2, pages("other", "other"))
		require.NoError(t, err)
		require.False(t, fresh)
		require.Equal(t, "head", string(r.Header))
	})
}

// Another incarnation of a pipeline begins at revision 1. What a closer of the one before shows or lets expire does not touch it.
func TestLaterEditionsWin(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		before, now := store.Version{Edition: 1, Revision: 3}, store.Version{Edition: 2, Revision: 1}
		shown := func(want store.Version, row string) {
			t.Helper()
			p, _, err := s.Published(ctx, window)
			require.NoError(t, err)
			require.Equal(t, store.Published{Current: want, Row: []byte(row)}, p)
		}
		require.NoError(t, client.HSet(ctx, "mr:{"+window.String()+"}:ledger", "current", "3", "final", "1", "row:3", "of v0.2").Err())
		shown(before, "of v0.2")
		require.NoError(t, s.Flip(ctx, window, now, false, []byte("new")))
		shown(now, "new")
		require.ErrorIs(t, s.Flip(ctx, window, before, true, []byte("old")), store.ErrRevisionBack)
		for _, d := range []time.Duration{0, time.Hour} {
			found, err := s.ExpireWindow(ctx, window, before, d)
			require.NoError(t, err)
			require.False(t, found)
		}
		shown(now, "new")
		require.Negative(t, keysOf(t, client)["ledger"])

		require.NoError(t, client.Del(ctx, "mr:{"+window.String()+"}:ledger").Err())
		require.NoError(t, s.Flip(ctx, window, before, true, []byte("old")))
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
			_, _, err := s.Prepare(ctx, window, rev, pages("h", "p"))
			require.NoError(t, err)
			require.NoError(t, s.Flip(ctx, window, store.Version{Edition: 1, Revision: rev}, false, []byte{byte('a' + rev)}))
			require.NoError(t, s.Flip(ctx, window, store.Version{Edition: 1, Revision: rev}, false, []byte{byte('a' + rev)}), "repeating is safe")
		}
		require.ErrorIs(t, s.Flip(ctx, window, store.Version{Edition: 1, Revision: 9}, false, []byte("back")), store.ErrRevisionBack)
		require.NoError(t, s.Flip(ctx, window, store.Version{Edition: 1, Revision: 12}, true, []byte("m")))
		require.NoError(t, s.Flip(ctx, window, store.Version{Edition: 1, Revision: 12}, false, []byte("overtaken")), "a final row stays")
		p, found, err := s.Published(ctx, window)
		require.NoError(t, err)
		require.True(t, found)
		other := store.Version{Edition: 2, Revision: 1}
		require.True(t, p.Current.Less(other))
		require.Equal(t, store.Published{Current: store.Version{Edition: 1, Revision: 12}, Row: []byte("m")}, p)
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
		_, err = s.ReadRevision(ctx, window, 10, nil)
		require.ErrorIs(t, err, store.ErrNoRevision)
		content(t, s, 11)
		content(t, s, 12)
	})
}
