package breaker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// shape is a course of the intake: events per second and lag, by second.
type shape func(second int) (rate, lag int64)

// course feeds a shape for so many seconds.
func (r *rig) course(from, to int, read *int64, s shape) {
	for second := from; second < to; second++ {
		r.pass(time.Second)
		rate, lag := s(second)
		*read += rate
		r.Progress(*read, lag)
	}
	synctest.Wait()
}

func pingsFail(k int) func(context.Context, int) error {
	return func(_ context.Context, n int) error {
		if n%5 < k {
			return errRefused
		}
		return nil
	}
}

func (r *rig) reports(n int, err error) {
	for range n {
		r.Report(err)
	}
	synctest.Wait()
}

// Every signal opens the breaker at its threshold, not just below it, and not for what looks like it.
func TestSignals(t *testing.T) {
	falling := func(rate int64) shape { // from 1000 per second after 20 s, with what is not read waiting
		return func(s int) (int64, int64) {
			if s < 20 {
				return 1000, 50
			}
			return rate, 50 + int64(s-19)*(1000-rate)
		}
	}
	tests := []struct {
		name  string
		drive func(r *rig)
		trips string // the reason, "" when the breaker must stay closed
	}{
		{"assignment slower than the limit", func(r *rig) { r.Assigned(5*time.Second + time.Millisecond) }, "assignment took 5.001s"},
		{"assignment at the limit", func(r *rig) { r.Assigned(5 * time.Second) }, ""},
		{"many quick assignments that sum up to more", func(r *rig) {
			for range 100 {
				r.Assigned(time.Second)
			}
		}, ""},

		{"three of five pings fail in three rounds", func(r *rig) {
			r.answer(pingsFail(3))
			r.pass(3100 * time.Millisecond)
		}, "3 probe rounds in a row failed, 3 of 5 pings in the last: connection refused"},
		{"three of five pings fail in two rounds", func(r *rig) {
			r.answer(pingsFail(3))
			r.pass(2100 * time.Millisecond)
			r.back()
			r.pass(time.Minute)
		}, ""},
		{"two of five pings fail for a minute", func(r *rig) {
			r.answer(pingsFail(2))
			r.pass(time.Minute)
		}, ""},
		{"every third round is well", func(r *rig) {
			r.answer(func(_ context.Context, n int) error {
				if n/5%3 == 2 {
					return nil
				}
				return errRefused
			})
			r.pass(time.Minute)
		}, ""},
		{"pings hang until their time is over", func(r *rig) {
			r.answer(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
			r.pass(3600 * time.Millisecond)
		}, "5 of 5 pings"},
		{"pings hang and do not heed their time", func(r *rig) {
			release := make(chan struct{})
			r.answer(func(context.Context, int) error { <-release; return nil })
			r.pass(3600 * time.Millisecond)
			close(release)
		}, "5 of 5 pings"},
		{"pings are slow but in time", func(r *rig) {
			r.answer(func(context.Context, int) error { <-time.After(490 * time.Millisecond); return nil })
			r.pass(time.Minute)
		}, ""},

		{"throughput falls by 40 % and lag grows", func(r *rig) {
			var read int64
			r.course(0, 31, &read, falling(600))
		}, "throughput fell from 1000 to 600 events per second while lag grew"},
		{"throughput falls by 39 % and lag grows", func(r *rig) {
			var read int64
			r.course(0, 60, &read, falling(610))
		}, ""},
		{"throughput stops and lag grows", func(r *rig) {
			var read int64
			r.course(0, 31, &read, falling(0))
		}, "throughput fell from 1000 to 600"},
		{"the input dries up", func(r *rig) {
			var read int64
			r.course(0, 60, &read, func(s int) (int64, int64) {
				if s < 20 {
					return 1000, 50
				}
				return 100, 50
			})
		}, ""},
		{"the input falls by half, lag as ragged as commits make it", func(r *rig) {
			var read int64
			r.course(0, 60, &read, func(s int) (int64, int64) {
				rate := int64(1000)
				if s >= 20 {
					rate = 500
				}
				return rate, int64(s*7%10) * rate / 10
			})
		}, ""},
		{"catching up ends", func(r *rig) {
			var read int64
			r.course(0, 60, &read, func(s int) (int64, int64) {
				if s < 20 {
					return 5000, int64(20-s) * 4000
				}
				return 1000, 100
			})
		}, ""},
		{"lag grows because more comes in", func(r *rig) {
			var read int64
			r.course(0, 60, &read, func(s int) (int64, int64) { return 1000, int64(s) * 1000 })
		}, ""},
		{"throughput falls before there are two windows", func(r *rig) {
			var read int64
			r.course(0, 19, &read, func(s int) (int64, int64) {
				if s < 10 {
					return 1000, 50
				}
				return 0, int64(s) * 1000
			})
		}, ""},
		{"the operator pauses", func(r *rig) {
			var read int64
			r.course(0, 25, &read, falling(1000))
			r.pass(8 * time.Second) // nothing is sampled meanwhile
			r.course(0, 15, &read, func(s int) (int64, int64) { return 300, 20000 + int64(s)*700 })
		}, ""},
		{"partitions move away", func(r *rig) {
			var read int64
			r.course(0, 25, &read, falling(1000))
			r.Assigned(time.Second)
			r.course(0, 15, &read, func(s int) (int64, int64) { return 300, 20000 + int64(s)*700 })
		}, ""},
		{"the total starts anew", func(r *rig) {
			var read int64
			r.course(0, 25, &read, falling(1000))
			read = 0
			r.course(0, 15, &read, func(s int) (int64, int64) { return 1000, int64(s) * 1000 })
		}, ""},
		{"a trickle stops", func(r *rig) {
			var read int64
			r.course(0, 60, &read, func(s int) (int64, int64) {
				if s < 20 {
					return 9, 0
				}
				return 0, int64(s)
			})
		}, ""},

		{"80 of 100 tries fail", func(r *rig) {
			r.reports(20, nil)
			r.reports(80, errRefused)
		}, "80 of 100 tries failed within 10s"},
		{"79 of 100 tries fail", func(r *rig) {
			r.reports(21, nil)
			r.reports(79, errRefused)
		}, ""},
		{"the first four tries fail", func(r *rig) { r.reports(4, errRefused) }, ""},
		{"the first five tries fail", func(r *rig) { r.reports(5, errRefused) }, "5 of 5 tries failed"},
		{"tries run out of time", func(r *rig) { r.reports(5, context.DeadlineExceeded) }, "5 of 5 tries failed"},
		{"failures on both sides of where a fixed window would end", func(r *rig) {
			r.pass(9500 * time.Millisecond)
			r.reports(4, errRefused)
			r.pass(time.Second)
			r.reports(1, errRefused)
		}, "5 of 5 tries failed"},
		{"failures far apart", func(r *rig) {
			for range 30 {
				r.reports(1, errRefused)
				r.pass(4 * time.Second)
			}
		}, ""},
		{"failures now, good tries long ago", func(r *rig) {
			r.reports(1000, nil)
			r.pass(11 * time.Second)
			r.reports(5, errRefused)
		}, "5 of 5 tries failed"},
		{"a release cancels its tries", func(r *rig) {
			r.reports(1000, errors.Join(errors.New("commit"), context.Canceled))
		}, ""},
		{"cancellations do not water down failures", func(r *rig) {
			r.reports(1000, context.Canceled)
			r.reports(5, errRefused)
		}, "5 of 5 tries failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
				test.drive(r)
				synctest.Wait()
				if test.trips == "" {
					require.Empty(t, r.Changes(0))
					require.Equal(t, "closed", r.Status().Breaker)
					r.at(report.LevelNormal, true)
					return
				}
				require.Equal(t, "open", r.Status().Breaker)
				r.at(report.LevelPaused, false, test.trips, "there is no journal")
				c := r.last()
				require.NotEmpty(t, c.Numbers)
				require.Equal(t, "redis", c.Dependency)
				require.Equal(t, 1, r.lines(), "a change is logged once: %s", r.log.String())
			})
		})
	}
}

// Throughput says nothing about the dependency while lanes write to the journal.
func TestThroughputAtAnotherLevel(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(Storage{PendingCommits: 1})
		r.at(report.LevelJournal, true)
		var read int64
		fall := func(s int) (int64, int64) {
			if s < 25 {
				return 1000, 50
			}
			return 100, 50 + int64(s-24)*900
		}
		r.course(0, 40, &read, fall)
		r.at(report.LevelJournal, true)
		r.journal(Storage{})
		r.pass(2 * time.Second)
		r.at(report.LevelNormal, true)
		r.course(0, 17, &read, func(s int) (int64, int64) { return max(0, int64(1000-s*100)), int64(s) * 1000 })
		r.at(report.LevelNormal, true)
		r.course(0, 35, &read, fall)
		require.Equal(t, "open", r.Status().Breaker)
	})
}

// However unevenly it is sampled, throughput is what it is, and samples are few.
func TestThroughputIsMeasured(t *testing.T) {
	for _, every := range []time.Duration{20 * time.Millisecond, 700 * time.Millisecond, 1700 * time.Millisecond, 3300 * time.Millisecond} {
		inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
			began := time.Now()
			for time.Since(began) < 30*time.Second {
				r.pass(every)
				r.Progress(time.Since(began).Milliseconds(), 7)
			}
			require.InDelta(t, 1000, r.Status().Signals.Throughput, 1e-6)
			require.InDelta(t, 1000, r.Status().Signals.Before, 1e-6)
			require.InDelta(t, 1000, r.progress.rate(), 1e-6)
			require.Less(t, len(r.progress.samples), 100)
		})
	}
}

// A signal that has opened the breaker is spent.
func TestSignalOpensOnce(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.open()
		r.pass(65 * time.Second)
		r.reports(4, errRefused)
		r.at(report.LevelNormal, true)
	})
}

// Two signals at once, and failing tries meanwhile: it opens once, for one of them.
func TestSignalsAtOnce(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		for range 8 {
			go r.Assigned(time.Minute)
			go r.Report(errRefused)
		}
		synctest.Wait()
		require.Len(t, r.Changes(0), 1)
		r.at(report.LevelPaused, false)
	})
}
