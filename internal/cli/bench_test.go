package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
	"millrace/internal/dev"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

func TestBenchLane(t *testing.T) {
	s, err := spec.Parse("bench.yaml", []byte(workloadHour.spec("bench")))
	require.NoError(t, err)
	allocs, ns, err := benchLane(s, hourly(100_000, 10_000, 1))
	require.NoError(t, err)
	require.Positive(t, ns)
	require.Less(t, allocs, 0.01)
}

// smallWorkloads are tumbling, hopping with and without a remainder, and few hot keys.
func smallWorkloads() []workload {
	small := workload{
		name: "small", records: 3000, keys: 40, partitions: 3, distribution: keysUniform, window: seconds(2), span: seconds(9),
	}
	hopping, uneven, hot := small, small, small
	hopping.slide = seconds(1)
	uneven.slide, uneven.window = durationFlag(1500*time.Millisecond), seconds(4)
	hot.distribution = keysZipf
	return []workload{small, hopping, uneven, hot}
}

// TestNamedWorkloads are valid, and so are their pipelines.
func TestNamedWorkloads(t *testing.T) {
	for _, w := range workloads {
		require.NoError(t, w.validate(), w.name)
		_, err := spec.Parse("bench.yaml", []byte(w.spec("bench")))
		require.NoError(t, err, w.name)
		require.Contains(t, workloadsHelp(), w.name)
	}
}

// TestBenchWindows compares the windows that the benchmark expects with those of the pipeline's plan.
func TestBenchWindows(t *testing.T) {
	for _, w := range smallWorkloads() {
		s, err := spec.Parse("bench.yaml", []byte(w.spec("bench")))
		require.NoError(t, err)
		plan, err := window.NewPlan(s)
		require.NoError(t, err)
		planned := make(map[int64]int64)
		gen := newBenchSource(w, 0)
		for e, _, ok := gen.draw(); ok; e, _, ok = gen.draw() {
			for _, ref := range plan.WindowsOf(plan.SliceStart(e.at)) {
				planned[ref.Start]++
			}
		}
		require.Equal(t, planned, w.expectedWindows())
	}
}

// TestBenchRecords are the same every time, never late, and end with a record in each partition that closes every window.
func TestBenchRecords(t *testing.T) {
	for _, w := range smallWorkloads() {
		var texts [2][]string
		for i := range texts {
			gen := newBenchSource(w, w.partitions)
			for {
				_, value, err := gen.next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				texts[i] = append(texts[i], string(value))
			}
		}
		require.Equal(t, texts[0], texts[1])
		require.Len(t, texts[0], int(w.records)+int(w.partitions))
		latest := make([]int64, w.partitions)
		lastEnd := int64(0)
		for i, text := range texts[0] {
			var record struct {
				At   int64
				User string
			}
			require.NoError(t, json.Unmarshal([]byte(text), &record))
			lane := i % int(w.partitions)
			if i >= int(w.records) {
				require.GreaterOrEqual(t, record.At-w.outOfOrderness(), lastEnd, "the watermark passes the last window")
				w.windowStarts(record.At, func(start int64) { require.NotContains(t, w.expectedWindows(), start) })
				continue
			}
			require.True(t, benchStart <= record.At && record.At < benchStart+w.covered())
			require.Greater(t, record.At, latest[lane]-w.outOfOrderness(), "late")
			latest[lane] = max(latest[lane], record.At)
			w.windowStarts(record.At, func(start int64) { lastEnd = max(lastEnd, start+w.size()) })
		}
	}
}

// TestBench measures small workloads on embedded servers, which are in this process, so that no CPU of servers is known.
func TestBench(t *testing.T) {
	srv := startKafka(t)
	redis, err := dev.StartRedis(t.Context(), dev.RedisConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, redis.Close()) })
	t.Setenv("CLI_TEST_"+connect.EnvRedisAddrs, redis.Addr())
	flags := []string{"bench", "--records", "3000", "--keys", "40", "--partitions", "3", "--span", "9s", "--window", "2s"}
	with := func(more ...string) []string { return append(append([]string{}, flags...), more...) }

	code, out, errs := millrace(t, with("--slide", "1s", "--keys-distribution", "zipf", "--json")...)
	require.Equal(t, ExitOK, code, errs)
	var m measured
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	require.Equal(t, []any{int64(3000), int64(40), int32(3), "zipf", int64(2000), int64(1000), int64(9000)},
		[]any{m.Records, m.Keys, m.Partitions, m.Distribution, m.Window, m.Slide, m.Span})
	require.Equal(t, 10, m.Windows)
	require.Positive(t, m.Rows)
	require.NotNil(t, m.Ratio)
	require.NotNil(t, m.LaneNsPerEvent)
	require.GreaterOrEqual(t, m.Published.Seconds, m.Committed.Seconds)
	require.Positive(t, m.Committed.CPU.Engine)
	require.Nil(t, m.Published.CPU.Redis)
	require.Nil(t, m.Published.CPU.Sum)
	require.Contains(t, out, `"kafka":null`)

	// A topic that is filled once and measured twice.
	code, out, errs = millrace(t, with("--topic", "filled", "--fill-only")...)
	require.Equal(t, ExitOK, code, errs)
	require.Equal(t, "topic filled holds the 3000 records of keys-100k and 3 that close its windows\n", out)
	code, _, errs = millrace(t, with("--topic", "filled", "--fill-only")...)
	require.Equal(t, ExitUsage, code)
	require.Contains(t, errs, "holds 1001 records; name a topic that is empty or does not exist")
	for range 2 {
		code, out, errs = millrace(t, with("--topic", "filled")...)
		require.Equal(t, ExitOK, code, errs)
		require.Contains(t, out, "published                5 windows, 200 rows")
		require.Contains(t, out, notKnown)
		require.NotContains(t, out, "bare")
	}
	ends, err := srv.cluster.Ends(t.Context(), source.TopicPartition{Topic: "filled"})
	require.NoError(t, err)
	require.Equal(t, int64(1001), ends[source.TopicPartition{Topic: "filled"}].HighWatermark)

	// Other records than the workload's.
	code, _, errs = millrace(t, with("--topic", "filled", "--records", "3300")...)
	require.Equal(t, ExitUsage, code)
	require.Contains(t, errs, "want 0 to 1101")
	code, _, errs = millrace(t, with("--topic", "filled", "--keys", "39")...)
	require.Equal(t, ExitFailed, code)
	require.Regexp(t, "result row .* no record of the workload|wrong result", errs)
	topics, err := srv.cluster.Topics(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"filled"}, withoutInternal(topics))
}

// withoutInternal leaves Kafka's own topics out.
func withoutInternal(topics []string) (own []string) {
	for _, name := range topics {
		if !strings.HasPrefix(name, "__") {
			own = append(own, name)
		}
	}
	return own
}

// TestBenchResults accepts the rows that the records give and nothing else.
func TestBenchResults(t *testing.T) {
	w := smallWorkloads()[0]
	row := func(r *benchResults, start int64, key int64, v benchValues) error {
		return r.add([]byte(fmt.Sprintf(`{"start":%q,"key":{"user":"user-%d"},"revision":1,"values":{"events":%d,"total":%d,"peak":%d}}`,
			instant(start), benchUser+key, v.Events, v.Total, v.Peak)))
	}
	for _, c := range []struct {
		name   string
		damage func(key int64, v *benchValues) (leaveOut bool)
		says   string
	}{
		{"right", func(int64, *benchValues) bool { return false }, ""},
		{"a row too few", func(key int64, _ *benchValues) bool { return key == 7 }, "user-1000000007: published {Events:0"},
		{"an event too many", func(key int64, v *benchValues) bool { v.Events += 1 - min(key, 1); return false }, "user-1000000000"},
		{"another sum", func(key int64, v *benchValues) bool { v.Total += 1 - min(key, 1); return false }, "user-1000000000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newBenchResults(w)
			for start, cells := range r.cells {
				for key := range cells {
					v := cells[key].want
					if !c.damage(int64(key), &v) {
						require.NoError(t, row(r, start, int64(key), v))
					}
				}
			}
			err := r.check()
			if c.says == "" {
				require.NoError(t, err)
				require.Equal(t, int64(5*40), r.rows)
				return
			}
			require.ErrorContains(t, err, c.says)
		})
	}
	r := newBenchResults(w)
	require.ErrorContains(t, row(r, benchStart, 40, benchValues{}), "no record of the workload")
	require.ErrorContains(t, row(r, benchStart-2000, 0, benchValues{}), "no record of the workload")
	require.NoError(t, row(r, benchStart, 1, benchValues{}))
	require.ErrorContains(t, row(r, benchStart, 1, benchValues{}), "revision 1 of the row was published before it")
}

// TestStartedServer reads pid files as tools/servers.sh writes them.
func TestStartedServer(t *testing.T) {
	began, err := exec.Command("bash", "-c",
		`echo "$(cut -c1-8 /proc/sys/kernel/random/boot_id)-$(sed 's/.*) //' "/proc/$PPID/stat" | cut -d' ' -f20)"`).Output()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "pid")
	for _, c := range []struct {
		name, text string
		addrs      []string
		want       bool
	}{
		{"this process", fmt.Sprintf("%d 6379 %s", os.Getpid(), began), []string{"127.0.0.1:6379"}, true},
		{"another server", fmt.Sprintf("%d 6379 %s", os.Getpid(), began), []string{"redis:6379"}, false},
		{"several servers", fmt.Sprintf("%d 6379 %s", os.Getpid(), began), []string{"127.0.0.1:6379", "127.0.0.1:6380"}, false},
		{"another process by now", fmt.Sprintf("%d 6379 0-0\n", os.Getpid()), []string{"127.0.0.1:6379"}, false},
		{"cut off", "12", []string{"127.0.0.1:6379"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			pid, ok := startedServer(path, c.addrs)
			require.Equal(t, c.want, ok)
			if ok {
				require.Equal(t, os.Getpid(), pid)
			}
		})
	}
}

// TestPhaseCost leaves out what is not known and everything that follows from it.
func TestPhaseCost(t *testing.T) {
	for _, c := range []struct {
		spent cpuTimes
		sum   float64 // 0: not known
	}{
		{cpuTimes{partEngine: 3000}, 0},
		{cpuTimes{partEngine: 3000, partRedis: 2000}, 0},
		{cpuTimes{partEngine: 3000, partRedis: 2000, partKafka: 4000}, 9},
		{cpuTimes{partEngine: 3000, partServers: 5000}, 8},
	} {
		cost := newPhaseCost(2*time.Second, c.spent, 1000)
		require.Equal(t, 3.0, cost.CPU.Engine)
		require.Equal(t, 500.0, cost.EventsPerSecond)
		if c.sum == 0 {
			require.Nil(t, cost.CPU.Sum)
		} else {
			require.InDelta(t, c.sum, *cost.CPU.Sum, 1e-9)
		}
	}
	require.Equal(t, cpuTimes{partEngine: 2}, cpuTimes{partEngine: 5, partRedis: 4}.since(cpuTimes{partEngine: 3}))
}
