package journal

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func drainAll(t *testing.T, tail *Tail, r *redis) (d Drained) {
	t.Helper()
	for tail.Pending().Calls > 0 {
		step, err := tail.Drain(ctx, r, r)
		require.NoError(t, err)
		d.add(step.Tally)
		d.Meta = step.Meta
	}
	return d
}

func TestDrainIsTheSameCallsInTheSameOrder(t *testing.T) {
	j := open(t, faultfs.New(0))
	all := commits(0, 30)
	r := newRedis(lane0, "1:a", store.Cursor{})
	tail := j.Tail(lane0, stateID, "1:a")
	for _, c := range all[:20] {
		require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
	}
	require.Equal(t, sum(all[:20]), counts(tail.Pending()))
	require.Zero(t, tail.Held())
	d := drainAll(t, tail, r)
	require.Positive(t, tail.Held(), "counted against the memory limit while there is a drain")
	tail.Rest()
	require.Zero(t, tail.Held())
	require.Equal(t, sum(all[:20]), counts(d.Tally))
	require.Equal(t, int64(200), d.Meta.Offset)

	// A commit that goes past the empty journal, and a second turn: the chain goes on behind it.
	_, err := r.Apply(ctx, lane0, stateID, "1:a", all[20].calls)
	require.NoError(t, err)
	for _, c := range all[21:] {
		require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
	}
	drainAll(t, tail, r)
	all[20].side = nil
	require.Equal(t, straight(all), r.log)
	a := balanced(t, j)
	require.Equal(t, a.Spilled, a.Drained)
	require.Empty(t, j.Chains())
	tail.Close()
}

func TestDrainGoesOnWhereItStopped(t *testing.T) {
	j := open(t, faultfs.New(0))
	all := commits(0, 12)
	r := newRedis(lane0, "1:a", store.Cursor{})
	tail := j.Tail(lane0, stateID, "1:a")
	defer tail.Close()
	for _, c := range all {
		require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
	}
	r.denied = errors.New("topic is away")
	d, err := tail.Drain(ctx, r, r) // two commits before the first with side records
	var side *SideError
	require.ErrorAs(t, err, &side)
	require.Equal(t, int64(2), d.Commits)
	r.denied, r.most = nil, 1
	for tail.Pending().Calls > 0 {
		if _, err := tail.Drain(ctx, r, r); err != nil {
			require.ErrorIs(t, err, errAway)
		}
		balanced(t, j)
	}
	require.Equal(t, straight(all), r.log, "each side record once, each call once")
}

func TestLongChainsRollOverManySegments(t *testing.T) {
	fs := faultfs.New(0)
	j := open(t, fs)
	r := newRedis(lane0, "1:a", store.Cursor{})
	tail := j.Tail(lane0, stateID, "1:a")
	defer tail.Close()
	all := commits(0, 4000)
	for i, c := range all {
		require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
		if i%100 == 99 {
			drainAll(t, tail, r)
		}
	}
	require.Equal(t, straight(all), r.log)
	require.Greater(t, j.Stats().Recycled, uint64(5), "released segments are used again")
	require.LessOrEqual(t, len(j.Segments()), 3)
}

func TestFencedChainIsNotAddedTo(t *testing.T) {
	j := open(t, faultfs.New(0))
	all := commits(0, 3)
	old := j.Tail(lane0, stateID, "1:a")
	require.NoError(t, old.Append(ctx, all[0].offset, all[0].calls, nil))
	next := j.Tail(lane0, stateID, "2:b")
	defer next.Close()
	require.ErrorIs(t, old.Append(ctx, all[1].offset, all[1].calls, nil), store.ErrFenced)
	old.Close()
	require.Equal(t, Pending, j.Chains()[0].State)
}

func TestFullJournalTakesMoreWhenDrained(t *testing.T) {
	j, _, err := Open(Config{Log: wal.Config{Dir: "wal", FS: faultfs.New(0), SegmentSize: wal.MinSegmentSize, HardLimit: 2 * wal.MinSegmentSize}})
	require.NoError(t, err)
	defer j.Close()
	r := newRedis(lane0, "1:a", store.Cursor{})
	tail := j.Tail(lane0, stateID, "1:a")
	defer tail.Close()
	all := commits(0, 3000)
	full := 0
	for _, c := range all {
		for err := tail.Append(ctx, c.offset, c.calls, c.side); err != nil; err = tail.Append(ctx, c.offset, c.calls, c.side) {
			require.ErrorIs(t, err, wal.ErrFull)
			require.Equal(t, wal.Hard, j.Level())
			full++
			drainAll(t, tail, r)
		}
	}
	drainAll(t, tail, r)
	require.NotZero(t, full)
	require.Equal(t, straight(all), r.log)
	a := balanced(t, j)
	require.Equal(t, a.Spilled, a.Drained)
}

// A commit that is larger than a batch of the log is appended in parts; one that failed half way is not appended twice.
func TestLargeCommit(t *testing.T) {
	fs := faultfs.New(0)
	j := open(t, fs)
	big := commit{offset: 5}
	prev := store.Cursor{}
	for i := range int64(200) {
		next := store.Cursor{Seq: 1, Chunk: i}
		big.calls = append(big.calls, store.Call{Prev: prev, Next: next, Writes: []store.Write{{
			Slice: store.SliceID{Width: 1000}, Fields: []string{next.String(), string(make([]byte, 1000))},
		}}})
		prev = next
	}
	big.calls[199].Meta = &store.MetaUpdate{Offset: 5}
	tail := j.Tail(lane0, stateID, "1:a")
	defer tail.Close()
	fs.Resize(3 * wal.MinSegmentSize)
	err := tail.Append(ctx, big.offset, big.calls, nil)
	require.Error(t, err)
	half := tail.Pending().Calls
	require.NotZero(t, half)
	fs.Resize(0)
	for err != nil {
		err = tail.Append(ctx, big.offset, big.calls, nil)
	}
	require.Equal(t, int64(200), tail.Pending().Calls)
	r := newRedis(lane0, "1:a", store.Cursor{})
	d := drainAll(t, tail, r)
	require.Equal(t, int64(1), d.Commits)
	require.Len(t, r.entries, 200)
}

func TestFailedLogIsReadToItsEnd(t *testing.T) {
	fs := faultfs.New(0)
	j := open(t, fs)
	all := commits(0, 9)
	tail := j.Tail(lane0, stateID, "1:a")
	defer tail.Close()
	for _, c := range all[:8] {
		require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
	}
	fs.Inject(faultfs.Fault{Sync: 1})
	require.ErrorIs(t, tail.Append(ctx, all[8].offset, all[8].calls, all[8].side), wal.ErrFailed)
	require.ErrorIs(t, tail.Append(ctx, all[8].offset, all[8].calls, all[8].side), wal.ErrFailed)
	r := newRedis(lane0, "1:a", store.Cursor{})
	drainAll(t, tail, r)
	require.Equal(t, straight(all[:8]), r.log)
}
