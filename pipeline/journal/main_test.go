package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const stateID = "0123456789abcdef"

var (
	lane0 = store.LaneID{Pipeline: "p", Topic: "events", Partition: 0}
	lane1 = store.LaneID{Pipeline: "p", Topic: "events", Partition: 1}
	ctx   = context.Background()
)

func open(t *testing.T, fs *faultfs.FS) *Journal {
	t.Helper()
	j, _, err := Open(Config{Log: wal.Config{Dir: "wal", FS: fs, SegmentSize: wal.MinSegmentSize, HardLimit: 1 << 20}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// reopen crashes the process and opens the journal again.
func reopen(t *testing.T, fs **faultfs.FS, j *Journal) *Journal {
	t.Helper()
	*fs = (*fs).Kill()
	_ = j.Close()
	return open(t, *fs)
}

// commit is one commit of a lane: calls calls that write one entry each, the last with the meta.
type commit struct {
	offset int64
	calls  []store.Call
	side   []source.SideRecord
}

// commits makes a chain of n commits after the cursor seq:0, commit i covering offset 10*i. Every third has a side record.
func commits(seq int64, n int) []commit {
	prev := store.Cursor{Seq: seq}
	all := make([]commit, n)
	for i := range all {
		seq++
		c := &all[i]
		c.offset = 10 * seq
		for chunk := range seq%3 + 1 {
			next := store.Cursor{Seq: seq, Chunk: chunk}
			c.calls = append(c.calls, store.Call{Prev: prev, Next: next, Writes: []store.Write{{
				Slice: store.SliceID{Width: 1000}, Fields: []string{fmt.Sprintf("k%d", chunk), fmt.Sprintf("entry of %s", next)},
			}}})
			prev = next
		}
		c.calls[len(c.calls)-1].Meta = &store.MetaUpdate{Offset: c.offset}
		if seq%3 == 0 {
			c.side = []source.SideRecord{{Topic: "late", Value: fmt.Appendf(nil, "late %d", seq)}}
		}
	}
	return all
}

func sum(all []commit) (n Tally) {
	for _, c := range all {
		n.Commits++
		for i := range c.calls {
			n.Calls++
			n.Entries += int64(countEntries(&c.calls[i]))
		}
	}
	return n
}

func appendAll(t *testing.T, j *Journal, id store.LaneID, owner store.Token, all []commit) {
	t.Helper()
	for _, c := range all {
		require.NoError(t, j.Append(ctx, id, stateID, owner, c.offset, c.calls, c.side))
	}
}

// redis is one lane as the scripts keep it, and everything that happened in order.
type redis struct {
	id      store.LaneID
	meta    store.Meta
	entries map[string]string
	log     []string
	most    int   // calls applied before the connection breaks, 0 for all
	away    error // what every call gets
	denied  error // what publishing gets
}

func newRedis(id store.LaneID, owner store.Token, at store.Cursor) *redis {
	return &redis{id: id, meta: store.Meta{Owner: owner, Cursor: at, Offset: 10 * at.Seq}, entries: map[string]string{}}
}

var errAway = errors.New("redis is away")

func (r *redis) Apply(_ context.Context, _ store.LaneID, _ string, owner store.Token, calls []store.Call) (int, error) {
	if r.away != nil {
		return 0, r.away
	}
	for i := range calls {
		c := &calls[i]
		if r.most > 0 && i >= r.most {
			return i, errAway
		}
		switch {
		case owner != r.meta.Owner:
			return i, store.ErrFenced
		case !r.meta.Cursor.Less(c.Next):
			continue
		case c.Prev != r.meta.Cursor:
			return i, store.ErrLostWrites
		}
		for _, w := range c.Writes {
			for k := 0; k < len(w.Fields); k += 2 {
				r.entries[strings.Clone(w.Fields[k])] = strings.Clone(w.Fields[k+1])
			}
		}
		r.meta.Cursor = c.Next
		r.log = append(r.log, "call "+c.Next.String())
		if c.Meta != nil {
			r.meta.Offset = c.Meta.Offset
		}
	}
	return len(calls), nil
}

func (r *redis) ReadMeta(context.Context, store.LaneID) (store.Meta, bool, error) {
	return r.meta, r.meta.Owner != "", r.away
}

func (r *redis) Acquire(_ context.Context, _ store.LaneID, _ string, expected, next store.Token) (store.Meta, bool, error) {
	if expected != r.meta.Owner {
		return store.Meta{}, false, store.ErrOwnerChanged
	}
	r.meta.Owner = next
	return r.meta, true, r.away
}

func (r *redis) Send(_ context.Context, records []source.SideRecord) error {
	if r.denied != nil {
		return r.denied
	}
	for _, s := range records {
		r.log = append(r.log, string(s.Value))
	}
	return nil
}

// take acquires the lane for next and resumes what j holds of it.
func (r *redis) take(t *testing.T, j *Journal, next store.Token) report.SettledChain {
	t.Helper()
	before := r.meta
	_, _, err := r.Acquire(ctx, r.id, stateID, before.Owner, next)
	require.NoError(t, err)
	out, err := j.Resume(ctx, r, r, r.id, stateID, before.Owner, next, before.Cursor)
	require.NoError(t, err)
	return out
}

// straight is what Redis would have seen had the commits never been journalled.
func straight(all []commit) (log []string) {
	for _, c := range all {
		for _, s := range c.side {
			log = append(log, string(s.Value))
		}
		for _, call := range c.calls {
			log = append(log, "call "+call.Next.String())
		}
	}
	return log
}

// balanced checks that the accounts add up, per lane and in sum, and returns them.
func balanced(t *testing.T, j *Journal) Accounts {
	t.Helper()
	a := j.Accounts()
	var total Accounts
	for _, l := range a.Lanes {
		rest := l.Drained
		rest.add(l.Superseded)
		rest.add(l.Pending)
		require.Equal(t, l.Spilled, rest, l.Lane.String())
		total.Spilled.add(l.Spilled)
		total.Pending.add(l.Pending)
	}
	require.Equal(t, a.Spilled, total.Spilled)
	require.Equal(t, a.Pending, total.Pending)
	return a
}

func counts(n Tally) Tally {
	n.Bytes, n.Checksum = 0, 0
	return n
}
