package cli

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace(t *testing.T) {
	for _, rate := range []float64{0.5, 1, 3, 1000, 50_000} {
		synctest.Test(t, func(t *testing.T) {
			p := newPace(rate)
			began := time.Now()
			events := 0
			for ; time.Since(began) < 10*time.Second; events++ {
				require.True(t, p.wait(t.Context()))
				due := time.Duration(float64(events) / rate * float64(time.Second))
				require.InDelta(t, due, time.Since(began), float64(paceStep)+float64(time.Microsecond), "event %d of %v a second", events, rate)
			}
			require.InDelta(t, rate*10, events, 2+rate*paceStep.Seconds())
		})
	}
}

func TestPaceGivesUpWhatIsLongOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(100)
		require.True(t, p.wait(t.Context()))
		blocked := time.NewTimer(time.Minute)
		<-blocked.C
		began, burst := time.Now(), 0
		for time.Since(began) == 0 {
			require.True(t, p.wait(t.Context()))
			burst++
		}
		require.InDelta(t, 100*paceDebt.Seconds(), burst, 3, "a second's worth, not a minute's")
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := newPace(0.01)
		require.True(t, p.wait(ctx))
		began := time.Now()
		require.False(t, p.wait(ctx))
		require.Equal(t, time.Second, time.Since(began))
		require.False(t, newPace(0).wait(ctx))
	})
}
