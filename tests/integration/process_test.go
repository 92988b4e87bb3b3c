package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a child of the test. It ends with the test, also when the test process is killed.
type process struct {
	t    *testing.T
	name string
	log  string // file of what it prints
	cmd  *exec.Cmd
	done chan struct{}
}

var processes atomic.Int64

// spawn starts a program. What it prints is shown when the test fails.
func spawn(t *testing.T, name string, env []string, path string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, done: make(chan struct{}), log: filepath.Join(t.TempDir(), name+".log")}
	out, err := os.Create(p.log)
	require.NoError(t, err)
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A group of its own keeps a Ctrl-C at the terminal for the test process.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start())
	processes.Add(1)
	go func() {
		defer close(p.done)
		p.cmd.Wait() // how it ended is in its log
		out.Close()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() || os.Getenv("MILLRACE_TEST_LOG") != "" {
			t.Logf("the end of what %s (pid %d) said:\n%s", name, p.cmd.Process.Pid, p.tail(80))
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

// kill is kill -9; it returns when the process is gone.
func (p *process) kill() {
	p.cmd.Process.Kill() // gone already is fine
	<-p.done
}

// stop asks the process to end and returns its exit code.
func (p *process) stop() int {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		require.FailNow(p.t, p.name+" does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	require.NoError(p.t, err)
	return string(text)
}

// saidOf counts the lines that contain all of these texts.
func (p *process) saidOf(texts ...string) int {
	n := 0
next:
	for line := range strings.Lines(p.said()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		n++
	}
	return n
}

func (p *process) tail(lines int) []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	all := bytes.Split(text, []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, within time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			require.FailNow(t, "not within "+within.String()+": "+what)
		}
	}
}
