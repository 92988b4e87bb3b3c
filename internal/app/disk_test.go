package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

const stateID = "0123456789abcdef"

// orders is a lane of the pipeline that the tests ask for; others is one of another pipeline.
var (
	orders = store.LaneID{Pipeline: "orders", Topic: "events", Partition: 3}
	others = store.LaneID{Pipeline: "others", Topic: "events", Partition: 3}
)

// shelf is a WAL directory in memory over a Redis in memory.
type shelf struct {
	*disk
	t  *testing.T
	fs *faultfs.FS
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	_, state := startRedis(t)
	s := &shelf{t: t, fs: faultfs.New(0)}
	s.open(state)
	t.Cleanup(func() { _ = s.close() })
	return s
}

func (s *shelf) open(st *store.Store) {
	s.t.Helper()
	var err error
	cfg := wal.Config{Dir: "wal", FS: s.fs, SegmentSize: wal.MinSegmentSize, HardLimit: 1 << 20}
	s.disk, err = openDisk(cfg, st, source.Config{}, quiet)
	require.NoError(s.t, err)
}

// reopen closes the directory, damages it, and opens it as the next process does.
func (s *shelf) reopen(damage func()) {
	s.t.Helper()
	require.NoError(s.t, s.close())
	damage()
	s.open(s.store)
}

// acquire makes a new owner of a lane.
func (s *shelf) acquire(id store.LaneID) store.Token {
	s.t.Helper()
	before, _, err := s.store.ReadMeta(context.Background(), id)
	require.NoError(s.t, err)
	owner := store.NextToken(before.Owner)
	_, _, err = s.store.Acquire(context.Background(), id, stateID, before.Owner, owner)
	require.NoError(s.t, err)
	return owner
}

// calls are n commits of a lane behind a cursor, of one call each, ten offsets apart.
func calls(after store.Cursor, n int) (all []store.Call) {
	for range n {
		next := store.Cursor{Seq: after.Seq + 1}
		all = append(all, store.Call{
			Prev: after, Next: next, Meta: &store.MetaUpdate{Offset: 10 * next.Seq},
			Writes: []store.Write{{Slice: store.SliceID{Width: 1000}, Fields: []string{"key", fmt.Sprintf("entry of %s", next)}}},
		})
		after = next
	}
	return all
}

// spill journals n commits of a lane's owner, as a lane does that Redis does not answer.
func (s *shelf) spill(id store.LaneID, owner store.Token, n int) report.ChainRef {
	s.t.Helper()
	meta, _, err := s.store.ReadMeta(context.Background(), id)
	require.NoError(s.t, err)
	for _, c := range calls(meta.Cursor, n) {
		require.NoError(s.t, s.Append(context.Background(), id, stateID, owner, c.Meta.Offset, []store.Call{c}, nil))
	}
	return report.ChainRef{Topic: id.Topic, Partition: id.Partition, Chain: string(owner)}
}

func (s *shelf) list() []report.WALChain {
	s.t.Helper()
	all, err := s.List(context.Background(), "orders")
	require.NoError(s.t, err)
	return all
}

func (s *shelf) settle(ref report.ChainRef, how activities.Settling) (report.SettledChain, error) {
	return s.Settle(context.Background(), "orders", ref, how, func(activities.Settled) {})
}

// books wants the accounts of the pipeline to add up, and returns them.
func (s *shelf) books() report.JournalAccounts {
	s.t.Helper()
	a, err := s.Accounts("orders")
	require.NoError(s.t, err)
	require.Equal(s.t, a.Spilled.Commits, a.Drained.Commits+a.Superseded.Commits+a.Pending.Commits)
	require.Equal(s.t, a.Spilled.Bytes, a.Drained.Bytes+a.Superseded.Bytes+a.Pending.Bytes)
	return a
}

func (s *shelf) offset(id store.LaneID) int64 {
	s.t.Helper()
	meta, _, err := s.store.ReadMeta(context.Background(), id)
	require.NoError(s.t, err)
	return meta.Offset
}

func TestChainIsListedAndDrained(t *testing.T) {
	s := newShelf(t)
	owner := s.acquire(orders)
	ref := s.spill(orders, owner, 3)
	s.spill(others, s.acquire(others), 5)

	all := s.list()
	require.Len(t, all, 1, "another pipeline's are none of its business")
	require.NotEmpty(t, all[0].Segment)
	require.Positive(t, all[0].Bytes)
	require.Equal(t, report.WALChain{
		ChainRef: ref, Segment: all[0].Segment, First: "1:0", Last: "3:0", From: -1, To: 30, Commits: 3, Bytes: all[0].Bytes,
	}, all[0])
	require.EqualValues(t, 3, s.books().Pending.Commits)
	require.Zero(t, s.storage("orders").PendingCommits, "what waits for lanes that do not run here does not hold a level up")
	require.True(t, s.storage("orders").Journal)

	settled, err := s.settle(ref, activities.Settling{})
	require.NoError(t, err)
	require.Equal(t, ref, settled.ChainRef)
	require.Equal(t, report.ChainDrained, settled.Outcome)
	require.EqualValues(t, 3, settled.Commits)
	require.EqualValues(t, 10, settled.From)
	require.EqualValues(t, 30, settled.To)
	require.Nil(t, settled.Superseded)
	require.EqualValues(t, 30, s.offset(orders))
	require.EqualValues(t, store.NotStarted, s.offset(others))
	require.Empty(t, s.list())
	require.Equal(t, s.books().Spilled, s.books().Drained)

	again, err := s.settle(ref, activities.Settling{})
	require.NoError(t, err)
	require.Equal(t, report.ChainNone, again.Outcome, "an attempt before this one has settled it")
}

func TestChainOfAnotherOwnerIsSuperseded(t *testing.T) {
	s := newShelf(t)
	ref := s.spill(orders, s.acquire(orders), 3)
	next := s.acquire(orders)
	settled, err := s.settle(ref, activities.Settling{})
	require.NoError(t, err)
	require.Equal(t, report.ChainSuperseded, settled.Outcome)
	require.Zero(t, settled.Commits)
	require.EqualValues(t, 3, settled.Superseded.Commits)
	require.Len(t, settled.Superseded.Checksum, 16)
	require.Contains(t, settled.Reason, string(next))
	require.EqualValues(t, store.NotStarted, s.offset(orders))
	require.Equal(t, report.ChainSuperseded, s.list()[0].Settled)
	require.EqualValues(t, 3, s.books().Superseded.Commits)
}

// A chain whose lane runs here is the lane's own affair, and counts for its state machine.
func TestLiveChainIsLeftAlone(t *testing.T) {
	s := newShelf(t)
	owner := s.acquire(orders)
	tail := s.Tail(orders, stateID, owner)
	defer tail.Close()
	for _, c := range calls(store.Cursor{}, 2) {
		require.NoError(t, tail.Append(context.Background(), c.Meta.Offset, []store.Call{c}, nil))
	}
	all := s.list()
	require.Len(t, all, 1)
	require.True(t, all[0].Live)
	_, err := s.settle(all[0].ChainRef, activities.Settling{})
	require.ErrorIs(t, err, activities.ErrLive)
	require.EqualValues(t, 2, s.storage("orders").PendingCommits)
	require.Zero(t, s.storage("others").PendingCommits)
}

// What cannot be read asks; what is behind it follows nothing that was applied, and is superseded once that is decided.
func TestCorruptChainAsks(t *testing.T) {
	s := newShelf(t)
	ref := s.spill(orders, s.acquire(orders), 5)
	s.reopen(func() {
		for _, name := range s.fs.Files() {
			if at := bytes.Index(s.fs.Bytes(name), []byte("entry of 3:0")); strings.HasSuffix(name, ".seg") && at >= 0 {
				s.fs.Mutate(name, func(b []byte) []byte {
					b[at] ^= 0x40
					return b
				})
			}
		}
	})
	_, err := s.settle(ref, activities.Settling{})
	var corrupt *activities.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, ref, corrupt.Range.ChainRef)
	require.Len(t, corrupt.Range.Segment, 16)
	require.Greater(t, corrupt.Range.To, corrupt.Range.From)
	require.Contains(t, corrupt.Range.Detail, "its bytes are in ")
	require.EqualValues(t, 20, s.offset(orders), "what is before it is applied")
	require.Len(t, s.list(), 1, "a corrupt range does not make it fail")

	settled, err := s.settle(ref, activities.Settling{Quarantine: true})
	require.NoError(t, err)
	require.Equal(t, report.ChainSuperseded, settled.Outcome)
	require.EqualValues(t, 2, settled.Superseded.Commits)
	require.EqualValues(t, 20, s.offset(orders))
}

func TestCorruptRange(t *testing.T) {
	ref := report.ChainRef{Topic: "events", Partition: 3, Chain: "1:a"}
	require.Equal(t, report.CorruptRange{ChainRef: ref, Segment: "000000000000002a", From: 4096, To: 4196, Records: -1,
		Detail: "bad checksum"},
		corruptRange(ref, wal.Range{Segment: 42, Offset: 4096, Length: 100, Reason: "bad checksum"}))
	require.Equal(t, report.CorruptRange{ChainRef: ref, Segment: "000000000000002a", Records: 7,
		Detail: "missing; its bytes are in x.broken"},
		corruptRange(ref, wal.Range{Segment: 42, Lost: 7, Reason: "missing", Copy: "x.broken"}))
}

// Tidying settles a chain only at the second look that finds another owner, and lets it go when that one has passed it.
func TestTidy(t *testing.T) {
	s := newShelf(t)
	ctx := context.Background()
	ref := s.spill(orders, s.acquire(orders), 3)
	moved := s.settleMoved(ctx, nil)
	require.Empty(t, moved, "its lane may be acquired by this process any moment")
	next := s.acquire(orders)
	moved = s.settleMoved(ctx, moved)
	require.Equal(t, map[report.ChainRef]bool{ref: true}, moved)
	require.Empty(t, s.list()[0].Settled)
	moved = s.settleMoved(ctx, moved)
	require.Equal(t, report.ChainSuperseded, s.list()[0].Settled)
	moved = s.settleMoved(ctx, moved)
	require.Len(t, s.list(), 1, "the lane stands before what the chain covers: it is kept")
	_, err := s.store.Apply(ctx, orders, stateID, next, calls(store.Cursor{}, 3))
	require.NoError(t, err)
	s.settleMoved(ctx, moved)
	require.Empty(t, s.list())
	require.EqualValues(t, 3, s.books().Superseded.Commits)
}

// The lanes of a pipeline that is being removed pass nothing any more, and soon Redis does not know them.
func TestTidyOfARemovedPipeline(t *testing.T) {
	s := newShelf(t)
	ctx := context.Background()
	s.spill(orders, s.acquire(orders), 3)
	_, err := s.store.Fence(ctx, orders, store.RemovedToken("rm-1"))
	require.NoError(t, err)
	s.settleMoved(ctx, nil)
	require.Empty(t, s.list(), "one look settles it and lets it go")
	require.EqualValues(t, 3, s.books().Superseded.Commits)
}

func TestStorageOfAFullDisk(t *testing.T) {
	s := newShelf(t)
	owner := s.acquire(orders)
	s.fs.Resize(1)
	var err error
	for n := range 10_000 {
		call := calls(store.Cursor{Seq: int64(n)}, 1)[0]
		if err = s.Append(context.Background(), orders, stateID, owner, call.Meta.Offset, []store.Call{call}, nil); err != nil {
			break
		}
	}
	require.True(t, errors.Is(err, wal.ErrNoSpace), "%v", err)
	full := s.storage("orders")
	require.True(t, full.Hard)
	require.True(t, full.Soft)
	require.Positive(t, full.Used)
	require.EqualValues(t, 1<<20, full.HardLimit)
}
