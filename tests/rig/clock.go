package rig

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clockEnv names the file by which the wall clock of a worker of ClockedWorker is set.
const clockEnv = "MILLRACE_TEST_CLOCK"

// reading is where time.Now has read the clock, and stepped what follows it there in a program with a clock of its own.
const (
	reading = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	stepped = reading + "\tsec += wallStep()\n"
)

// step.go joins package time of such a program: seconds by which the wall clock is wrong, from a file in shared memory. The
// monotonic clock goes on, as it does when the clock of a machine is set.
const step = `package time

import (
	"sync/atomic"
	"syscall"
	"unsafe"
)

var wallStepAt *int64

func init() {
	name, ok := syscall.Getenv("` + clockEnv + `")
	if !ok {
		return
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("` + clockEnv + `: " + err.Error())
	}
	mem, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + clockEnv + `: " + err.Error())
	}
	wallStepAt = (*int64)(unsafe.Pointer(&mem[0]))
}

func wallStep() int64 {
	if wallStepAt == nil {
		return 0
	}
	return atomic.LoadInt64(wallStepAt)
}
`

// ClockedWorker builds the worker with a wall clock of its own, once, and returns its path: the same code, with another reading of the
// clock in package time.
var ClockedWorker = sync.OnceValues(func() (string, error) {
	fmt.Println("building a worker whose clock can be set, once; this takes a minute or two")
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", err
	}
	changed := bytes.Replace(text, []byte(reading), []byte(stepped), 1)
	if bytes.Equal(changed, text) {
		return "", errors.New("this version of Go reads the clock in another way than tests/rig/clock.go knows")
	}
	dir := filepath.Join(shared.dir, "clocked")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	files := map[string][]byte{"time.go": changed, "zstep.go": []byte(step)}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(source, name)] = path
	}
	plan, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), plan, 0o644); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "worker")
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", "-s -w", "-o", path, "./worker")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build a worker whose clock can be set: %w\n%s", err, out)
	}
	return path, nil
})

// Clock is the wall clock of one machine, for the processes that are given it.
type Clock struct{ name string }

// NewClock makes a clock that is right.
func NewClock(t testing.TB, name string) *Clock {
	c := &Clock{name}
	require.NoError(t, os.WriteFile(name, make([]byte, 8), 0o644))
	return c
}

// Set makes the clock wrong by so much at once, in whole seconds.
func (c *Clock) Set(t testing.TB, by time.Duration) {
	f, err := os.OpenFile(c.name, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(int64(by/time.Second)))
	_, err = f.WriteAt(b[:], 0)
	require.NoError(t, err)
}

// Drive makes a worker's program go by the clock.
func (c *Clock) Drive(t testing.TB, program *Program) {
	path, err := ClockedWorker()
	require.NoError(t, err)
	program.Path = path
	program.Env = append(program.Env, clockEnv+"="+c.name)
}
