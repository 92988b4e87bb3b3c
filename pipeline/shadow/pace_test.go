package shadow

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

func TestPaceBoundsAllLanesTogether(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPace(100, func() time.Time { return now })
	require.Equal(t, 500*time.Millisecond, p.spent(50, time.Hour))
	require.Equal(t, time.Second, p.spent(50, time.Hour), "another lane")
	now = now.Add(3 * time.Second)
	require.Equal(t, 100*time.Millisecond, p.spent(10, time.Hour), "what was not used is not saved up")
	limit, recent := p.standing()
	require.Equal(t, int64(100), limit)
	require.InDelta(t, 110.0/3, recent, 0.1)
	p.setRate(1000)
	require.Equal(t, 10*time.Millisecond, p.spent(10, time.Hour))
	require.Equal(t, 100, p.atOnce(), "a batch of any size is read at the rate")
	p.setRate(5)
	require.Equal(t, 1, p.atOnce())
	p.setRate(0)
	require.Equal(t, foldMost, p.atOnce())
	require.Equal(t, 19*time.Millisecond, p.spent(1_000_000, time.Millisecond), "without a rate it rests 19 times as long as it took")
	require.Equal(t, 38*time.Millisecond, p.spent(1, time.Millisecond), "all lanes together")
	require.Equal(t, 70*time.Millisecond, p.comparedFor(10*time.Millisecond))
	require.Equal(t, time.Second, p.comparedFor(time.Minute), "not for ever")
	p.setRate(1000)
	require.Zero(t, p.comparedFor(time.Minute), "the rate that somebody asked for is all that bounds it")
	p.hold("because")
	require.Equal(t, "because", p.heldBecause())
	p.hold("")
	require.Empty(t, p.heldBecause())
}

// endless is a log that grows, read by lanes that stand where they are put.
type endless struct {
	Cluster
	end       int64
	committed map[int32]int64
	silent    bool // nobody runs the lanes
	ctl       store.PipelineCtl
	commits   int64
}

func (e *endless) PipelineCtl(context.Context, string) (store.PipelineCtl, error) { return e.ctl, nil }

func (e *endless) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	out := map[source.TopicPartition]source.Ends{}
	for _, tp := range tps {
		out[tp] = source.Ends{End: e.end, HighWatermark: e.end}
	}
	return out, nil
}

func (e *endless) ReadMeta(_ context.Context, id store.LaneID) (store.Meta, bool, error) {
	if !e.silent {
		e.commits++
	}
	offset, ok := e.committed[id.Partition]
	return store.Meta{Offset: offset, Cursor: store.Cursor{Seq: e.commits}}, ok, nil
}

func TestLiveLanesThatLagAreNoticed(t *testing.T) {
	now := time.Unix(1000, 0)
	e := &endless{end: 100, committed: map[int32]int64{0: 40, 1: store.NotStarted}}
	tps := []source.TopicPartition{{Topic: "t"}, {Topic: "t", Partition: 1}, {Topic: "t", Partition: 2}}
	live := NewLive("orders", e, e, tps, func() time.Time { return now })
	look := func() string {
		t.Helper()
		why, err := live.Lagging(t.Context())
		require.NoError(t, err)
		return why
	}
	require.Empty(t, look(), "nothing is known yet")
	for range 5 {
		now, e.end = now.Add(time.Second), e.end+100
		look()
	}
	require.Contains(t, look(), "lane t/0 of the pipeline is 60 offsets behind what its log had 5s ago")
	e.committed[0] = 100
	require.Empty(t, look(), "it keeps up, though its log goes on")
	now = now.Add(time.Second)
	require.Contains(t, look(), "100 offsets behind")
	e.ctl.Paused = true
	require.Empty(t, look(), "it is not to keep up")
	e.ctl.Paused = false
	require.NotEmpty(t, look())
	e.silent = true
	now = now.Add(goneAfter - time.Second)
	look()
	e.end += 1000
	now = now.Add(lagAfter)
	look()
	require.Empty(t, look(), "nobody runs it")
	e.silent = false
	require.NotEmpty(t, look())
	e.committed[0] = e.end
	now = now.Add(time.Hour)
	require.Empty(t, look())
	require.Less(t, len(live.asked), 8)
}

func TestSpansHoldWhatWindowsCover(t *testing.T) {
	s := spansOf([]plan.Window{{Start: 60, End: 120}, {Start: 0, End: 30}, {Start: 20, End: 40}, {Start: 120, End: 130}})
	require.Equal(t, []span{{0, 40}, {60, 130}}, s.list)
	for ms, want := range map[int64]bool{-1: false, 0: true, 39: true, 40: false, 59: false, 60: true, 120: true, 129: true, 130: false} {
		require.Equal(t, want, s.holds(ms), ms)
	}
	require.False(t, spansOf(nil).holds(0))
}
