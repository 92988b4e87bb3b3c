package inflight

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

const interval = 100 * time.Millisecond

var begun = time.UnixMilli(foldtest.KafkaTime)

func newState(t *testing.T) *fold.State {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(foldtest.Spec))
	require.NoError(t, err)
	p, err := fold.Compile(s)
	require.NoError(t, err)
	return fold.NewState(p, foldtest.Lane, "id", 0, store.Cursor{})
}

func read(s *fold.State, n int) {
	for range n {
		s.Fold(foldtest.Batch(foldtest.EventAt(s.Offset(), "a", foldtest.Early, 1)))
	}
}

// inRedis is the answer to a commit that Redis has.
func inRedis(c *fold.Commit) deliver.Result {
	return deliver.Result{
		Commit: c, InRedis: true, Requests: deliver.NoRequests, Reached: deliver.Progress{Offset: c.Offset, Effective: c.Effective},
	}
}

func TestWhenACommitIsDue(t *testing.T) {
	s := newState(t)
	c := New(s, 1, interval, begun)
	require.True(t, c.Due(begun), "a new state is told at once")
	first := c.Next(Orders{IdleAt: store.NotIdle}, begun)
	require.False(t, c.Due(begun.Add(SignOfLife-1)))
	require.True(t, c.Due(begun.Add(SignOfLife)), "a sign of life")
	read(s, 1)
	require.True(t, c.Due(begun.Add(interval)))
	require.Nil(t, c.Next(Orders{IdleAt: store.NotIdle}, begun.Add(interval)), "the only buffer is in flight")
	require.False(t, c.Overdue(begun.Add(Patience*interval)))
	require.True(t, c.Overdue(begun.Add(Patience*interval+1)))
	require.False(t, c.Answer(inRedis(first)))
	require.False(t, c.Overdue(begun.Add(Patience*interval+1)))
	require.NotNil(t, c.Next(Orders{IdleAt: store.NotIdle}, begun.Add(interval)))

	slow := New(s, 1, 10*time.Second, begun)
	read(s, 1)
	require.False(t, slow.Due(begun.Add(9*time.Second)))
	require.True(t, slow.Due(begun.Add(10*time.Second-SignOfLife/2)), "the tick that is next to the interval")
}

// What follows from a commit follows from Redis having it.
func TestAJournalledCommitMovesNothing(t *testing.T) {
	s := newState(t)
	c := New(s, 2, interval, begun)
	read(s, 1)
	commit := c.Next(Orders{IdleAt: store.NotIdle}, begun)
	require.Equal(t, 1, c.InFlight())
	asks := deliver.Requests{Seal: 5, Drop: 6, Rewrite: 1}
	require.False(t, c.Answer(deliver.Result{Commit: commit, Journaled: true, Requests: asks}))
	require.Zero(t, c.InFlight())
	require.Equal(t, deliver.NoRequests, c.Requests())
	drained := deliver.Result{InRedis: true, Reached: deliver.Progress{Offset: 1}, Requests: asks}
	require.True(t, c.Answer(drained), "entries of the first commit are missing")
	require.Equal(t, asks, c.Requests())
	whole := c.Next(Orders{IdleAt: store.NotIdle}, begun)
	require.Equal(t, 1, whole.Entries, "all of them are written again")
	require.False(t, c.Answer(drained), "and that is done")
}

// A re-seed takes the side records of all commits in flight along, but not those of commits that the journal has.
func TestReseedOwesSideRecords(t *testing.T) {
	s := newState(t)
	c := New(s, 3, interval, begun)
	var made []*fold.Commit
	for i := range int64(3) {
		s.Fold(foldtest.Batch(foldtest.Record(i, "no event")))
		made = append(made, c.Next(Orders{IdleAt: store.NotIdle}, begun))
	}
	c.Withdraw([]deliver.Result{{Commit: made[0], Journaled: true}, {Commit: made[1], Err: store.ErrLostWrites}}, nil)
	require.Equal(t, 2, c.InFlight())
	s.Fold(foldtest.Batch(foldtest.Record(3, "no event")))
	commit := c.Reseed(store.LaneIndex{Meta: store.Meta{Offset: store.NotStarted, Cursor: store.Cursor{Seq: 7}}}, begun)
	require.Equal(t, 1, c.InFlight())
	require.True(t, c.Journal().OnlyCopy)
	require.Equal(t, store.Cursor{Seq: 7}, commit.Calls[0].Prev)
	var offsets []string
	for _, r := range commit.Side {
		offsets = append(offsets, foldtest.HeaderOf(r, "mr-offset"))
	}
	require.Equal(t, []string{"1", "2", "3"}, offsets)
	require.True(t, c.Ready())
	c.Answer(inRedis(commit))
	commit = c.Reseed(store.LaneIndex{Meta: store.Meta{Offset: 4}}, begun)
	require.False(t, c.Journal().OnlyCopy)
	require.Empty(t, commit.Side)
}

func TestWhatABrokenChainMeans(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Verdict
	}{
		{store.ErrFenced, End},
		{store.ErrLostWrites, Reseed},
		{store.ErrNoMeta, Reseed},
		{errors.Join(store.ErrPartialLoss, store.ErrLostWrites), Reseed},
		{store.ErrCorrupt, Park},
		{store.ErrExpires, Park},
		{&store.FormatError{}, Park},
		{journal.ErrBroken, AskRedis},
		{journal.ErrUnreadable, AskRedis},
		{source.ErrRecordTooLarge, End},
	} {
		require.Equal(t, tt.want, Judge(fmt.Errorf("lane: %w", tt.err)), tt.err)
	}
	require.True(t, HoldsOnlyCopy(store.Meta{}, false))
	require.True(t, HoldsOnlyCopy(store.Meta{Offset: store.NotStarted}, true))
	require.False(t, HoldsOnlyCopy(store.Meta{}, true))
}

func TestALaneIsIdleAtTheEndThatWasAsked(t *testing.T) {
	const timeout = 10 * time.Second
	at := func(d time.Duration) time.Time { return begun.Add(d) }
	s := newState(t)
	c := New(s, 2, interval, begun)
	i := NewIdleness(c, timeout, begun)
	require.False(t, i.Ask(at(timeout-1)))
	require.True(t, i.Ask(at(timeout)))
	require.False(t, i.Ask(at(timeout)), "the answer is on its way")
	i.Named(1, at(timeout))
	require.EqualValues(t, store.NotIdle, i.Claim(true, at(timeout)), "a record waits")
	require.False(t, i.Ask(at(timeout+EndTrust)))
	s.Fold(foldtest.Batch(foldtest.Record(0, "no event")))
	require.EqualValues(t, 1, i.Claim(true, at(timeout)))
	require.False(t, i.Waits())
	c.Next(Orders{IdleAt: 1}, begun)

	require.True(t, i.Ask(at(timeout)))
	i.Named(1, at(timeout))
	require.EqualValues(t, store.NotIdle, i.Claim(true, at(timeout)), "it stands already")
	require.True(t, i.Ask(at(timeout)))
	i.Named(2, at(timeout))
	require.True(t, i.Ask(at(timeout+EndTrust+1)), "too old")
	i.Named(2, at(timeout+EndTrust))
	read(s, 1)
	i.Moved(at(timeout + EndTrust))
	require.EqualValues(t, store.NotIdle, i.Claim(true, at(timeout+EndTrust)), "something came that moves the watermark")
	require.False(t, i.Waits())

	i.Named(2, at(3*timeout))
	require.EqualValues(t, store.NotIdle, i.Claim(false, at(3*timeout)), "a lane that reads no further is not idle")
	require.False(t, NewIdleness(c, 0, begun).Ask(at(time.Hour)), "no timeout, no idleness")
}
