package integration

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/long"
	"millrace/tests/rig"
)

// besideYAML is a pipeline under a constant load, whose windows are final soon.
const besideYAML = `
name: beside
source: {topics: [beside], format: json}
event: {key: [k], time: {field: t, unit: ms}}
aggregates:
  n:   {func: count}
  sum: {func: sum, field: v, type: int}
windows: [{name: tens, size: 10s}]
watermark: {out_of_orderness: 1s, idle_timeout: 0s}
results:     {kafka: {topic: beside.windows}}
late:        {kafka: {topic: beside.late}}
dead_letter: {kafka: {topic: beside.dead}}
lane: {commit_interval: 200ms}
`

const (
	besideRate  = 5000             // events a second
	besidePast  = 400 * besideRate // events that are there before, as if they had come at that rate
	besideKeys  = 5000
	besideParts = 4
	besideRun   = 45 * time.Second
	besideLimit = 1.2 // how much longer commits may take beside a replay
)

// How long the commits of a pipeline under a constant load take beside a replay of its past, against two runs without one. All
// in one worker, one after the other, so that the two without say how much the machine itself varies.
func TestCommitsBesideAReplay(t *testing.T) {
	if !long.Wanted {
		t.Skip("it measures, and takes three minutes on a machine that does nothing else; set MILLRACE_TEST_LONG")
	}
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(besideYAML, besideParts)
	program := w.WorkerProgram("worker-1")
	metrics := fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	program.Args = append(program.Args, "--metrics", metrics)
	worker := rig.Spawn(t, program)
	w.Ready(worker)
	p.Start()
	load := &constantLoad{p: p, at: time.Now().Add(-besidePast / besideRate * time.Second)}
	from := load.at.Truncate(10 * time.Second).Add(10 * time.Second)
	load.send(besidePast)
	rig.Eventually(t, "the past is counted", patience, func() bool { return p.Committed() >= besidePast })
	load.begin()
	defer load.end()

	commits := &commitLog{t: t, url: "http://" + metrics + "/metrics"}
	rest := func() { <-time.After(100 * time.Millisecond) }
	before := commits.watch(besideRun, rest)
	after := commits.watch(besideRun, rest)
	replays, records := 0, int64(0)
	beside := commits.watch(besideRun, func() {
		to := time.Now().Add(-time.Minute).Truncate(10 * time.Second)
		id := fmt.Sprintf("beside-%d", replays)
		out := p.Must("replay", p.Spec.Name, "--id", id, "--from", at(from), "--to", at(to), "--json").Out
		records += recordsOf(out)
		replays++
	})
	allowed := max(p99(before), p99(after)) * besideLimit
	t.Logf("%d events a second, %d keys, %d partitions; p99 of a commit's duration over %s each:", besideRate, besideKeys,
		besideParts, besideRun)
	t.Logf("A  without a replay   %8.2f ms of %d commits, median %.2f ms", p99(before), len(before), median(before))
	t.Logf("A' without a replay   %8.2f ms of %d commits, median %.2f ms", p99(after), len(after), median(after))
	t.Logf("B  beside %2d replays  %8.2f ms of %d commits, median %.2f ms; %d records read again", replays, p99(beside), len(beside),
		median(beside), records)
	t.Logf("A'/A %.2f, B/max(A, A') %.2f", p99(after)/p99(before), p99(beside)/max(p99(before), p99(after)))
	require.LessOrEqual(t, p99(beside), allowed)
	require.NotZero(t, replays)
}

var plannedRecords = regexp.MustCompile(`"records":(\d+)`)

func recordsOf(out string) int64 {
	found := plannedRecords.FindStringSubmatch(out)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseInt(found[1], 10, 64)
	return n
}

// constantLoad sends events at a constant rate.
type constantLoad struct {
	p    *pipeline
	at   time.Time // of the next event
	n    int
	stop context.CancelFunc
	done sync.WaitGroup
}

// send sends n events at once.
func (l *constantLoad) send(n int) {
	for range n {
		value := fmt.Appendf(nil, `{"k":"key-%d","t":%d,"v":%d}`, l.n*7919%besideKeys, l.at.UnixMilli(), l.n%1000)
		l.p.Raw.Produce(context.Background(), &kgo.Record{Topic: l.p.Topic(), Partition: int32(l.n % besideParts), Value: value}, nil)
		l.n++
		l.at = l.at.Add(time.Second / besideRate)
	}
}

func (l *constantLoad) begin() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				l.send(int(max(0, now.Sub(l.at)) * besideRate / time.Second))
			}
		}
	})
}

func (l *constantLoad) end() {
	l.stop()
	l.done.Wait()
}

// commitLog reads from a worker's metrics how long commits of lanes take, each about once.
type commitLog struct {
	t   *testing.T
	url string
}

var (
	commitCount    = regexp.MustCompile(`^millrace_lane_commits_total\{.*partition="(\d+)".*\} ([0-9.e+]+)$`)
	commitDuration = regexp.MustCompile(`^millrace_lane_commit_duration_seconds\{.*partition="(\d+)".*\} ([0-9.e+-]+)$`)
)

// watch collects durations, ms, for so long, and runs beside meanwhile, again and again.
func (c *commitLog) watch(d time.Duration, beside func()) (ms []float64) {
	over := time.Now().Add(d)
	enough, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- c.collect(enough, &ms) }()
	for time.Now().Before(over) {
		beside()
	}
	close(enough)
	require.NoError(c.t, <-done)
	require.NotEmpty(c.t, ms)
	slices.Sort(ms)
	return ms
}

// collect appends durations until enough is closed.
func (c *commitLog) collect(enough <-chan struct{}, ms *[]float64) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	seen := make(map[string]string)
	for {
		counts, durations, err := c.scrape()
		if err != nil {
			return err
		}
		for lane, count := range counts {
			if seen[lane] != "" && seen[lane] != count {
				took, err := strconv.ParseFloat(durations[lane], 64)
				if err != nil {
					return err
				}
				*ms = append(*ms, took*1000)
			}
			seen[lane] = count
		}
		select {
		case <-tick.C:
		case <-enough:
			return nil
		}
	}
}

func (c *commitLog) scrape() (counts, durations map[string]string, err error) {
	answer, err := http.Get(c.url)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	counts, durations = make(map[string]string), make(map[string]string)
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if found := commitCount.FindStringSubmatch(lines.Text()); found != nil {
			counts[found[1]] = found[2]
		}
		if found := commitDuration.FindStringSubmatch(lines.Text()); found != nil {
			durations[found[1]] = found[2]
		}
	}
	return counts, durations, lines.Err()
}

func p99(sorted []float64) float64    { return sorted[len(sorted)*99/100] }
func median(sorted []float64) float64 { return sorted[len(sorted)/2] }
