package retention

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
)

const hourMinutes = 60

// cost is what a part of a run took: this process and the redis-server, without Kafka.
type cost struct{ wall, process, redis time.Duration }

func (c cost) String() string {
	return fmt.Sprintf("%s, processor %s, Redis %s", c.wall.Round(10*time.Millisecond), c.process.Round(10*time.Millisecond),
		c.redis.Round(10*time.Millisecond))
}

// TestRollUpCost compares what an hour costs that is made of sixty minutes with what closing the minutes cost.
func TestRollUpCost(t *testing.T) {
	addrs, _ := brokers(t)
	w := newWorld(t, addrs, 2*time.Second, *keys, nil, `
rollups: [{name: hourly, from: minutely, calendar: hour, retention: 1h}]
`)
	_, err := w.cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: ledger.StatesTopic(w.spec.Name), Partitions: 4})
	require.NoError(t, err)
	c := w.closer(w.store, time.Now, 5000)
	var closing cost
	for at := range hourMinutes {
		w.foldMinute(at, *keys)
		w.closeDue(c, &closing)
	}
	w.foldMinute(hourMinutes+lateness, lanes)
	w.closeDue(c, &closing)

	var rolling cost
	var done result.Carried
	job := result.Job{ID: "hour", Kind: result.JobRollup, Body: fmt.Appendf(nil, `{"upper_bound":%d}`, base+hourMinutes*minute)}
	atOnce := func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	w.measure(&rolling, func() {
		require.NoError(t, c.CarryOut(w.ctx, job, atOnce, func(b result.Carried) { done = b }))
	})
	require.NotNil(t, done.Rollup)
	text, err := json.Marshal(done.Rollup)
	require.NoError(t, err)
	require.Len(t, done.Rollup.Families, 1, "%s", text)
	require.Equal(t, 1, done.Rollup.Families[0].Published, "%s", text)
	require.Equal(t, int64(*keys), done.Rollup.Families[0].Keys, "%s", text)
	t.Logf("%d keys: closing %d minutes %v", *keys, hourMinutes, closing)
	t.Logf("%d keys: rolling them up into an hour %v", *keys, rolling)
	t.Logf("rolling up ÷ closing: time %.2f, processor %.2f, Redis %.2f", float64(rolling.wall)/float64(closing.wall),
		float64(rolling.process)/float64(closing.process), float64(rolling.redis)/float64(closing.redis))
}

// foldMinute gives every lane its events of a minute, and commits them.
func (w *world) foldMinute(at, size int) {
	w.t.Helper()
	for _, l := range w.lanes {
		l.fold(at, size)
		require.NoError(w.t, l.save(w.ctx))
	}
}

// closeDue runs rounds until nothing is due.
func (w *world) closeDue(c *result.Closer, sum *cost) {
	w.t.Helper()
	for due := 1; due > 0; {
		w.measure(sum, func() {
			r, err := c.Round(w.ctx)
			require.NoError(w.t, err)
			require.Empty(w.t, r.Failed)
			due = r.Due
		})
		for _, l := range w.lanes {
			require.NoError(w.t, l.save(w.ctx)) // it drops what is final
		}
	}
}

// measure adds what some work takes.
func (w *world) measure(sum *cost, work func()) {
	w.t.Helper()
	began, process, redis := time.Now(), processTime(w.t), w.redisTime()
	work()
	sum.wall += time.Since(began)
	sum.process += processTime(w.t) - process
	sum.redis += w.redisTime() - redis
}

// processTime is the processor time of this process so far.
func processTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// redisTime is the processor time of the redis-server so far.
func (w *world) redisTime() (sum time.Duration) {
	w.t.Helper()
	text, err := w.redis.Info(w.ctx, "cpu").Result()
	require.NoError(w.t, err)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_sys" && name != "used_cpu_user" {
			continue
		}
		seconds, err := strconv.ParseFloat(value, 64)
		require.NoError(w.t, err)
		sum += time.Duration(seconds * float64(time.Second))
	}
	return sum
}
