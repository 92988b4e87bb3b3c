package integration

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/tests/long"
	"millrace/tests/rig"
)

// overflow gives a pipeline a journal.
func overflow(s *spec.Spec) { s.Lane.Overflow = spec.OverflowJournal }

// journalWorker is a worker that has a WAL directory and shows what it does.
type journalWorker struct {
	*rig.Process
	metrics string
}

func (w *world) journalWorker(dir string, args ...string) *journalWorker {
	w.T.Helper()
	return w.observedWorker("worker-wal", append([]string{"--wal", dir, "--breaker-open", "2s"}, args...)...)
}

// observedWorker is a worker that shows what it does.
func (w *world) observedWorker(name string, args ...string) *journalWorker {
	w.T.Helper()
	metrics := net.JoinHostPort("127.0.0.1", strconv.Itoa(rig.FreePort(w.T)))
	run := w.WorkerProgram(name)
	run.Args = append(run.Args, append([]string{"--metrics", metrics}, args...)...)
	return &journalWorker{rig.Spawn(w.T, run), metrics}
}

// sum adds up the samples of a metric.
func (j *journalWorker) sum(t *testing.T, name string) (total float64) {
	t.Helper()
	for _, n := range j.samples(t, name) {
		total += n
	}
	return total
}

// samples are those of a metric, by their labels as written.
func (j *journalWorker) samples(t *testing.T, name string) map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	resp, err := http.Get("http://" + j.metrics + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok && strings.HasPrefix(rest, "{") {
			at := strings.LastIndex(rest, " ")
			n, err := strconv.ParseFloat(rest[at+1:], 64)
			require.NoError(t, err)
			all[rest[:at]] = n
		}
	}
	require.NoError(t, lines.Err())
	return all
}

// memory is what the worker's lanes hold, in bytes.
func (j *journalWorker) memory(t *testing.T) float64 {
	return j.sum(t, "millrace_replica_memory_bytes")
}

// read is how many records the worker's lanes have taken in.
func (j *journalWorker) read(t *testing.T) float64 { return j.sum(t, "millrace_lane_records_total") }

// degraded is what the workflow of the pipeline's degradation tells once the level is normal again.
func (p *pipeline) degraded(worker string) (out contract.DegradeStatus) {
	p.T.Helper()
	rig.Eventually(p.T, "the degradation is over and its books are balanced", patience, func() bool {
		out, _ = p.degradation(worker)
		return (out.State == contract.StateSettling || out.State == contract.StateDone) && out.Proof != nil
	})
	return out
}

// Redis goes away in the middle of a steady feed. Commits go into the journal, intake does not stall, and when Redis is back
// everything is drained, which the Degrade workflow tells and proves.
func TestRedisAwayIsJournalled(t *testing.T) {
	t.Parallel()
	absence, pace := 15*time.Second, 45
	if long.Wanted {
		absence, pace = time.Minute, 150
	}
	yaml, lines := rig.Flights(t, 40_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4, overflow)
	worker := w.journalWorker(t.TempDir())
	w.Ready(worker.Process)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/pace)
	p.Reach(total / 10)
	owners := p.Owners()

	rdb.Kill()
	gone := time.Now()
	calm, most := worker.memory(t), 0.0
	for time.Since(gone) < absence {
		before := worker.read(t)
		most = max(most, worker.memory(t))
		rig.Eventually(t, "intake goes on without Redis", 10*time.Second, func() bool { return worker.read(t) > before })
	}
	t.Logf("lanes held %.0f bytes when Redis went, %.0f at the most while it was away", calm, most)
	require.Less(t, most, worker.sum(t, "millrace_replica_memory_limit_bytes")/10, "windows stay open meanwhile, and nothing else may grow")
	require.True(t, feed.Going(), "the feed is over before Redis is back")
	rdb.Start()
	feed.Finish()
	p.Reach(total)
	require.Equal(t, owners, p.Owners(), "a lane has changed its owner")

	story := p.degraded(worker.Name)
	require.True(t, story.Proof.Balanced, "%+v", story.Proof)
	require.Positive(t, story.Proof.Spilled.Commits)
	require.Equal(t, story.Proof.Spilled, story.Proof.Drained)
	require.Equal(t, report.LevelNormal, story.Timeline[0].From)
	require.Equal(t, report.LevelJournal, story.Timeline[0].To)
	require.Equal(t, report.LevelNormal, story.Timeline[len(story.Timeline)-1].To)
	t.Logf("%+v", story.Proof)
	p.tell(story.Timeline)
	p.Drain()
	p.RequireExact()
}
