package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// page is the content of bucket 0 of a revision, as an attempt writes it.
func page(rev int, value string) store.ViewField {
	return store.ViewField{Name: fmt.Sprintf("0:%d", rev), Value: []byte(value)}
}

// directory is the directory of a revision whose bucket 0 stands in a page of the given revision.
func directory(rev, of int) store.ViewField {
	return store.ViewField{Name: store.DirectoryField(rev), Value: fmt.Appendf(nil, "0:%d", of)}
}

// writeWhole drafts a whole revision of one page, which holds the name of the attempt.
func writeWhole(t *testing.T, s *store.Store, rev int, attempt string) store.View {
	t.Helper()
	require.NoError(t, s.WriteDraft(ctx, window, at(rev), attempt, 0, []store.ViewField{page(rev, attempt)}))
	require.NoError(t, s.WriteDraft(ctx, window, at(rev), attempt, 1, []store.ViewField{directory(rev, rev)}))
	return store.View{Whole: rev, Attempt: attempt}
}

func show(t *testing.T, s *store.Store, rev int, view store.View, fields ...store.ViewField) {
	t.Helper()
	require.NoError(t, s.Flip(ctx, window, at(rev), false, []byte("row"), view, fields, nil, nil))
}

// shownContent returns the view of a revision and the page that its directory names, "" when there is none.
func shownContent(t *testing.T, s *store.Store, rev int) (store.View, string) {
	t.Helper()
	view, dir, err := s.ReadDirectory(ctx, window, rev)
	if errors.Is(err, store.ErrNoRevision) {
		return view, ""
	}
	require.NoError(t, err)
	var text string
	require.NoError(t, s.ReadViewFields(ctx, window, view.Whole, []string{string(dir)}, func(_ int, value []byte) error {
		text = string(value)
		return nil
	}))
	return view, text
}

func requireShown(t *testing.T, s *store.Store, rev int, want store.View, text string) {
	t.Helper()
	view, got := shownContent(t, s, rev)
	require.Equal(t, want, view)
	require.Equal(t, text, got)
}

func TestAWholeRevision(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		const pages = 70
		view := store.View{Whole: 1, Attempt: "a"}
		var fields []store.ViewField
		var names []string
		for i := range pages {
			name := fmt.Sprintf("%d:1", i)
			fields = append(fields, store.ViewField{Name: name, Value: []byte(strings.Repeat(name+"\x00\xff", 10000))})
			names = append(names, name)
		}
		fields = append(fields, store.ViewField{Name: "empty"}, directory(1, 1))
		require.NoError(t, s.WriteDraft(ctx, window, at(1), "a", 0, fields))
		calls := faults.Log(window.String())
		require.Greater(t, len(calls), 3)
		for _, call := range calls {
			size := 0
			for _, arg := range call.Args {
				size += len(arg)
			}
			require.Less(t, size, 1<<20+8<<10)
		}
		require.InDelta(t, 24*time.Hour, keysOf(t, client)["v:1:1:a"], float64(time.Minute))
		_, _, err := s.ReadDirectory(ctx, window, 1)
		require.ErrorIs(t, err, store.ErrNoRevision, "not shown yet")

		show(t, s, 1, view)
		require.Negative(t, keysOf(t, client)["v:1"])
		got, dir, err := s.ReadDirectory(ctx, window, 1)
		require.NoError(t, err)
		require.Equal(t, view, got)
		require.Equal(t, "0:1", string(dir))
		read := 0
		require.NoError(t, s.ReadViewFields(ctx, window, 1, append(names, "empty"), func(i int, value []byte) error {
			require.Equal(t, read, i)
			require.Equal(t, string(fields[i].Value), string(value))
			read++
			return nil
		}))
		require.Equal(t, pages+1, read)

		stop := errors.New("enough")
		require.Equal(t, stop, s.ReadViewFields(ctx, window, 1, names, func(int, []byte) error { return stop }))
		require.NoError(t, s.ReadViewFields(ctx, window, 1, nil, nil))
		ignore := func(int, []byte) error { return nil }
		require.ErrorIs(t, s.ReadViewFields(ctx, window, 1, append(names, "lost"), ignore), store.ErrNoRevision)
		require.ErrorIs(t, s.ReadViewFields(ctx, window, 2, names, ignore), store.ErrNoRevision)
		for _, rev := range []int{0, 2} {
			_, _, err = s.ReadDirectory(ctx, window, rev)
			require.ErrorIs(t, err, store.ErrNoRevision)
		}
	})
}

func TestAttemptsWriteBesideEachOther(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		draft := func(rev int, attempt string, written int, fields ...store.ViewField) error {
			return s.WriteDraft(ctx, window, at(rev), attempt, written, fields)
		}
		require.NoError(t, draft(1, "first", 0, page(1, "first")))
		require.NoError(t, draft(1, "second", 0, page(1, "second")))
		require.NoError(t, draft(1, "first", 1, directory(1, 1)))
		require.NoError(t, draft(1, "second", 1, directory(1, 1)))
		require.NoError(t, draft(1, "second", 0), "a call that was delayed and repeated")
		require.NoError(t, s.DiscardDraft(ctx, window, at(1), "first"))
		require.ErrorIs(t, draft(1, "first", 1), store.ErrDraftGone)
		second := store.View{Whole: 1, Attempt: "second"}
		for range 2 {
			show(t, s, 1, second)
			requireShown(t, s, 1, second, "second")
			require.Equal(t, map[string]string{"attempt": "second", "0:1": "second", "dir:1": "0:1"},
				client.HGetAll(ctx, "mr:{"+window.String()+"}:v:1").Val())
			require.Len(t, keysOf(t, client), 2, "nothing but ledger and content")
			for _, attempt := range []string{"first", "second", "third"} { // that come late, or are repeated
				err := draft(1, attempt, 0, page(1, "late"), directory(1, 2))
				require.ErrorIs(t, err, store.ErrSuperseded)
				require.NotErrorIs(t, err, store.ErrDraftGone)
				require.NoError(t, s.DiscardDraft(ctx, window, at(1), attempt))
			}
		}

		// A server that fails over to a replica which knows nothing of the attempt.
		known := len(faults.Log(window.String()))
		writeWhole(t, s, 2, "forgotten")
		require.NoError(t, faults.Rewind(ctx, window.String(), known))
		forgotten := store.View{Whole: 2, Attempt: "forgotten"}
		require.ErrorIs(t, draft(2, "forgotten", 1), store.ErrDraftGone)
		show(t, s, 2, forgotten, page(2, "forgotten"), directory(2, 2))
		requireShown(t, s, 2, store.View{}, "")
	})
}

// What survives a fail-over is a prefix of the calls. An attempt that has sent some since goes on with
// its next one, which must not complete what lacks those that are lost.
func TestNothingIsCompleteThatLacksACall(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		loseAfter := func(known int) { require.NoError(t, faults.Rewind(ctx, window.String(), known)) }
		calls := func() int { return len(faults.Log(window.String())) }
		first := []store.ViewField{{Name: "1:1", Value: []byte("first")}}

		require.NoError(t, s.WriteDraft(ctx, window, at(1), "a", 0, first))
		known := calls()
		require.NoError(t, s.WriteDraft(ctx, window, at(1), "a", 1, []store.ViewField{page(1, "lost")}))
		loseAfter(known)
		require.ErrorIs(t, s.WriteDraft(ctx, window, at(1), "a", 2, []store.ViewField{directory(1, 1)}), store.ErrDraftGone)
		show(t, s, 1, store.View{Whole: 1, Attempt: "a"})
		requireShown(t, s, 1, store.View{}, "")

		known = calls()
		require.NoError(t, s.StageRows(ctx, window, at(2), "b", 0, false, []store.ViewField{someRow("a", "2"), someRow("b", "2")}))
		loseAfter(known)
		require.NoError(t, s.StageRows(ctx, window, at(2), "b", 0, false, []store.ViewField{someRow("a", "2")}), "sent again, late")
		err := s.StageRows(ctx, window, at(2), "b", 2, true, []store.ViewField{someRow("c", "2")})
		require.ErrorIs(t, err, store.ErrDraftGone)

		view := writeWhole(t, s, 2, "whole")
		show(t, s, 2, view)
		large := []store.ViewField{page(3, strings.Repeat("x", 900<<10)), {Name: "1:3", Value: make([]byte, 900<<10)}, directory(3, 3)}
		known = calls()
		faults.Gate(func(_ context.Context, op storetest.Op) {
			if slices.Contains(op.Args, "1:3") { // it comes with the second call
				loseAfter(known)
			}
		})
		require.ErrorIs(t, s.WriteView(ctx, window, at(3), view, large), store.ErrSuperseded)
		faults.Gate(nil)
		show(t, s, 3, view)
		requireShown(t, s, 3, store.View{}, "")
		requireShown(t, s, 2, view, "whole")
	})
}

// A difference whose closer died between the ledger row and its view is taken from its draft; whoever
// holds it, or has written it to the content, does not need that.
func TestADifferenceIsTakenFromItsDraft(t *testing.T) {
	second := []store.ViewField{page(2, "second"), directory(2, 2)}
	for name, tt := range map[string]struct {
		written, flipped []store.ViewField
	}{
		"from the draft":             {},
		"held":                       {flipped: second},
		"written to the content":     {written: second},
		"some of it written":         {written: second[:1]},
		"an earlier release's, late": {written: []store.ViewField{page(2, "late"), {Name: "dir:2", Value: []byte("0:1")}}},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
				s := store.New(client)
				view := writeWhole(t, s, 1, "a")
				show(t, s, 1, view)
				for _, attempt := range []string{"one", "other"} {
					fields := []store.ViewField{page(2, attempt), directory(2, 2)}
					if attempt == "one" {
						fields = second
					}
					require.NoError(t, s.WriteDraft(ctx, window, at(2), attempt, 0, fields))
				}
				require.NoError(t, s.WriteView(ctx, window, at(2), view, tt.written))
				requireShown(t, s, 1, view, "a")
				view.Change = "one"
				show(t, s, 2, view, tt.flipped...)
				view.Change = ""
				requireShown(t, s, 1, view, "a")
				requireShown(t, s, 2, view, "second")
				require.Len(t, keysOf(t, client), 2)
			})
		})
	}
}

// Earlier releases drafted a whole revision under the name of its content, and a difference in the
// content that it changes. Their rows name no draft of it.
func TestDraftsOfEarlierReleasesAreShown(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		key := func(whole int) string { return fmt.Sprintf("mr:{%s}:v:%d", window, whole) }
		require.NoError(t, client.HSet(ctx, key(1), "attempt", "a", "0:1", "a", "dir:1", "0:1").Err())
		require.NoError(t, client.PExpire(ctx, key(1), time.Hour).Err())
		view := store.View{Whole: 1, Attempt: "a"}
		show(t, s, 1, view)
		requireShown(t, s, 1, view, "a")
		require.Negative(t, keysOf(t, client)["v:1"])
		require.NoError(t, client.HSet(ctx, key(1), "0:2", "second", "dir:2", "0:2").Err())
		show(t, s, 2, view)
		requireShown(t, s, 2, view, "second")

		// What one has left under the name does not stand in the way of another attempt.
		require.NoError(t, client.HSet(ctx, key(3), "attempt", "left", "0:3", "left", "1:3", "left", "dir:3", "0:3").Err())
		third := writeWhole(t, s, 3, "third")
		show(t, s, 3, third)
		requireShown(t, s, 3, third, "third")
		require.Len(t, client.HGetAll(ctx, key(3)).Val(), 3)
	})
}

// What attempts that died have left is bounded while nothing is shown, and goes with what is shown.
func TestDraftsThatNobodyCompletesGo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		show(t, s, 1, writeWhole(t, s, 1, "a"))
		drafts := func() (names []string) {
			for name, ttl := range keysOf(t, client) {
				if strings.Count(name, ":") == 3 {
					require.Positive(t, ttl, name)
					names = append(names, name)
				}
			}
			return names
		}
		writeWhole(t, s, 2, "complete")
		require.NoError(t, s.StageRows(ctx, window, at(2), "rows", 0, true, nil))
		for i := range 9 {
			attempt := fmt.Sprint("dead-", i)
			require.NoError(t, s.WriteDraft(ctx, window, at(2), attempt, 0, []store.ViewField{page(2, attempt)}))
			require.NoError(t, s.StageRows(ctx, window, at(2), attempt, 0, false, nil))
		}
		kept := []string{"v:1:2:complete", "rows:1:2:rows"}
		for i := 6; i < 9; i++ {
			kept = append(kept, fmt.Sprintf("v:1:2:dead-%d", i), fmt.Sprintf("rows:1:2:dead-%d", i))
		}
		require.ElementsMatch(t, kept, drafts())
		require.ErrorIs(t, s.WriteDraft(ctx, window, at(2), "dead-0", 1, nil), store.ErrDraftGone)
		require.ErrorIs(t, s.StageRows(ctx, window, at(2), "dead-0", 1, true, nil), store.ErrDraftGone)

		require.NoError(t, s.WriteDraft(ctx, window, at(3), "next", 0, nil))
		next := store.Version{Edition: 2, Revision: 1}
		require.NoError(t, s.WriteDraft(ctx, window, next, "anew", 0, nil))
		show(t, s, 2, store.View{Whole: 2, Attempt: "complete"})
		require.ElementsMatch(t, []string{"v:1:3:next", "v:2:1:anew"}, drafts())
		require.NoError(t, s.Flip(ctx, window, next, false, []byte("row"), store.View{Whole: 1, Attempt: "anew"}, nil, nil, nil))
		require.Empty(t, drafts())
		require.NotContains(t, keysOf(t, client), "v:drafts")
	})
}

// Drafts that nobody lists any more expire.
func TestMoreDraftsThanOneCallLooksAt(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		for i := range 150 {
			writeWhole(t, s, 1, fmt.Sprint("complete-", i))
		}
		view := store.View{Whole: 1, Attempt: "complete-3"}
		for rev := 1; rev <= 3; rev++ {
			show(t, s, rev, view, directory(rev, 1))
			requireShown(t, s, rev, view, "complete-3")
		}
		require.Len(t, keysOf(t, client), 2)
	})
}

func TestWritingRefuses(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		shown := writeWhole(t, s, 1, "a")
		show(t, s, 1, shown)
		show(t, s, 2, writeWhole(t, s, 2, "b"))
		fields := []store.ViewField{page(1, "x"), page(2, "x"), page(3, "x")}
		for name, v := range map[string]store.Version{
			"the revision is shown": at(2), "a higher one is shown": at(1), "a later edition": {Revision: 3},
		} {
			require.ErrorIs(t, s.WriteDraft(ctx, window, v, "c", 0, fields), store.ErrSuperseded, name)
			require.ErrorIs(t, s.WriteView(ctx, window, v, store.View{Whole: 2, Attempt: "b"}, fields), store.ErrSuperseded, name)
		}
		require.ErrorIs(t, s.WriteDraft(ctx, window, at(3), "c", 1, fields), store.ErrDraftGone)
		require.ErrorIs(t, s.WriteView(ctx, window, at(3), store.View{Whole: 3, Attempt: "c"}, fields), store.ErrSuperseded)
		require.ErrorIs(t, s.WriteView(ctx, window, at(3), store.View{Whole: 2, Attempt: "c"}, fields), store.ErrSuperseded)
		for _, err := range []error{
			s.WriteDraft(ctx, window, at(3), "", 0, fields), s.WriteDraft(ctx, window, at(0), "c", 0, fields),
		} {
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrSuperseded, "a mistake of the caller")
		}
		requireShown(t, s, 1, shown, "a")
		requireShown(t, s, 2, store.View{Whole: 2, Attempt: "b"}, "b")
		require.Len(t, keysOf(t, client), 3)
	})
}

func TestFlipShowsOnlyWhatTheAttemptWrote(t *testing.T) {
	mine := store.View{Whole: 3, Attempt: "a"}
	other, elsewhere := store.View{Whole: 3, Attempt: "b"}, store.View{Whole: 2, Attempt: "a"}
	type flip struct {
		view   store.View
		fields []store.ViewField
	}
	whole := []store.ViewField{page(3, "a"), directory(3, 3)}
	for _, tt := range []struct {
		name    string
		written []store.ViewField // by the attempt; nil for no content
		flips   []flip
		want    store.View
		text    string
	}{
		{name: "complete", written: whole, flips: []flip{{view: mine}}, want: mine, text: "a"},
		{"the directory comes with it", whole[:1], []flip{{mine, whole[1:]}}, mine, "a"},
		{name: "without the directory", written: whole[:1], flips: []flip{{view: mine}}},
		{name: "of another attempt", written: whole, flips: []flip{{other, []store.ViewField{page(3, "b")}}}},
		{name: "no view", written: whole, flips: []flip{{}}},
		{name: "nothing written", flips: []flip{{mine, whole}}},
		{"repeated", whole, []flip{{view: mine}, {view: mine}}, mine, "a"},
		{"repeated from the ledger", whole, []flip{{view: mine}, {}}, mine, "a"},
		{"the ledger came first", whole, []flip{{}, {view: mine}}, mine, "a"},
		{name: "then of another attempt", written: whole, flips: []flip{{view: mine}, {view: other}}},
		{name: "then of another content", written: whole, flips: []flip{{view: mine}, {view: elsewhere}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
				s := store.New(client)
				if tt.written != nil {
					require.NoError(t, s.WriteDraft(ctx, window, at(3), mine.Attempt, 0, tt.written))
				}
				for _, flip := range tt.flips {
					show(t, s, 3, flip.view, flip.fields...)
				}
				requireShown(t, s, 3, tt.want, tt.text)
				ttl, there := keysOf(t, client)["v:3"]
				switch fields := client.HGetAll(ctx, "mr:{"+window.String()+"}:v:3").Val(); {
				case there && tt.want != store.View{}:
					require.Negative(t, ttl)
				case there:
					require.Equal(t, "a", fields["0:3"], "what is not shown stays as the attempt wrote it")
				}
			})
		})
	}
}

// A final row stays with its content, whatever an overtaken closer shows.
func TestFlipKeepsTheFinalView(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		view := writeWhole(t, s, 1, "a")
		require.NoError(t, s.Flip(ctx, window, at(1), true, []byte("final"), view, nil, nil, nil))
		show(t, s, 1, store.View{Whole: 1, Attempt: "b"}, page(1, "b"))
		requireShown(t, s, 1, view, "a")
		require.NoError(t, s.Flip(ctx, window, at(2), true, []byte("final"), view, []store.ViewField{directory(2, 1)}, nil, nil))
		err := s.Flip(ctx, window, at(1), true, []byte("back"), view, []store.ViewField{page(1, "x")}, []string{"dir:2"}, nil)
		require.ErrorIs(t, err, store.ErrRevisionBack)
		requireShown(t, s, 1, view, "a")
		requireShown(t, s, 2, view, "a")
	})
}

func TestLaterRevisionsWriteOnlyWhatTheyChange(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		view := writeWhole(t, s, 1, "a")
		show(t, s, 1, view)
		require.NoError(t, s.WriteView(ctx, window, at(2), view, []store.ViewField{page(2, "second")}))
		require.Negative(t, keysOf(t, client)["v:1"], "what is shown does not expire")
		requireShown(t, s, 1, view, "a")
		require.NoError(t, s.Flip(ctx, window, at(2), false, []byte("row"), view, []store.ViewField{directory(2, 2)}, nil, nil))
		requireShown(t, s, 1, view, "a")
		requireShown(t, s, 2, view, "second")

		third := []store.ViewField{page(3, "third"), directory(3, 3)}
		for range 2 {
			require.NoError(t, s.Flip(ctx, window, at(3), false, []byte("row"), view, third, []string{"0:1", "dir:1"}, nil))
		}
		requireShown(t, s, 2, view, "second")
		requireShown(t, s, 3, view, "third")
		require.Equal(t, map[string]string{"attempt": "a", "0:2": "second", "dir:2": "0:2", "0:3": "third", "dir:3": "0:3"},
			client.HGetAll(ctx, "mr:{"+window.String()+"}:v:1").Val())

		// A revision without a directory deletes nothing that the one before needs.
		require.NoError(t, s.Flip(ctx, window, at(4), false, []byte("row"), view, nil, []string{"0:3", "dir:3"}, nil))
		requireShown(t, s, 3, view, "third")
		requireShown(t, s, 4, store.View{}, "")
	})
}

func TestTrimKeepsWhatTheLatestStandUnder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		trim := func(unlinked int, left ...string) {
			t.Helper()
			n, err := s.Trim(ctx, window)
			require.NoError(t, err)
			require.Equal(t, unlinked, n)
			kept := []string{}
			for name := range keysOf(t, client) {
				kept = append(kept, name)
			}
			require.ElementsMatch(t, append(left, "ledger"), kept)
		}
		writeEarlier(t, client, 1, "p")
		show(t, s, 1, store.View{})
		writeEarlier(t, client, 2, "p")
		show(t, s, 2, store.View{})
		trim(0, "r:1", "r:2")
		view := writeWhole(t, s, 3, "a")
		show(t, s, 3, view)
		trim(1, "r:2", "v:3")
		show(t, s, 4, view, directory(4, 3))
		trim(1, "v:3")
		for rev := 5; rev < 250; rev++ { // more than one call of the script trims
			show(t, s, rev, view, directory(rev, 3))
		}
		trim(0, "v:3")
		requireShown(t, s, 248, view, "a")
		requireShown(t, s, 249, view, "a")

		whole := writeWhole(t, s, 250, "b")
		show(t, s, 250, whole)
		trim(0, "v:3", "v:250")
		show(t, s, 251, whole, directory(251, 250))
		trim(1, "v:250")
		requireShown(t, s, 250, whole, "b")
		fields := client.HKeys(ctx, "mr:{"+window.String()+"}:ledger").Val()
		require.ElementsMatch(t, fields,
			[]string{"edition", "current", "final", "trimmed", "row:250", "row:251", "view:250", "view:251"})
		_, _, err := s.ReadDirectory(ctx, window, 249)
		require.ErrorIs(t, err, store.ErrNoRevision)
	})
}

// A later edition may write and show revisions of the same numbers. Nobody reads its content as
// that of the edition before, of which nothing stays when it is shown.
func TestAnEditionTakesTheViewsOfTheOneBefore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		show(t, s, 1, writeWhole(t, s, 1, "old 1"))
		old := writeWhole(t, s, 2, "old 2")
		show(t, s, 2, old)

		first := store.Version{Edition: 2, Revision: 1}
		view := store.View{Whole: 1, Attempt: "new"}
		fields := []store.ViewField{page(1, "new"), directory(1, 1)}
		require.NoError(t, s.WriteDraft(ctx, window, first, "new", 0, fields))
		requireShown(t, s, 1, store.View{Whole: 1, Attempt: "old 1"}, "old 1")
		requireShown(t, s, 2, old, "old 2")
		require.NoError(t, s.Flip(ctx, window, first, false, []byte("row"), view, nil, nil, nil))
		requireShown(t, s, 1, view, "new")
		kept := keysOf(t, client)
		require.Len(t, kept, 2)
		require.Negative(t, kept["v:1"])

		third := store.Version{Edition: 3, Revision: 4}
		require.NoError(t, s.Flip(ctx, window, third, false, []byte("row"), store.View{}, nil, nil, nil))
		require.NotContains(t, keysOf(t, client), "v:1")
	})
}
