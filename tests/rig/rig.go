// Package rig is what the tests of whole pipelines stand on: worker processes that can be killed, frozen and restarted,
// servers that can be killed, emptied and cut off, a pipeline fed and stopped as a user would, and the comparison of
// everything it published with the oracle.
//
// Without further ado Kafka is embedded and lives in a process of its own, and Redis is a redis-server process of the
// test's own where the system has one, embedded otherwise. MILLRACE_KAFKA_BROKERS, MILLRACE_REDIS_ADDRS and
// TEMPORAL_ADDRESS point the very same tests at servers that are there. Names of pipelines, topics and namespaces are
// unique, so that tests share servers.
package rig

import (
	"context"
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

// Patience bounds every wait for something that takes a second or two on an idle machine.
const Patience = 90 * time.Second

// shared are the servers and programs that all tests use. Each is made when the first test asks for it.
var shared struct {
	dir      string // removed at the end
	kafka    lazy[*Broker]
	temporal lazy[*dev.Temporal]
	programs lazy[string] // directory of millrace and worker
}

// Main is the body of a TestMain: it runs the tests, stops what they share and returns the exit code.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "millrace-rig-")
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
			shared.kafka.value.Kill()
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

func sharedKafka() (*Broker, error) {
	return shared.kafka.get(func() (*Broker, error) {
		return StartBroker(filepath.Join(shared.dir, "kafka"), 0)
	})
}

func sharedTemporal() (*dev.Temporal, error) {
	return shared.temporal.get(func() (*dev.Temporal, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // it may have to be built
		defer cancel()
		return dev.StartTemporal(ctx, dev.TemporalConfig{DataDir: filepath.Join(shared.dir, "temporal")})
	})
}

// Binary builds the programs once and returns the path of one: millrace, worker, oracle or broker. They are built without
// the race detector: what is tested is what users run.
func Binary(name string) (string, error) {
	dir, err := shared.programs.get(func() (string, error) {
		dir := filepath.Join(shared.dir, "bin")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", dir, "./starter", "./worker", "./tests/oracle/cmd/oracle", "./tests/rig/broker")
		cmd.Dir = root
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

// root is the repository, seen from the packages that use the rig.
const root = "../.."

// fromEnv lists the addresses in a variable.
func fromEnv(name string) []string {
	if text := os.Getenv(name); text != "" {
		return strings.Split(text, ",")
	}
	return nil
}
