package rig

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Program says what to run.
type Program struct {
	Name string
	Path string
	Args []string
	Env  []string // beside the test's own
	Dir  string   // working directory; "": the test's
	Log  string   // file for what it prints; "": one of the test's, whose end is shown when the test fails
}

// Process is a child of the test. It ends with the test, also when the test process is killed.
type Process struct {
	t    *testing.T
	Name string
	log  string // file of what it prints
	cmd  *exec.Cmd
	done chan struct{}
}

// Spawn starts a program.
func Spawn(t *testing.T, run Program) *Process {
	t.Helper()
	p := &Process{t: t, Name: run.Name, done: make(chan struct{}), log: run.Log}
	if p.log == "" {
		p.log = filepath.Join(t.TempDir(), run.Name+".log")
	}
	out, err := os.Create(p.log)
	require.NoError(t, err)
	p.cmd = exec.Command(run.Path, run.Args...)
	p.cmd.Env = append(os.Environ(), run.Env...)
	p.cmd.Dir = run.Dir
	p.cmd.Stdout, p.cmd.Stderr = out, out
	// A group of its own keeps a Ctrl-C at the terminal for the test process.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		p.cmd.Wait() // how it ended is in its log
		out.Close()
	}()
	t.Cleanup(func() {
		p.Kill()
		if run.Log == "" && (t.Failed() || os.Getenv("MILLRACE_TEST_LOG") != "") {
			t.Logf("the end of what %s (pid %d) said:\n%s", p.Name, p.Pid(), p.Tail(80))
		}
	})
	return p
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to a process that must still be there.
func (p *Process) Signal(s syscall.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

// Kill is kill -9; it returns when the process is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // gone already is fine
	<-p.done
}

// Stop asks the process to end and returns its exit code.
func (p *Process) Stop() int {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(Patience):
		require.FailNow(p.t, p.Name+" does not end")
	}
	return p.ExitCode()
}

// Ended tells whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ExitCode is that of a process that has ended; -1 when a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Said is everything the process has printed.
func (p *Process) Said() string {
	text, err := os.ReadFile(p.log)
	require.NoError(p.t, err)
	return string(text)
}

// SaidOf counts the lines that contain all of these texts.
func (p *Process) SaidOf(texts ...string) int {
	n := 0
next:
	for line := range strings.Lines(p.Said()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		n++
	}
	return n
}

// Tail is the end of what it printed.
func (p *Process) Tail(lines int) []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	all := bytes.Split(text, []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}

// pollEvery is how often a test looks whether what it waits for has come.
const pollEvery = 50 * time.Millisecond

// Eventually waits for a condition that other processes bring about.
func Eventually(t *testing.T, what string, within time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			require.FailNow(t, "not within "+within.String()+": "+what)
		}
	}
}
