package stuck

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkpb "go.temporal.io/api/sdk/v1"

	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// patience bounds the wait for a state to come about, or to be over.
const patience = 2 * time.Minute

// lookEvery is how often status is asked.
const lookEvery = 400 * time.Millisecond

// minutes counts events by key in windows of a minute.
const minutes = `
name: stuck
source: {topics: [stuck], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
aggregates:
  n: {func: count}
  v: {func: sum, field: v, type: int}
windows:
  - {name: minute, size: 1m}
watermark: {out_of_orderness: 0s}
allowed_lateness: 1m
results:     {kafka: {topic: stuck.results}}
late:        {kafka: {topic: stuck.late}}
dead_letter: {kafka: {topic: stuck.dead}}
lane: {commit_interval: 200ms}
`

// partitions of every source topic.
const partitions = 2

// noon is when events begin, in ms.
const noon = int64(1_699_963_200_000)

// events makes one event a second from one second after noon to another, the second excluded.
func events(from, to int) [][]byte {
	var lines [][]byte
	for s := from; s < to; s++ {
		lines = append(lines, fmt.Appendf(nil, `{"k":"k%d","t":%d,"v":%d}`, s%7, noon+int64(s)*1000, s))
	}
	return lines
}

// setup says what a scene is made of.
type setup struct {
	ownKafka    bool
	ownTemporal bool     // Temporal behind a link of its own
	cutOff      bool     // the workers are behind a link of their own to Temporal, and the commands are not
	disk        string   // size of a file system of its own for the WAL, as of mount; "": none
	worker      []string // more arguments
	change      func(*spec.Spec)
	parts       int32 // 0: partitions; -1: no source topic
}

// overflow gives a pipeline a journal.
func overflow(s *spec.Spec) { s.Lane.Overflow = spec.OverflowJournal }

// scene is one pipeline with a Redis of its own and links that can be cut.
type scene struct {
	*rig.Pipeline
	t        *testing.T
	rdb      *rig.Redis
	redis    *rig.Proxy // between the workers and Redis; the commands go to it directly
	temporal *rig.Proxy // between everything or the workers and Temporal, where the scene asked for it
	kafka    *rig.Broker
	worker   *worker
	wal      string   // directory of the worker's WAL
	extra    []string // flags of status and verify
	fed      int      // seconds of events so far
	spare    *worker  // that cannot run the pipeline, where a scenario wanted one
	keys     int      // long keys so far
	behind   int      // seconds of events so far of the partition that a scenario has left behind
}

// worker is a process that shows what it does.
type worker struct {
	*rig.Process
	metrics string
}

func newScene(t *testing.T, set setup) *scene {
	t.Helper()
	s := &scene{t: t, rdb: rig.StartRedis(t), wal: t.TempDir()}
	if set.disk != "" {
		s.mount(set.disk)
	}
	own := rig.Servers{Redis: s.rdb.Addr}
	if set.ownKafka {
		s.kafka = rig.OwnBroker(t)
		own.Kafka = s.kafka.Addr
	}
	if set.ownTemporal || set.cutOff {
		s.temporal = rig.StartProxy(t, rig.TemporalAddr(t))
	}
	if set.ownTemporal {
		own.Temporal = s.temporal.Addr
	}
	s.redis = rig.StartProxy(t, s.rdb.Addr)
	parts := set.parts
	switch parts {
	case 0:
		parts = partitions
	case -1:
		parts = 0
	}
	change := []func(*spec.Spec){}
	if set.change != nil {
		change = append(change, set.change)
	}
	s.Pipeline = rig.NewWorld(t, own).Pipeline(minutes, parts, change...)
	s.worker = s.startWorker("worker-1", set.worker...)
	s.Ready(s.worker.Process)
	return s
}

// startWorker starts a worker behind the scene's link to Redis.
func (s *scene) startWorker(name string, args ...string) *worker {
	s.t.Helper()
	metrics := net.JoinHostPort("127.0.0.1", strconv.Itoa(rig.FreePort(s.t)))
	run := s.WorkerProgram(name)
	run.Args = append(run.Args, "--metrics", metrics)
	for _, arg := range args {
		run.Args = append(run.Args, strings.Replace(arg, walDir, s.wal, 1))
	}
	run.Env = append(run.Env, "MILLRACE_REDIS_ADDRS="+s.redis.Addr)
	if s.temporal != nil {
		run.Env = append(run.Env, "TEMPORAL_ADDRESS="+s.temporal.Addr)
	}
	return &worker{rig.Spawn(s.t, run), metrics}
}

// flow starts the pipeline, if it is not running, and waits until it is well and has closed a window.
func (s *scene) flow() {
	s.t.Helper()
	if a := s.CLI("start", s.File); a.Code != 0 {
		require.Contains(s.t, a.Err, "is running already")
	}
	before := max(s.Committed(), 0)
	s.feed(180)
	s.Reach(before + 180*int64(s.Parts))
	s.well()
}

// feed sends the events of the next seconds of event time to every partition.
func (s *scene) feed(seconds int) {
	s.t.Helper()
	for n := range s.Parts {
		s.Send(n, events(s.fed, s.fed+seconds)...)
	}
	s.fed += seconds
}

// check is `millrace status NAME --check --json`.
func (s *scene) check() (standing contract.Standing, code int) {
	s.t.Helper()
	a := s.CLI(append([]string{"status", s.Spec.Name, "--check", "--json"}, s.extra...)...)
	if a.Out == "" {
		return contract.Standing{Line: a.Err}, a.Code
	}
	require.NoError(s.t, json.Unmarshal([]byte(a.Out), &standing), "%s", a.Out)
	return standing, a.Code
}

// awaits looks at status until cond holds.
func (s *scene) awaits(what string, cond func(contract.Standing, int) bool) (last contract.Standing) {
	s.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		standing, code := s.check()
		if cond(standing, code) {
			return standing
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			require.FailNow(s.t, "status does not come to: "+what,
				"it says, with exit code %d: %s\n%+v", code, standing.Line, standing.Conditions)
		}
	}
}

// well waits until status calls a pipeline that runs healthy, and nothing is left of a state.
func (s *scene) well() {
	s.t.Helper()
	s.awaits("running, healthy", func(now contract.Standing, code int) bool {
		return code == 0 && strings.HasPrefix(now.Line, contract.StateRunning)
	})
}

// caughtUp waits until every lane has committed its log to the end.
func (s *scene) caughtUp() {
	s.t.Helper()
	rig.Eventually(s.t, "every lane has committed its log to the end", patience, func() bool {
		for n := range s.Parts {
			m, found := s.Meta(n)
			if !found || m.Offset < s.logEnd(n) {
				return false
			}
		}
		return true
	})
}

// exact wants that events flow again, and that verify finds nothing wrong with what was published.
func (s *scene) exact() {
	s.t.Helper()
	s.feed(180)
	s.caughtUp()
	var last rig.Answer
	defer func() {
		if s.t.Failed() {
			s.t.Logf("verify says, with exit code %d:\n%s%s", last.Code, last.Out, last.Err)
		}
	}()
	rig.Eventually(s.t, "verify finds nothing wrong", patience, func() bool {
		last = s.CLI("verify", s.Spec.Name, "--spec", s.File)
		return last.Code == 0
	})
}

// logEnd is the offset at which a partition of the source topic ends; beyond all offsets while it cannot be read.
func (s *scene) logEnd(partition int32) int64 {
	tp := source.TopicPartition{Topic: s.Topic(), Partition: partition}
	ends, err := s.Cluster.Ends(context.Background(), tp)
	if err != nil {
		return math.MaxInt64
	}
	return ends[tp].End
}

// ends waits until status says that the pipeline has come to an end that an operator wanted.
func (s *scene) ends(line string) {
	s.t.Helper()
	s.awaits(line, func(now contract.Standing, _ int) bool { return strings.HasPrefix(now.Line, line) })
}

// lineOf matches the first line of a state, whatever stands for its placeholders. Where there is no reason, what holds it is left out.
func lineOf(state contract.StuckState) *regexp.Regexp {
	line := regexp.QuoteMeta(state.Line)
	line = strings.NewReplacer(`: \{reason\}`, "(: .*)?", ` \(\{reason\}\)`, `( \(.*\))?`, `\(\{reason\}\) `, `(\(.*\) )?`).Replace(line)
	return regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(line, ".*"))
}

func has(conditions []contract.Condition, kind string) bool {
	return slices.ContainsFunc(conditions, func(c contract.Condition) bool { return c.Kind == kind })
}

// page is what the workflow of the pipeline says in Temporal's UI.
func (s *scene) page() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := s.Client.QueryWorkflow(ctx, contract.PipelineID(s.Spec.Name), "", "__temporal_workflow_metadata")
	if err != nil {
		return err.Error()
	}
	var about sdkpb.WorkflowMetadata
	if err := answer.Get(&about); err != nil {
		return err.Error()
	}
	return about.GetCurrentDetails()
}

// get asks a worker's metrics server; code is 0 when it does not answer.
func (w *worker) get(path string) (code int, text string) {
	client := &http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get("http://" + w.metrics + path)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

// counts is the metric millrace_conditions of a kind.
func (w *worker) counts(kind string) float64 { return w.sum("millrace_conditions", `kind="`+kind+`"`) }

// sum adds up the samples of a metric that have these labels.
func (w *worker) sum(metric string, labels ...string) (n float64) {
	_, text := w.get("/metrics")
	for line := range strings.Lines(text) {
		of := strings.HasPrefix(line, metric+"{")
		for _, label := range labels {
			of = of && strings.Contains(line, label)
		}
		if of {
			at := strings.LastIndex(strings.TrimSpace(line), " ")
			one, _ := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
			n += one
		}
	}
	return n
}
