package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"millrace/pipeline/store"
	"millrace/pipeline/verify"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

// finish heals everything, waits until all is read, and drains.
func (r *run) finish() {
	r.t.Helper()
	r.tend(true)
	r.until("everything is healed", func() bool {
		r.tend(true)
		for _, w := range r.workers {
			if !w.running() || w.process.SaidOf("polling Temporal") == 0 || !r.world.Polls(w.process.Name) {
				return false
			}
		}
		return len(r.active) == 0
	})
	r.say("all is healed")
	r.feed.Finish()
	require.Zero(r.t, r.pipeline.Reload(), "records that Kafka had acknowledged are gone; that is not Millrace's doing")
	r.out.Events = r.pipeline.Total()
	r.until("everything is read", func() bool { return r.pipeline.Committed() >= r.out.Events })
	r.say("all is read")
	if r.plan.Refused {
		r.closeUnderHeartbeats()
	}
	switch r.plan.Epilogue {
	case StoresGone:
		r.loseStores()
	case TopicAgain:
		r.makeTopicAgain()
	case LogTrimmed:
		r.trimLog()
	}
	// A lane may still move, and only then find that a part of its state is gone.
	r.pipeline.DrainWhile(func() { r.tend(false) }, "--timeout", rig.Patience.String())
	r.say("drained")
}

// judge compares everything with the oracle, to the last count.
func (r *run) judge() {
	r.t.Helper()
	o, err := oracle.ReadSpec(r.pipeline.YAML)
	require.NoError(r.t, err)
	o.Name = r.pipeline.Spec.Name
	want, err := oracle.Run(o, r.pipeline.Fed)
	require.NoError(r.t, err)
	var expected bytes.Buffer
	require.NoError(r.t, want.WriteJSON(&expected))
	latest, twice := r.pipeline.Published()
	if r.former != nil {
		latest = r.judgeFormer(latest)
	}
	actual := bytes.Join(latest, []byte("\n"))
	r.keep("expected.jsonl", expected.Bytes())
	r.keep("actual.jsonl", actual)
	require.NoError(r.t, r.out.count(expected.Bytes(), actual))
	r.out.Duplicated += int64(len(twice))
	require.Empty(r.t, twice, "revisions that stand twice")
	diff, err := oracle.Compare(&expected, bytes.NewReader(actual), oracle.Options{})
	require.NoError(r.t, err)
	require.True(r.t, diff.Equal(), "%s", diff)

	if r.former == nil {
		r.judgeLanes(want)
	}
	a := r.pipeline.CLI("verify", r.pipeline.Spec.Name, "--spec", r.pipeline.File, "--json")
	r.keep("verify.json", []byte(a.Out+a.Err))
	var v verify.Report
	require.NoError(r.t, json.Unmarshal([]byte(a.Out), &v), "millrace verify: exit code %d\n%s%s", a.Code, a.Out, a.Err)
	for _, problem := range v.Problems {
		// Entries of a window that was published before are read again when it changes, or by the lane's next owner.
		require.True(r.t, problem.Kind == verify.ProblemEntries && r.plan.Uses(RedisKeyLoss, RedisEvict), "%+v", problem)
	}
	if r.former == nil {
		require.Equal(r.t, r.out.Events, v.Totals.Read)
	}
}

// judgeLanes compares the lanes' counters, and what they set aside, with the oracle.
func (r *run) judgeLanes(want *oracle.Result) {
	r.t.Helper()
	for _, lane := range want.Lanes {
		m, found := r.pipeline.Meta(lane.Partition)
		require.True(r.t, found)
		c := lane.Counters
		require.Equal(r.t, store.Counters{
			Read: c.Read, Invalid: c.Invalid, Ahead: c.Ahead, Past: c.Past, Jumped: c.Jumped, Filtered: c.Filtered,
			Late: c.Late, Folded: c.Folded, Skipped: r.skipped[lane.Partition],
		}, m.Counters, "partition %d", lane.Partition)
	}
	r.pipeline.RequireSides(want.Late, want.Totals())
}

// keep writes a file beside the logs.
func (r *run) keep(name string, text []byte) {
	require.NoError(r.t, os.WriteFile(filepath.Join(r.logs, name), text, 0o644))
}

// settling is how long what is left of a stopped pipeline may take to end: a hot path that nobody was attached to learns of it
// by itself, and a breaker that was open stays for a minute.
const settling = 2 * time.Minute

// resting is for how long they must be gone: whoever watches a breaker looks every five seconds whether it is still there. slack is how
// many goroutines more than before come and go with connections.
const (
	resting = 6 * time.Second
	slack   = 20
)

// crashes are what a program prints that ends as it must not.
var crashes = []string{"panic:", "fatal error:", "SIGBUS", "SIGSEGV", "DATA RACE"}

// leave ends the workers and looks for what is left of them. The last one is told to say what its goroutines do: none may
// be in the hot path or in a closer any more.
func (r *run) leave() {
	r.t.Helper()
	counts, since := make([]int, len(r.workers)), time.Now()
	defer func() {
		if r.t.Failed() {
			r.accuse()
		}
	}()
	rig.Eventually(r.t, "no worker has lanes or closers, and their goroutines have ended", settling, func() bool {
		for n, w := range r.workers {
			v, ok := w.look()
			if counts[n] = v.goroutines; ok && counts[n] > w.base+slack {
				counts[n], ok = w.countGoroutines()
			}
			if !ok || len(v.lanes)+v.guards > 0 || counts[n] > w.base+slack {
				since = time.Now()
			}
		}
		return time.Since(since) > resting
	})
	for n, w := range r.workers {
		r.say("%s has %d goroutines, had %d without a pipeline", w.name, counts[n], w.base)
	}
	last := r.workers[len(r.workers)-1]
	last.signal(syscall.SIGQUIT)
	rig.Eventually(r.t, last.name+" is gone", rig.Patience, last.process.Ended)
	require.Positive(r.t, last.process.SaidOf("SIGQUIT: quit"))
	left := last.process.SaidOf("millrace/pipeline/") - last.process.SaidOf("millrace/pipeline/", "level=")
	// The write-ahead log is the process's, not the pipeline's, and so are its signs of life in Redis. Their files stand in the
	// traces too when paths are trimmed. What a lane or a closer does in Redis has frames of its own.
	for _, shared := range []string{"wal.", "wal/", "store.", "store/"} {
		left -= last.process.SaidOf("millrace/pipeline/" + shared)
	}
	require.Zero(r.t, left, "goroutines of a pipeline that has stopped:\n%s", last.process.Tail(1000))
	for _, w := range r.workers[:len(r.workers)-1] {
		require.Zero(r.t, w.process.Stop(), "%s was told to end:\n%s", w.name, w.process.Tail(30))
	}
	logs, err := filepath.Glob(filepath.Join(r.logs, "worker-*.log"))
	require.NoError(r.t, err)
	for _, name := range logs {
		text, err := os.ReadFile(name)
		require.NoError(r.t, err)
		for _, crash := range crashes {
			require.NotContains(r.t, string(text), crash, "%s", name)
		}
	}
	for _, w := range r.workers {
		for _, dir := range w.dirs {
			files, err := os.ReadDir(dir)
			require.NoError(r.t, err)
			require.Empty(r.t, files, "%s has left files behind", w.name)
		}
	}
	require.Empty(r.t, r.processes(), "processes are left")
	r.say("nothing is left")
}

// accuse says what every worker still has, and lets it say in its log what its goroutines do.
func (r *run) accuse() {
	for _, w := range r.workers {
		if v, ok := w.look(); ok {
			r.say("%s has %d goroutines, %d lanes and %d breakers, had %d goroutines without a pipeline", w.name, v.goroutines,
				len(v.lanes), v.guards, w.base)
			w.signal(syscall.SIGQUIT)
			rig.Eventually(r.t, w.name+" has said it", rig.Patience, w.process.Ended)
		}
	}
	open, err := r.world.Client.ListOpenWorkflow(context.Background(), &workflowservice.ListOpenWorkflowExecutionsRequest{})
	for _, e := range open.GetExecutions() {
		r.say("open: %s", e.GetExecution().GetWorkflowId())
	}
	if err != nil {
		r.say("open workflows cannot be listed: %v", err)
	}
}

// processes lists the processes of this seed's workers, and those they have started.
func (r *run) processes() []string {
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(r.t, err)
	var found []string
	for _, name := range environs {
		env, err := os.ReadFile(name)
		if err != nil { // gone, or somebody else's
			continue
		}
		if slices.Contains(strings.Split(string(env), "\x00"), mark+"="+r.dir) {
			found = append(found, name)
		}
	}
	return found
}
