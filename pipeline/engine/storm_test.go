package engine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
)

func TestStormIsDampedAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, func(cfg *Config) { cfg.Storm = StormLimit{3, 30 * time.Second} })
		defer h.close()
		h.claim(100) // retained all the time
		synctest.Wait()
		retained := h.Status().Lanes[0].Owner
		pass(time.Minute)
		h.claim(0, 1)() // two changes are none too many
		pass(time.Second)
		h.claim(0, 1)()
		synctest.Wait()
		require.Nil(t, h.Status().Storm)
		var delays []time.Duration
		for range 8 {
			pass(time.Second)
			revoke := h.claim(0, 1)
			began := time.Now()
			synctest.Wait()
			require.Contains(t, laneOf(h, 0).Reason, "rebalance storm")
			for laneOf(h, 0).State != lane.StateRunning {
				pass(100 * time.Millisecond)
			}
			delays = append(delays, time.Since(began))
			if len(delays) < 8 {
				revoke()
			}
		}
		require.Equal(t, 500*time.Millisecond, delays[0])
		for i := range 4 {
			require.Equal(t, 2*delays[i], delays[i+1], "it grows: %v", delays)
		}
		for _, d := range delays {
			require.LessOrEqual(t, d, maxDelay)
		}
		storm := h.Status().Storm
		require.Equal(t, 2, storm.Timeline[0].Lanes)
		require.Equal(t, storm.Changes, len(storm.Timeline))
		require.GreaterOrEqual(t, storm.Changes, 8)

		pass(time.Minute)
		require.Nil(t, h.Status().Storm, "it is over")
		h.claim(7)
		synctest.Wait()
		require.Equal(t, lane.StateRunning, laneOf(h, 7).State, "no delay after the storm")
		require.Equal(t, 1, h.restores(100))
		require.Equal(t, retained, laneOf(h, 100).Owner)
	})
}

func laneOf(h *hall, partition int32) lane.Status {
	for _, l := range h.Status().Lanes {
		if l.Partition == partition {
			return l
		}
	}
	return lane.Status{Reason: fmt.Sprintf("no lane of partition %d", partition)}
}

func TestTimelineIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Storm: StormLimit{Changes: 2}, Log: newHall(t, nil).cfg.Log}
		s := newStorms(&cfg)
		for range 200 {
			s.claimed()
			pass(Collect)
		}
		storm := s.current()
		require.Len(t, storm.Timeline, keptChanges)
		require.Equal(t, 200, storm.Changes)
		require.Equal(t, maxDelay.Milliseconds(), storm.Delay)
	})
}
