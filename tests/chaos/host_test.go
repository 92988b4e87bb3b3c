package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// hostState is what a schedule has done to a worker.
type hostState int

const (
	up hostState = iota
	frozen
	leaving // told to end
	down
)

// worker is a worker process and its successors. It is kept running, as a service manager would, unless a fault says
// otherwise.
type worker struct {
	run     *run
	n       int
	name    string
	older   bool       // the next process is one of the older release
	link    *rig.Proxy // to Redis
	wal     string     // directory, "" without
	walArgs []string
	clock   *rig.Clock // nil: the machine's
	state   hostState
	process *rig.Process
	started time.Time
	metrics string // host:port
	lives   int
	dirs    []string // what the process takes for its working and temporary directory; must stay empty
	base    int      // goroutines of a worker without a pipeline
}

// cannotStart is what a worker says that ends because it cannot reach a server when it starts.
const cannotStart = "worker: cannot use"

// restartPause is how long a service manager waits before it starts a program again that has ended.
const restartPause = 500 * time.Millisecond

// start starts the process.
func (w *worker) start() {
	w.lives++
	w.metrics = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(w.run.t))
	life := fmt.Sprintf("%s.%d", w.name, w.lives) // Temporal must not take it for its predecessor
	program := w.run.world.WorkerProgram(life)
	program.Log = filepath.Join(w.run.logs, life+".log")
	program.Dir = filepath.Join(w.run.dir, life)
	require.NoError(w.run.t, os.MkdirAll(program.Dir, 0o755))
	w.dirs = append(w.dirs, program.Dir)
	if w.older {
		program.Path = filepath.Join(*flagOlder, "worker")
	}
	program.Args = append(program.Args, "--metrics", w.metrics)
	if w.wal != "" {
		program.Args = append(program.Args, "--wal", w.wal, "--breaker-open", "3s")
		program.Args = append(program.Args, w.walArgs...)
	}
	program.Env = append(program.Env, "MILLRACE_REDIS_ADDRS="+w.link.Addr, "TMPDIR="+program.Dir, mark+"="+w.run.dir)
	if w.clock != nil {
		w.clock.Drive(w.run.t, &program)
	}
	w.process = rig.Spawn(w.run.t, program)
	w.started = time.Now()
	w.state = up
}

// mark is a variable by which processes of a seed are found.
const mark = "MILLRACE_CHAOS_SEED_DIR"

// tend starts a worker again that has ended because it could not reach a server when it started. Any other end that no
// fault asked for is a crash.
func (w *worker) tend() {
	if w.state != up || !w.process.Ended() {
		return
	}
	require.Positive(w.run.t, w.process.SaidOf(cannotStart), "%s has ended by itself, exit code %d:\n%s",
		w.name, w.process.ExitCode(), w.process.Tail(30))
	if time.Since(w.started) > restartPause {
		w.run.say("%s could not start: %s", w.name, strings.TrimSpace(string(w.process.Tail(2))))
		w.start()
	}
}

// running tells whether the worker does its work.
func (w *worker) running() bool { return w.state == up && !w.process.Ended() }

func (w *worker) signal(s syscall.Signal) { syscall.Kill(w.process.Pid(), s) } // gone already is fine

// view is what a worker says about itself.
type view struct {
	goroutines int
	lanes      map[int]bool // partitions it owns
	guards     int          // state machines for dependencies
	clock      time.Time
}

var laneState = regexp.MustCompile(`^millrace_lane_state(?:_ratio)?\{.*partition="(\d+)".*state="(running|blocked|paused)".*\} 1$`)

// get asks the worker for what it says under a path; ok is false when it does not answer.
func (w *worker) get(path string) (resp *http.Response, ok bool) {
	client := http.Client{Timeout: time.Second}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+w.metrics+path, nil)
	require.NoError(w.run.t, err)
	resp, err = client.Do(req)
	return resp, err == nil
}

// countGoroutines counts the worker's goroutines but those of workflows: one whose end another worker has seen stays in the
// SDK's cache. ok is false when the worker does not answer.
func (w *worker) countGoroutines() (n int, ok bool) {
	resp, ok := w.get("/debug/pprof/goroutine?debug=1")
	if !ok {
		return 0, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, false
	}
	for group := range strings.SplitSeq(string(text), "\n\n") {
		if m := goroutineGroup.FindStringSubmatch(group); m != nil && !strings.Contains(group, "sdk/internal.(*coroutineState)") {
			alike, _ := strconv.Atoi(m[1])
			n += alike
		}
	}
	return n, true
}

// goroutineGroup is the line that begins what a profile says of goroutines with one stack.
var goroutineGroup = regexp.MustCompile(`(?m)^(\d+) @`)

// look asks the worker; ok is false when it does not answer.
func (w *worker) look() (v view, ok bool) {
	resp, ok := w.get("/metrics")
	if !ok {
		return v, false
	}
	defer resp.Body.Close()
	v.lanes = make(map[int]bool)
	v.clock, _ = http.ParseTime(resp.Header.Get("Date"))
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if n, is := strings.CutPrefix(lines.Text(), "go_goroutines "); is {
			v.goroutines, _ = strconv.Atoi(n)
		}
		if strings.HasPrefix(lines.Text(), "millrace_dependency_level") {
			v.guards++
		}
		if m := laneState.FindStringSubmatch(lines.Text()); m != nil {
			n, _ := strconv.Atoi(m[1])
			v.lanes[n] = true
		}
	}
	return v, lines.Err() == nil
}
