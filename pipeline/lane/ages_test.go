package lane

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/measure"
	"millrace/pipeline/source"
)

// Events are readable with the commit that holds them, at the moment at which Redis acknowledged it, and are counted once.
func TestEventsAreReadableWithTheirCommit(t *testing.T) {
	p := measure.NewProcess().Pipeline("p")
	count := func() uint64 { c := p.Readable.Counts(); return c.Count }
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	var a ages
	a.fold([]source.Stamp{{At: 1000, Records: 2}})
	a.readable(100, at(1100), p.Readable)
	require.Zero(t, count(), "what is in no commit is not readable")
	a.commit(10)
	a.fold([]source.Stamp{{At: 1100, Records: 3}})
	a.commit(20)
	a.commit(20)
	a.readable(9, at(1200), p.Readable)
	require.Zero(t, count())
	a.readable(10, at(1500), p.Readable)
	require.EqualValues(t, 2, count())
	a.readable(10, at(1600), p.Readable)
	require.EqualValues(t, 2, count())
	a.readable(25, at(1600), p.Readable)
	counts := p.Readable.Counts()
	require.EqualValues(t, 5, counts.Count)
	require.InDelta(t, 2*0.5+3*0.5, counts.Sum, 1e-9)
	require.Empty(t, a.waiting)
}

// However much waits, memory is bounded and every event is counted once. On average they are as old as they are: closely, and
// less so where many commits were thrown together.
func TestAgesAreBounded(t *testing.T) {
	const batches, stamps = 50, 64
	for _, tt := range []struct {
		commits int64
		most    float64 // relative error
	}{{agesCommits, 0.06}, {5 * agesCommits, 0.2}} {
		p := measure.NewProcess().Pipeline("p")
		var a ages
		for c := range tt.commits {
			for b := range int64(batches) {
				var of []source.Stamp
				for s := range int64(stamps) {
					of = append(of, source.Stamp{At: 10_000 - (b*stamps + s), Records: 1 + s%3})
				}
				a.fold(of)
				require.LessOrEqual(t, len(a.open), agesPerCommit)
			}
			a.commit(c + 1)
			require.LessOrEqual(t, len(a.waiting), agesCommits)
		}
		a.readable(tt.commits, time.UnixMilli(10_000), p.Readable)
		c := p.Readable.Counts()
		require.EqualValues(t, tt.commits*batches*(22*1+21*2+21*3), c.Count)
		require.InEpsilon(t, 1.6, c.Sum/float64(c.Count), tt.most)
		require.InEpsilon(t, 1.6, c.Quantile(0.5), tt.most)
	}
}
