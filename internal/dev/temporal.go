package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"millrace/internal/contract"
)

const (
	defaultNamespace     = "default"
	defaultRetentionDays = 30
	loopback             = "127.0.0.1"

	temporalStartTimeout = 90 * time.Second // the first start creates the database; slow disks take a while
	temporalStopTimeout  = 10 * time.Second
	temporalLockTimeout  = 15 * time.Second // a server whose parent was killed is still writing its last state
	temporalStartTries   = 3
)

// TemporalConfig says how Temporal's development server runs. The zero value is a server on free ports with the
// namespace "default" that forgets everything at Close.
type TemporalConfig struct {
	// Binary is the `temporal` executable. Empty looks for one and, as a last resort, builds it: see FindTemporal.
	Binary string
	// DataDir keeps the database and the server's log over a restart. Empty means a temporary directory.
	DataDir string
	// Port is the gRPC port at 127.0.0.1 and UIPort the one of the web UI; 0 takes a free one.
	Port, UIPort int
	// Namespace is created when missing; empty means "default".
	Namespace string
	// RetentionDays is how long closed workflows stay visible; 0 means 30.
	RetentionDays int
	// Log receives what the server prints; nil writes to temporal.log in DataDir.
	Log io.Writer
	// Notice receives single lines for the person who waits, such as that a build takes minutes. May be nil.
	Notice func(line string)
}

func (c TemporalConfig) withDefaults() TemporalConfig {
	if c.Namespace == "" {
		c.Namespace = defaultNamespace
	}
	if c.RetentionDays == 0 {
		c.RetentionDays = defaultRetentionDays
	}
	if c.Notice == nil {
		c.Notice = func(string) {}
	}
	return c
}

// Temporal is a running development server, a child of this process. It ends with this process, also when that is killed.
// Its methods may be called from any goroutine.
type Temporal struct {
	addr, uiURL, namespace string

	child   *child
	logFile *os.File // nil when the caller takes the log
	tempDir string   // removed at Close; empty when the caller keeps the data
	once    sync.Once
	err     error
}

// StartTemporal starts the server and returns when it answers for the namespace. ctx bounds finding or building the
// binary and the start; the server runs until Close.
func StartTemporal(ctx context.Context, cfg TemporalConfig) (*Temporal, error) {
	cfg = cfg.withDefaults()
	binary, err := FindTemporal(ctx, cfg.Binary, cfg.Notice)
	if err != nil {
		return nil, fmt.Errorf("start Temporal: %w", err)
	}
	t, err := startTemporal(ctx, cfg, binary)
	if err != nil {
		return nil, fmt.Errorf("start Temporal: %w", err)
	}
	return t, nil
}

func startTemporal(ctx context.Context, cfg TemporalConfig, binary string) (_ *Temporal, err error) {
	t := &Temporal{namespace: cfg.Namespace}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	dir := cfg.DataDir
	if dir == "" {
		if t.tempDir, err = os.MkdirTemp("", "millrace-temporal-"); err != nil {
			return nil, err
		}
		dir = t.tempDir
	}
	// The lock's file stays open in the child: the directory is in use for as long as the server lives, whatever
	// became of us.
	lock, err := lockFile(ctx, dir, temporalLockTimeout)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	out := cfg.Log
	if out == nil {
		name := filepath.Join(dir, "temporal.log")
		if t.logFile, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		out = t.logFile
	}
	ctx, cancel := context.WithTimeout(ctx, temporalStartTimeout)
	defer cancel()
	tail := &tailWriter{}
	for try := 1; ; try++ {
		err := t.spawn(ctx, cfg, binary, dir, lock, io.MultiWriter(out, tail))
		if err == nil {
			return t, nil
		}
		// Between looking for a free port and the server's taking it, somebody else may have taken it.
		if try == temporalStartTries || ctx.Err() != nil || (cfg.Port != 0 && cfg.UIPort != 0) {
			return nil, fmt.Errorf("%w; it said: %s", err, tail)
		}
	}
}

// spawn starts one server process and waits until it is ready.
func (t *Temporal) spawn(ctx context.Context, cfg TemporalConfig, binary, dir string, lock *os.File, out io.Writer) error {
	ports, err := choosePorts(ctx, cfg.Port, cfg.UIPort)
	if err != nil {
		return err
	}
	t.addr = net.JoinHostPort(loopback, strconv.Itoa(ports[0]))
	t.uiURL = "http://" + net.JoinHostPort(loopback, strconv.Itoa(ports[1]))
	cmd := exec.Command(binary, "server", "start-dev",
		"--ip", loopback, "--port", strconv.Itoa(ports[0]), "--ui-port", strconv.Itoa(ports[1]),
		"--namespace", cfg.Namespace, "--db-filename", filepath.Join(dir, "temporal.db"),
		"--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=1",
		"--log-level", "warn")
	for _, attribute := range contract.SearchAttributes() {
		cmd.Args = append(cmd.Args, "--search-attribute", attribute[0]+"="+attribute[1])
	}
	cmd.Env = temporalEnv(os.Environ())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	cmd.ExtraFiles = []*os.File{lock}
	if t.child, err = startChild(cmd); err != nil {
		return err
	}
	if err := t.awaitReady(ctx, cfg); err != nil {
		err = errors.Join(err, t.child.stop(temporalStopTimeout))
		t.child = nil
		return err
	}
	return nil
}

// Addr is the server's gRPC address, host:port.
func (t *Temporal) Addr() string { return t.addr }

// Namespace is the namespace that was asked for.
func (t *Temporal) Namespace() string { return t.namespace }

// UIURL is the address of the web UI.
func (t *Temporal) UIURL() string { return t.uiURL }

// Pid is the server's process id.
func (t *Temporal) Pid() int { return t.child.cmd.Process.Pid }

// Done is closed when the server has ended, by Close or by itself.
func (t *Temporal) Done() <-chan struct{} { return t.child.done }

// Kill ends the server at once, as a crash would, and returns when it is gone. What it had acknowledged is kept in the
// data directory. Close is still to be called.
func (t *Temporal) Kill() error {
	if err := t.child.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill Temporal: %w", err)
	}
	<-t.child.done
	return nil
}

// Close asks the server to stop, waits up to ten seconds and kills it then. Calling it again returns the first answer.
func (t *Temporal) Close() error {
	t.once.Do(func() {
		if t.child != nil {
			t.err = t.child.stop(temporalStopTimeout)
		}
		if t.logFile != nil {
			t.err = errors.Join(t.err, t.logFile.Close())
		}
		if t.tempDir != "" {
			t.err = errors.Join(t.err, os.RemoveAll(t.tempDir))
		}
	})
	return t.err
}
