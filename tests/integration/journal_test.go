package integration

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
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
	metrics := net.JoinHostPort("127.0.0.1", strconv.Itoa(rig.FreePort(w.T)))
	run := w.WorkerProgram("worker-wal")
	run.Args = append(run.Args, append([]string{"--wal", dir, "--breaker-open", "2s", "--metrics", metrics}, args...)...)
	return &journalWorker{rig.Spawn(w.T, run), metrics}
}

// sum adds up the samples of a metric.
func (j *journalWorker) sum(t *testing.T, name string) (total float64) {
	t.Helper()
	resp, err := http.Get("http://" + j.metrics + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok && strings.HasPrefix(rest, "{") {
			n, err := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
			require.NoError(t, err)
			total += n
		}
	}
	require.NoError(t, lines.Err())
	return total
}

// read is how many records the worker's lanes have taken in.
func (j *journalWorker) read(t *testing.T) float64 { return j.sum(t, "millrace_lane_records_total") }

// degraded is what the workflow of the pipeline's degradation tells once the level is normal again.
func (p *pipeline) degraded(worker string) (out contract.DegradeStatus) {
	p.T.Helper()
	id := contract.DegradeID(p.Spec.Name, worker, contract.DependencyRedis)
	rig.Eventually(p.T, "the degradation is over and its books are balanced", patience, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		answer, err := p.Client.QueryWorkflow(ctx, id, "", contract.QueryStatus)
		if err != nil {
			return false
		}
		out = contract.DegradeStatus{}
		require.NoError(p.T, answer.Get(&out))
		return out.State == contract.StateSettling && out.Proof != nil
	})
	return out
}

// Redis goes away in the middle of a steady feed. Commits go into the journal, intake does not stall, and when Redis is back
// everything is drained, which the Degrade workflow tells and proves.
func TestRedisAwayIsJournalled(t *testing.T) {
	t.Parallel()
	absence, pace := 15*time.Second, 45
	if rig.Long {
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
	for time.Since(gone) < absence {
		before := worker.read(t)
		rig.Eventually(t, "intake goes on without Redis", 10*time.Second, func() bool { return worker.read(t) > before })
	}
	require.True(t, feed.Going(), "the feed is over before Redis is back")
	rdb.Start()
	feed.Finish()
	p.Reach(total)
	require.Equal(t, owners, p.Owners(), "a lane has changed its owner")

	story := p.degraded(worker.Name)
	require.True(t, story.Proof.Balanced, "%+v", story.Proof)
	require.Positive(t, story.Proof.Spilled.Commits)
	require.Equal(t, story.Proof.Spilled, story.Proof.Drained)
	require.Equal(t, contract.LevelNormal, story.Timeline[0].From)
	require.Equal(t, contract.LevelJournal, story.Timeline[0].To)
	require.Equal(t, contract.LevelNormal, story.Timeline[len(story.Timeline)-1].To)
	t.Logf("%+v", story.Proof)
	for _, c := range story.Timeline {
		t.Logf("%s %s -> %s: %s", c.At.Format(time.TimeOnly), c.From, c.To, c.Reason)
	}
	p.Drain()
	p.RequireExact()
}
