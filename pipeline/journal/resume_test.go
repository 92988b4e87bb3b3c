package journal

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func TestResume(t *testing.T) {
	all := commits(0, 12)
	tests := []struct {
		name     string
		owner    store.Token  // of the lane, as the acquisition finds it
		at       store.Cursor // of the lane
		from     int          // commits journalled from here on; those before went past the journal
		state    string
		outcome  string
		log      []string
		drained  int64 // calls
		leftover bool  // a superseded chain is kept
	}{
		{name: "the rest", owner: "1:a", from: 3, at: all[2].calls[0].Next, state: stateID, outcome: report.ChainDrained, log: straight(all[3:])},
		{name: "from within", owner: "1:a", from: 0, at: all[4].calls[2].Next, state: stateID, outcome: report.ChainDrained, log: straight(all[5:])},
		{name: "from within a commit", owner: "1:a", from: 0, at: all[4].calls[0].Next, state: stateID, outcome: report.ChainDrained,
			log: straight(all[4:])[1:]},
		{name: "all is in redis", owner: "1:a", from: 3, at: all[11].calls[0].Next, state: stateID, outcome: report.ChainDrained},
		{name: "redis is further", owner: "1:a", from: 3, at: store.Cursor{Seq: 70}, state: stateID, outcome: report.ChainDrained},
		{name: "another owner", owner: "2:b", from: 3, at: all[2].calls[0].Next, state: stateID, outcome: report.ChainSuperseded, leftover: true},
		{name: "nobody", owner: "", from: 3, at: store.Cursor{}, state: stateID, outcome: report.ChainSuperseded, leftover: true},
		{name: "redis is behind the chain", owner: "1:a", from: 3, at: all[1].calls[0].Next, state: stateID, outcome: report.ChainSuperseded, leftover: true},
		{name: "another state", owner: "1:a", from: 3, at: all[2].calls[0].Next, state: "fedcba9876543210", outcome: report.ChainSuperseded, leftover: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := faultfs.New(0)
			j := open(t, fs)
			appendAll(t, j, lane0, "1:a", all[tt.from:])
			appendAll(t, j, lane1, "1:x", all[:3]) // a neighbour that is none of its business
			j = reopen(t, &fs, j)
			r := newRedis(lane0, tt.owner, tt.at)
			r.meta.Owner = "3:c"
			out, err := j.Resume(ctx, r, r, lane0, tt.state, tt.owner, "3:c", tt.at)
			require.NoError(t, err)
			require.Equal(t, tt.outcome, out.Outcome)
			require.Equal(t, tt.log, r.log)
			a := balanced(t, j)
			require.Equal(t, sum(all[:3]), counts(a.Pending), "the neighbour's")
			if out.Superseded != nil {
				require.Equal(t, a.Superseded.Account(), *out.Superseded)
			}
			require.Equal(t, tt.leftover, out.Superseded != nil)
			if tt.leftover {
				require.Equal(t, sum(all[tt.from:]), counts(a.Superseded))
				require.Equal(t, Superseded, j.Chains()[0].State)
				require.NotEmpty(t, j.Chains()[0].Reason)
			} else {
				require.Equal(t, sum(all[tt.from:]), counts(a.Drained))
				require.Len(t, j.Chains(), 1)
				require.Equal(t, int64(len(tt.log)), out.Calls+int64(sides(tt.log)))
			}
			again, err := j.Resume(ctx, r, r, lane0, tt.state, "3:c", "4:d", r.meta.Cursor)
			require.NoError(t, err)
			require.Equal(t, report.ChainNone, again.Outcome)
		})
	}
}

func sides(log []string) (n int) {
	for _, l := range log {
		if strings.HasPrefix(l, "late") {
			n++
		}
	}
	return n
}

// An acquisition that could not come to its end is followed by another one, under another token.
func TestResumeAfterAFailure(t *testing.T) {
	all := commits(0, 12)
	fs := faultfs.New(0)
	j := open(t, fs)
	appendAll(t, j, lane0, "1:a", all)
	r := newRedis(lane0, "1:a", store.Cursor{})
	owner := store.Token("1:a")
	r.most = 1
	for tries := 0; ; tries++ {
		before := r.meta
		owner = store.NextToken(owner)
		r.meta.Owner = owner
		out, err := j.Resume(ctx, r, r, lane0, stateID, before.Owner, owner, before.Cursor)
		if err == nil {
			require.Equal(t, report.ChainDrained, out.Outcome)
			break
		}
		require.ErrorIs(t, err, errAway)
		require.Less(t, tries, 50)
	}
	require.Equal(t, straight(all), dedup(r.log), "a side record may go out again with the acquisition that follows")
	a := balanced(t, j)
	require.Equal(t, a.Spilled, a.Drained)
}

func dedup(log []string) (out []string) {
	for i, l := range log {
		if i == 0 || log[i-1] != l {
			out = append(out, l)
		}
	}
	return out
}

// A crash between commits, and one that leaves half of a commit: what is there is applied, the rest is read again.
func TestResumeAppliesHalfACommit(t *testing.T) {
	all := commits(0, 5)
	fs := faultfs.New(0)
	j := open(t, fs)
	appendAll(t, j, lane0, "1:a", all[:4])
	half := all[4]
	half.calls = half.calls[:2]
	appendAll(t, j, lane0, "1:a", []commit{half})
	j = reopen(t, &fs, j)
	r := newRedis(lane0, "1:a", store.Cursor{})
	out := r.take(t, j, "2:b")
	require.Equal(t, int64(4), out.Commits)
	require.Equal(t, int64(40), out.To)
	require.Equal(t, half.calls[1].Next, r.meta.Cursor)
	require.Equal(t, int64(40), r.meta.Offset)
}

// spoil destroys the data of the n-th journalled record.
func spoil(t *testing.T, fs *faultfs.FS, text string) {
	t.Helper()
	for _, name := range fs.Files() {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		if at := bytes.Index(fs.Bytes(name), []byte(text)); at >= 0 {
			fs.Mutate(name, func(b []byte) []byte {
				b[at] ^= 0x40
				return b
			})
			return
		}
	}
	t.Fatalf("%q is in no segment", text)
}

func TestCorruptRange(t *testing.T) {
	all := commits(0, 12)
	begin := func(t *testing.T, text string) (*Journal, *redis) {
		fs := faultfs.New(0)
		j := open(t, fs)
		for i := range all { // neighbours share every block
			appendAll(t, j, lane0, "1:a", all[i:i+1])
			appendAll(t, j, lane1, "1:x", []commit{{offset: 1, calls: []store.Call{{
				Prev: store.Cursor{Seq: int64(i)}, Next: store.Cursor{Seq: int64(i) + 1},
				Writes: []store.Write{{Fields: []string{"key", "neighbour " + all[i].calls[0].Next.String()}}},
			}}}})
		}
		require.NoError(t, j.Close())
		spoil(t, fs, text)
		j, rep, err := Open(Config{Log: wal.Config{Dir: "wal", FS: fs, SegmentSize: wal.MinSegmentSize}})
		require.NoError(t, err)
		require.Len(t, rep.Corrupt, 1)
		t.Cleanup(func() { _ = j.Close() })
		return j, newRedis(lane0, "1:a", store.Cursor{})
	}
	t.Run("resume up to it", func(t *testing.T) {
		j, r := begin(t, "entry of 7:1")
		out := r.take(t, j, "2:b")
		require.Equal(t, report.ChainSuperseded, out.Outcome)
		require.Contains(t, out.Reason, "7:1")
		require.Equal(t, int64(6), out.Commits)
		require.Equal(t, append(straight(all[:6]), "call 7:0"), r.log)
		require.Equal(t, int64(5), out.Superseded.Commits, "all but the commit whose last call is lost")
		balanced(t, j)
	})
	t.Run("resume past a neighbour's", func(t *testing.T) {
		j, r := begin(t, "neighbour 7:0")
		out := r.take(t, j, "2:b")
		require.Equal(t, report.ChainDrained, out.Outcome)
		require.Equal(t, straight(all), r.log)
	})
	t.Run("settle asks", func(t *testing.T) {
		j, r := begin(t, "entry of 7:1")
		opts := SettleOptions{Store: r, Side: r}
		for range 2 {
			out, err := j.Settle(ctx, lane0, "1:a", opts)
			var corrupt *wal.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.NotEmpty(t, corrupt.Range.Copy)
			require.NotEqual(t, report.ChainSuperseded, out.Outcome)
			require.Equal(t, append(straight(all[:6]), "call 7:0"), r.log)
			require.Equal(t, Pending, j.Chains()[0].State)
		}
		opts.Quarantine = true
		out, err := j.Settle(ctx, lane0, "1:a", opts)
		require.NoError(t, err)
		require.Equal(t, report.ChainSuperseded, out.Outcome)
		require.Equal(t, int64(5), out.Superseded.Commits)
		balanced(t, j)
	})
	t.Run("a running lane", func(t *testing.T) {
		fs := faultfs.New(0)
		j := open(t, fs)
		tail := j.Tail(lane0, stateID, "1:a")
		defer tail.Close()
		for _, c := range all {
			require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
		}
		spoil(t, fs, "entry of 7:1")
		r := newRedis(lane0, "1:a", store.Cursor{})
		var err error
		for err == nil {
			_, err = tail.Drain(ctx, r, r)
		}
		require.ErrorIs(t, err, ErrBroken)
		require.Equal(t, append(straight(all[:6]), "call 7:0"), r.log)
	})
}

func TestSupersededChainIsKeptUntilTheLaneHasPassedIt(t *testing.T) {
	all := commits(0, 20)
	fs := faultfs.New(0)
	j := open(t, fs)
	appendAll(t, j, lane0, "1:a", all[:10])
	j = reopen(t, &fs, j)
	r := newRedis(lane0, "2:b", store.Cursor{})
	r.take(t, j, "3:c")
	tail := j.Tail(lane0, stateID, "3:c")
	for _, c := range all[:5] {
		require.NoError(t, tail.Append(ctx, c.offset, c.calls, c.side))
	}
	drainAll(t, tail, r)
	require.Equal(t, []string{Superseded}, states(j))
	tail.Committed(99)
	require.Equal(t, []string{Superseded}, states(j))
	tail.Close()

	// It survives the process, and is decided again.
	j = reopen(t, &fs, j)
	require.Equal(t, Pending, j.Chains()[0].State)
	r.take(t, j, "4:d")
	require.Equal(t, Superseded, j.Chains()[0].State)
	offset := int64(99)
	meta := func(store.LaneID) (store.Meta, bool, error) { return store.Meta{Offset: offset}, true, nil }
	n, err := j.Sweep(ctx, meta)
	require.NoError(t, err)
	require.Zero(t, n)
	offset = 100
	n, err = j.Sweep(ctx, meta)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Empty(t, j.Chains())
	require.Equal(t, sum(all[:10]), counts(balanced(t, j).Superseded))
	require.NoError(t, j.Close())
	j = open(t, fs)
	require.Empty(t, j.Chains(), "released for good")
}

func TestSupersededChainGoesWithItsPipeline(t *testing.T) {
	fs := faultfs.New(0)
	j := open(t, fs)
	appendAll(t, j, lane0, "1:a", commits(0, 10))
	j = reopen(t, &fs, j)
	r := newRedis(lane0, "2:b", store.Cursor{})
	r.take(t, j, "3:c")
	meta := store.Meta{Offset: 5, Owner: "3:c"}
	sweep := func() int {
		n, err := j.Sweep(ctx, func(store.LaneID) (store.Meta, bool, error) { return meta, true, nil })
		require.NoError(t, err)
		return n
	}
	require.Zero(t, sweep())
	meta.Owner = store.RemovedToken("rm-1")
	require.Equal(t, 1, sweep(), "a lane of a removed pipeline never passes it")
	require.Empty(t, j.Chains())
}

func states(j *Journal) (all []string) {
	for _, c := range j.Chains() {
		all = append(all, c.State)
	}
	return all
}

func TestSettle(t *testing.T) {
	all := commits(0, 12)
	fs := faultfs.New(0)
	j := open(t, fs)
	appendAll(t, j, lane0, "1:a", all)
	j = reopen(t, &fs, j)
	r := newRedis(lane0, "1:a", store.Cursor{})
	opts := SettleOptions{Store: r, Side: r}

	_, err := j.Settle(ctx, lane0, "9:z", opts)
	require.ErrorIs(t, err, ErrUnknown)
	r.away = errAway
	_, err = j.Settle(ctx, lane0, "1:a", opts)
	require.ErrorIs(t, err, errAway)
	r.away = nil
	tail := j.Tail(lane0, stateID, "2:b")
	_, err = j.Settle(ctx, lane0, "1:a", opts)
	require.ErrorIs(t, err, ErrLive)
	tail.Close()

	r.most = 2
	for tries := 0; ; tries++ {
		require.Less(t, tries, 20)
		out, err := j.Settle(ctx, lane0, "1:a", opts)
		if err == nil {
			require.Equal(t, report.ChainDrained, out.Outcome)
			break
		}
		require.ErrorIs(t, err, errAway)
	}
	require.Equal(t, straight(all), dedup(r.log))
	require.NotEqual(t, store.Token("1:a"), r.meta.Owner, "a zombie of the owner is fenced")
	require.Empty(t, j.Chains())
	a := balanced(t, j)
	require.Equal(t, a.Spilled, a.Drained)
}

func TestSettleSupersedes(t *testing.T) {
	all := commits(0, 12)
	for _, tt := range []struct {
		name   string
		offset int64
		kept   bool
	}{{"passed", 120, false}, {"not passed", 119, true}} {
		t.Run(tt.name, func(t *testing.T) {
			j := open(t, faultfs.New(0))
			appendAll(t, j, lane0, "1:a", all)
			r := newRedis(lane0, "2:b", store.Cursor{})
			r.meta.Offset = tt.offset
			out, err := j.Settle(ctx, lane0, "1:a", SettleOptions{Store: r, Side: r})
			require.NoError(t, err)
			require.Equal(t, report.ChainSuperseded, out.Outcome)
			require.Equal(t, balanced(t, j).Superseded.Account(), *out.Superseded)
			require.Equal(t, sum(all), counts(balanced(t, j).Superseded))
			require.Equal(t, tt.kept, len(j.Chains()) == 1)
			require.Empty(t, r.log)
			require.Equal(t, store.Token("2:b"), r.meta.Owner)
		})
	}
}

func TestSettleKeepsItsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, faultfs.New(0))
		defer j.Close()
		all := commits(0, 200)
		appendAll(t, j, lane0, "1:a", all)
		bytes := balanced(t, j).Spilled.Bytes
		r := newRedis(lane0, "1:a", store.Cursor{})
		began := time.Now()
		out, err := j.Settle(ctx, lane0, "1:a", SettleOptions{Store: r, Side: r, BytesPerSecond: int(bytes / 5)})
		require.NoError(t, err)
		require.Equal(t, bytes, out.Bytes)
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second-100*time.Millisecond)
	})
}

// What was drained before a crash and comes back with it changes nothing.
func TestReleaseLostInACrash(t *testing.T) {
	all := commits(0, 12)
	fs := faultfs.New(0)
	j := open(t, fs)
	appendAll(t, j, lane0, "1:a", all[:6])
	copied := fs.Clone()
	r := newRedis(lane0, "1:a", store.Cursor{})
	tail := j.Tail(lane0, stateID, "1:a")
	drainAll(t, tail, r)
	for _, c := range all[6:9] { // past the journal
		_, err := r.Apply(ctx, lane0, stateID, "1:a", c.calls)
		require.NoError(t, err)
	}
	tail.Close()
	before := len(r.log)

	fs = copied.Kill()
	j2 := open(t, fs)
	appendAll(t, j2, lane0, "1:a", all[9:])
	out := r.take(t, j2, "2:b")
	require.Equal(t, report.ChainDrained, out.Outcome)
	require.Equal(t, int64(3), out.Commits)
	require.Equal(t, straight(all[9:]), r.log[before:])
}
