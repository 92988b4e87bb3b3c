package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/internal/dev"
)

// patience bounds every wait for something that takes a second or two on an idle machine.
const patience = 90 * time.Second

// long asks for all of the input and for outages as long as those in the field.
var long = os.Getenv("MILLRACE_TEST_LONG") != ""

// shared are the servers and programs that all tests use. Each is made when the first test asks for it.
var shared struct {
	dir      string // removed at the end
	kafka    lazy[*broker]
	temporal lazy[*dev.Temporal]
	programs lazy[string] // directory of millrace and worker
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// Most of a test's time is waiting for others to notice that somebody died.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "millrace-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared.dir = dir
	defer os.RemoveAll(dir)
	defer func() {
		if shared.temporal.made() {
			shared.temporal.value.Close()
		}
		if shared.kafka.made() {
			shared.kafka.value.kill()
		}
	}()
	return m.Run()
}

// lazy is made once; its error is everybody's.
type lazy[T any] struct {
	once  sync.Once
	value T
	err   error
	asked bool
}

func (l *lazy[T]) get(start func() (T, error)) (T, error) {
	l.once.Do(func() {
		l.value, l.err = start()
		l.asked = true
	})
	return l.value, l.err
}

func (l *lazy[T]) made() bool { return l.asked && l.err == nil }

func sharedKafka() (*broker, error) {
	return shared.kafka.get(func() (*broker, error) {
		return startBroker(filepath.Join(shared.dir, "kafka"), 0)
	})
}

func sharedTemporal() (*dev.Temporal, error) {
	return shared.temporal.get(func() (*dev.Temporal, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // it may have to be built
		defer cancel()
		return dev.StartTemporal(ctx, dev.TemporalConfig{DataDir: filepath.Join(shared.dir, "temporal")})
	})
}

// program builds the programs once and returns the path of one. They are built without the race detector: what is
// tested is what users run.
func program(name string) (string, error) {
	dir, err := shared.programs.get(func() (string, error) {
		dir := filepath.Join(shared.dir, "bin")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", dir, "./starter", "./worker", "./tests/oracle/cmd/oracle", "./tests/integration/broker")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the programs: %w\n%s", err, out)
		}
		if err := os.Rename(filepath.Join(dir, "starter"), filepath.Join(dir, "millrace")); err != nil {
			return "", err
		}
		return dir, nil
	})
	return filepath.Join(dir, name), err
}

// fromEnv lists the addresses in a variable.
func fromEnv(name string) []string {
	if text := os.Getenv(name); text != "" {
		return strings.Split(text, ",")
	}
	return nil
}
