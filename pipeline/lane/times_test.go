package lane

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

func TestTimesAreBooked(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(4, 4)), 2000))
	st, redis := testStore(t)
	l := start(t, log, st, redis)
	l.wait(t, "all committed", func(s Status) bool { return s.Committed == 2000 })
	times := l.Status().Times
	for _, s := range []stage.Stage{stage.Acquire, stage.Fetch, stage.Decode, stage.Fold, stage.Encode} {
		require.Positive(t, times.Lane.Total[s], "the lane's time for %s", s)
	}
	require.Positive(t, times.Committer.Total[stage.Redis])
	require.Positive(t, times.Committer.Total[stage.Idle])
	redis.SetError("LOADING")
	log.mu.Lock()
	log.records = append(log.records, randomLog(rand.New(rand.NewPCG(5, 5)), 10)...)
	log.mu.Unlock()
	before := times.Committer.Total[stage.Pause]
	eventually(t, "the committer waits between tries", func() bool { return l.Status().Times.Committer.Total[stage.Pause] > before })
	redis.SetError("")
	require.NoError(t, l.stop(t))
}

// BenchmarkBooking folds batches with and without booking where the time goes, in turns, so that a noisy machine slows both alike.
// It reports what booking costs, in per cent.
func BenchmarkBooking(b *testing.B) {
	const whole, turn = 100_000, 2_000 // records
	for _, size := range []int{20, 200, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			log := foldtest.BenchLog(whole, 10_000)
			state := fold.NewState(mustProgram(b), testLane, "id", 0, store.Cursor{})
			r := &loop{Lane: &Lane{Holder: &Holder{state: state}, times: newTimes()}}
			var took [2]time.Duration
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			at, offset := 0, int64(0)
			foldTurn := func(booked int) {
				began := threadTime(b)
				for k := at; k < at+turn; k += size {
					records := log.Records[k : k+size]
					for i := range records {
						records[i].Offset = offset
						offset++
					}
					batch := &source.Batch{Records: records, Next: offset}
					if booked == 1 {
						r.times.lane.Enter(stage.Fetch)
						r.foldBooked(batch)
					} else {
						r.state.Fold(batch)
					}
				}
				took[booked] += threadTime(b) - began
			}
			for n := 0; b.Loop(); n++ {
				foldTurn(n % 2)
				foldTurn(1 - n%2)
				at = (at + turn) % whole
			}
			b.ReportMetric(100*(took[1].Seconds()/took[0].Seconds()-1), "%-dearer")
			b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N*turn), "ns/event")
		})
	}
}

// threadTime is the processor time of this thread: what others do on the machine is not in it.
func threadTime(tb testing.TB) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
