package breaker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// intake reads batches for a while as lanes do, and returns how many events came in.
func (r *rig) intake(lanes, batch int, d time.Duration) int64 {
	var read atomic.Int64
	end := time.Now().Add(d)
	for range lanes {
		go func() {
			for time.Now().Before(end) {
				<-time.After(time.Millisecond) // reading takes time too
				read.Add(int64(batch))
				for wait := r.Admit(batch); wait > 0 && time.Now().Before(end); wait = r.Admit(0) {
					<-time.After(wait)
				}
			}
		}()
	}
	r.pass(d + 2*time.Second)
	return read.Load()
}

// measured lets 1000 events per second come in for 15 s.
func (r *rig) measured() {
	var read int64
	r.course(0, 15, &read, func(int) (int64, int64) { return 1000, 0 })
}

func TestThrottle(t *testing.T) {
	tests := []struct {
		name string
		used int64
		rate float64 // events per second
	}{
		{"at the soft limit", 600, 1000},
		{"half the room is left", 800, 500},
		{"a quarter of the room is left", 900, 250},
		{"hardly any room is left", 990, 100},
	}
	for _, test := range tests {
		for _, batch := range []int{8, 500} {
			inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
				r.measured()
				r.journal(stored(test.used, 5))
				r.at(report.LevelThrottled, true)
				require.InDelta(t, test.rate, r.Status().Intake, 1e-6)
				require.InDelta(t, 1000, measured(t, r.last(), "measured_events_per_second"), 1e-6)
				got := r.intake(4, batch, time.Minute)
				// Each lane may have a batch that is not paid yet, and the bucket starts full.
				require.InDelta(t, 60*test.rate, float64(got), 0.02*60*test.rate+4*float64(batch)+100, "%s, batches of %d", test.name, batch)
			})
		}
	}
}

func TestNoThrottleAtOtherLevels(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.measured()
		require.Zero(t, r.Admit(100_000))
		r.journal(stored(599, 5))
		require.Zero(t, r.Admit(100_000))
		r.journal(stored(700, 5))
		require.Equal(t, longestWait, r.Admit(100_000))
		require.Equal(t, longestWait, r.Admit(0), "not paid yet")
		require.Positive(t, r.Status().Intake)
		r.journal(stored(0, 5))
		r.pass(2 * time.Second)
		r.at(report.LevelJournal, true)
		require.Zero(t, r.Admit(0), "a debt ends with the level")
		r.journal(stored(1000, 5))
		r.at(report.LevelPaused, true)
		require.Zero(t, r.Admit(100_000), "the lane itself blocks")
	})
}

func TestThrottleFollowsTheJournal(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.measured()
		for _, step := range []struct {
			used int64
			rate float64
		}{{600, 1000}, {700, 750}, {900, 250}, {980, 100}, {700, 750}, {560, 1000}} {
			r.journal(stored(step.used, 5))
			r.at(report.LevelThrottled, true)
			require.InDelta(t, step.rate, r.Status().Intake, 1e-6)
		}
	})
}

// Throttled for want of disk room, while the journal is below its soft limit, intake is not let grow.
func TestThrottleBelowTheSoftLimit(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.measured()
		s := stored(100, 5)
		s.Soft = true
		r.journal(s)
		r.at(report.LevelThrottled, true)
		require.InDelta(t, 1000, r.Status().Intake, 1e-6)
	})
}

// What comes in throttled is not what wants to come in: until the level is normal again, the first measurement holds.
func TestThrottledAgain(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.measured()
		r.journal(stored(900, 5))
		read := int64(15000)
		slow := func(int) (int64, int64) { return 250, 1000 }
		r.course(0, 20, &read, slow)
		r.journal(stored(1000, 5))
		r.at(report.LevelPaused, true)
		r.journal(stored(800, 5))
		r.pass(2 * time.Second)
		r.at(report.LevelThrottled, true)
		require.InDelta(t, 500, r.Status().Intake, 1e-6)
		r.journal(stored(0, 5))
		r.pass(2 * time.Second)
		r.journal(stored(800, 5))
		require.InDelta(t, 500, r.Status().Intake, 1e-6)
		r.journal(stored(0, 0))
		r.pass(2 * time.Second)
		r.at(report.LevelNormal, true)
		r.course(0, 20, &read, slow)
		r.journal(stored(800, 5))
		require.InDelta(t, 125, r.Status().Intake, 1e-6)
	})
}

// As long as nobody knows what wants to come in, nothing is held back.
func TestThrottleBeforeAnyMeasurement(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(800, 5))
		r.at(report.LevelThrottled, true)
		require.Zero(t, r.Admit(100_000))
		r.measured()
		synctest.Wait()
		require.InDelta(t, 500, r.Status().Intake, 1e-6)
	})
}
