package stage

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func sleep(d time.Duration) { <-time.After(d) }

func TestClockBooksEachMomentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(Fetch)
		sleep(3 * time.Second)
		require.Equal(t, Fetch, c.Enter(Fold))
		sleep(time.Second)
		require.Equal(t, Fold, c.Enter(Rest))
		sleep(time.Second)
		c.Enter(Fold)
		sleep(4 * time.Second)
		c.EnterDividing(Commit, Part{Fold, 3}, Part{Decode, 1})
		sleep(2 * time.Second)
		a := c.Account()
		require.Equal(t, map[string]float64{"fetch": 3, "fold": 4, "decode": 1, "rest": 1, "commit": 2}, a.Total.Seconds(),
			"the stage that goes on is in it")
		require.Equal(t, a.Total, a.Minute)
		require.Equal(t, 11*time.Second, a.Span)
		c.EnterDividing(Rest)
		sleep(time.Second)
		a = c.Account()
		require.Equal(t, 2*time.Second, a.Total[Commit], "without weights it is the stage's own")
	})
}

func TestAccountLooksBackAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(Fetch)
		for range 300 {
			sleep(time.Second)
			c.Account()
		}
		c.Enter(Redis)
		for range 20 {
			sleep(time.Second)
			c.Account()
		}
		a := c.Account()
		require.Equal(t, 20*time.Second, a.Minute[Redis])
		require.InDelta(t, 60, a.Span.Seconds(), 10)
		require.Equal(t, a.Span, a.Minute[Redis]+a.Minute[Fetch])
		require.Equal(t, 320*time.Second, a.Total[Redis]+a.Total[Fetch])

		sleep(10 * time.Minute)
		a = c.Account()
		require.GreaterOrEqual(t, a.Span, 10*time.Minute, "nobody has asked meanwhile")
		require.Equal(t, a.Span, a.Minute[Redis])
	})
}

func TestNilClock(t *testing.T) {
	var c *Clock
	c.Enter(Fold)
	c.EnterDividing(Rest, Part{Fold, 1})
	require.Zero(t, c.Account())
}

func TestEveryStageHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for s := Rest; s < count; s++ {
		require.NotEmpty(t, s.String())
		require.False(t, seen[s.String()], s.String())
		seen[s.String()] = true
	}
}

func BenchmarkEnter(b *testing.B) {
	c := NewClock(Fetch)
	for b.Loop() {
		c.Enter(Fold)
	}
}
