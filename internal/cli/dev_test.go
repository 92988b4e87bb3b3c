package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/tests/long"
	"millrace/tests/oracle"
)

// TestDevDrain runs the whole of it: embedded servers, a worker, Temporal, the feed, the drain and the results file, and
// compares the file with the oracle's. Keys are not aligned with the partitions.
func TestDevDrain(t *testing.T) {
	const records = 10_000
	for _, partitions := range []int{1, 4, 16} {
		if partitions == defaultPartitions && !long.Wanted {
			continue // the tests that steer a pipeline have as many
		}
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			dir := t.TempDir()
			feed, out := filepath.Join(dir, "feed.jsonl"), filepath.Join(dir, "out.jsonl")
			lines := firstLines(t, records)
			require.NoError(t, os.WriteFile(feed, lines, 0o600))

			code, _, errs := millrace(t, "dev", "--spec", flightsSpec, "--feed", feed, "--partitions", fmt.Sprint(partitions),
				"--drain", "--results", out, "--dir", filepath.Join(dir, "state"))
			require.Equal(t, ExitOK, code, errs)
			require.Contains(t, errs, "Temporal UI  http://127.0.0.1:")
			require.Contains(t, errs, fmt.Sprintf("%d records fed to topic flights", records))

			text, err := os.ReadFile(flightsSpec)
			require.NoError(t, err)
			naive, err := oracle.ReadSpec(text)
			require.NoError(t, err)
			want, err := oracle.Run(naive, oracle.RoundRobin("flights", oracle.Lines(lines), partitions, time.Now().UnixMilli()))
			require.NoError(t, err)
			var expected bytes.Buffer
			require.NoError(t, want.WriteJSON(&expected))
			actual, err := os.Open(out)
			require.NoError(t, err)
			defer actual.Close()
			diff, err := oracle.Compare(&expected, actual, oracle.Options{})
			require.NoError(t, err)
			require.True(t, diff.Equal(), diff.String())
			totals := want.Totals()
			require.Contains(t, errs, fmt.Sprintf("%d records read: %d folded, %d late, ", records, totals.Folded, totals.Late))
		})
	}
}

// lockedBuffer may be written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestSecondTerminal steers a pipeline that `millrace dev` runs, through Temporal, with every command.
func TestSecondTerminal(t *testing.T) {
	dir := t.TempDir()
	feed := filepath.Join(dir, "feed.jsonl")
	require.NoError(t, os.WriteFile(feed, firstLines(t, 5000), 0o600))
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, errs lockedBuffer
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"dev", "--spec", flightsSpec, "--feed", feed, "--dir", dir}, &out, &errs)
	}()
	export := regexp.MustCompile(`export MILLRACE_KAFKA_BROKERS=(\S+) MILLRACE_REDIS_ADDRS=(\S+) TEMPORAL_ADDRESS=(\S+)`)
	require.Eventually(t, func() bool { return strings.Contains(errs.String(), "5000 records fed") }, time.Minute, 50*time.Millisecond, errs.String)
	at := export.FindStringSubmatch(errs.String())
	require.NotNil(t, at)
	run := func(args ...string) (int, string, string) {
		return millrace(t, append(args, "--kafka", at[1], "--redis", at[2], "--temporal", at[3])...)
	}
	receipt := func(args ...string) contract.Receipt {
		t.Helper()
		code, text, problem := run(append(args, "--json")...)
		require.Equal(t, ExitOK, code, problem)
		var r contract.Receipt
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		require.True(t, r.Applied)
		return r
	}

	code, _, problem := run("start", flightsSpec)
	require.Equal(t, ExitFailed, code)
	require.Contains(t, problem, "pipeline flights is running already: stop it first with `millrace stop flights`")
	code, _, problem = run("flush", "other")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, problem, "pipeline other is not running: start it with `millrace start FILE`")

	require.Eventually(t, func() bool {
		code, text, _ := run("status", "flights", "--json")
		var view statusView
		return code == ExitOK && json.Unmarshal([]byte(text), &view) == nil && view.State == contract.StateRunning &&
			len(view.Lanes) == defaultPartitions && view.Lag == 0 && view.Open > 0
	}, time.Minute, 200*time.Millisecond, "status never showed everything read")

	unknownPipelines(t, run)
	lists(t, run)
	completions(t, run, "--kafka", at[1], "--redis", at[2], "--temporal", at[3])

	first := receipt("flush", "flights", "--request-id", "once")
	require.Positive(t, first.Emitted.Published)
	again := receipt("flush", "flights", "--request-id", "once")
	require.True(t, again.Repeated)
	again.Repeated = false
	require.Equal(t, first, again, "the same request, the same receipt")
	receipt("pause", "flights", "--reason", "test")
	code, text, _ := run("status", "flights", "--once")
	require.Equal(t, ExitOK, code)
	require.Contains(t, text, "pipeline flights: paused")
	receipt("resume", "flights")
	require.Equal(t, 2, receipt("scale", "flights", "2").Replicas)
	recovered(t, run, 2)

	code, text, problem = run("verify", "flights")
	require.Equal(t, ExitOK, code, text+problem)
	drained := receipt("stop", "flights", "--drain")
	require.True(t, *drained.Drained)
	code, _, problem = run("pause", "flights")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, problem, "is not running")
	code, text, problem = run("windows", "ls", "flights", "--json")
	require.Equal(t, ExitOK, code, problem)
	require.Contains(t, text, `"reason":"flush"`, "the drain found nothing that the flush had not published")
	log, err := os.ReadFile(filepath.Join(dir, "worker.log"))
	require.NoError(t, err)
	require.Regexp(t, `^time=\S+ level=INFO msg="worker starts" version=`, string(log))
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, `msg="degradation level"`) { // on a busy machine Redis may not answer the probes in time
			require.NotRegexp(t, `level=(ERROR|WARN)`, line, "nothing went wrong")
		}
	}

	startsAgain(t, run, dir)
	interrupt()
	require.Equal(t, ExitOK, <-ended, errs.String())
	log, err = os.ReadFile(filepath.Join(dir, "worker.log"))
	require.NoError(t, err)
	require.NotContains(t, string(log), "level=ERROR")
}

// recovered waits until every replica has recovered lanes, and no recovery is under way. One that is under way when its replica is
// stopped fails, and the worker warns of it.
func recovered(t *testing.T, run terminalRun, replicas int) {
	t.Helper()
	var listing string
	if !assert.Eventually(t, func() bool {
		var code int
		code, listing, _ = run("recover", "ls", "flights", "--last", "0", "--json")
		var all []struct {
			Open   bool
			Status contract.RecoverStatus
		}
		if code != ExitOK || json.Unmarshal([]byte(listing), &all) != nil {
			return false
		}
		ended := make(map[int]bool) // replicas of which a recovery has ended
		for _, r := range all {
			if r.Open {
				return false
			}
			ended[r.Status.Batch.Replica] = true
		}
		return len(ended) == replicas
	}, time.Minute, 200*time.Millisecond) {
		require.Fail(t, "recoveries are under way, or a replica has none", listing)
	}
}
