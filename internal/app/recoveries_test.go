package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

var quiet = slog.New(slog.DiscardHandler)

// start is one workflow that was asked for and accepted.
type start struct {
	at      time.Time
	options client.StartWorkflowOptions
	signal  contract.LevelSignal
	arg     any
}

// fakeStarts is Temporal as far as it starts workflows. An id is taken for ever, but for signals.
type fakeStarts struct {
	mu     sync.Mutex
	away   error
	after  time.Duration // it answers after this
	tries  int
	starts []start
	taken  map[string]bool
}

func (f *fakeStarts) set(away error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

func (f *fakeStarts) all() []start {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]start(nil), f.starts...)
}

func (f *fakeStarts) ExecuteWorkflow(ctx context.Context, o client.StartWorkflowOptions, _ any, args ...any) (client.WorkflowRun, error) {
	select {
	case <-time.After(f.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	switch {
	case f.away != nil:
		return nil, f.away
	case f.taken[o.ID]:
		return nil, serviceerror.NewWorkflowExecutionAlreadyStarted("taken", "", "")
	case f.taken == nil:
		f.taken = make(map[string]bool)
	}
	f.taken[o.ID] = true
	f.starts = append(f.starts, start{at: time.Now(), options: o, arg: args[0]})
	return nil, nil
}

func (f *fakeStarts) SignalWithStartWorkflow(_ context.Context, id, _ string, arg any, o client.StartWorkflowOptions, _ any,
	args ...any,
) (client.WorkflowRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if f.away != nil {
		return nil, f.away
	}
	f.starts = append(f.starts, start{at: time.Now(), options: o, signal: arg.(contract.LevelSignal), arg: args[0]})
	return nil, nil
}

var errAway = serviceerror.NewUnavailable("connection refused")

func batchNumber(n int64) report.RecoveryBatch {
	return report.RecoveryBatch{Pipeline: "orders", Process: "p1", Worker: "worker-a", Batch: n, Began: time.Now(),
		Lanes: []report.LaneRef{{Topic: "orders", Partition: int32(n)}}}
}

func reportNumber(n int64) report.RecoveryReport {
	return report.RecoveryReport{Batch: batchNumber(n), Ended: time.Now().Add(time.Second),
		Lanes: []report.RecoveredLane{{Topic: "orders"}}}
}

// running runs r until the test's bubble is done with it.
func running(t *testing.T, r *recoveries) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	return func() {
		cancel()
		<-done
		require.NoError(t, r.reports.close())
	}
}

func inDir(t *testing.T, dir string) *reportLog {
	t.Helper()
	l, err := openReports(dir, DefaultReportsLimit, quiet)
	require.NoError(t, err)
	return l
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual time of a synctest bubble
	synctest.Wait()
}

func TestBatchIsAnnouncedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := new(fakeStarts)
		r := newRecoveries(temporal, inDir(t, ""), quiet)
		defer running(t, r)()
		for n := range int64(20) {
			r.Announce(batchNumber(n))
		}
		synctest.Wait()
		starts := temporal.all()
		require.Len(t, starts, 20, "live ones are not held back")
		require.Equal(t, contract.RecoverTimeout, starts[0].options.WorkflowRunTimeout)
		require.Nil(t, starts[0].arg.(contract.RecoverInput).Report)
		for n := range int64(20) {
			r.Report(reportNumber(n))
		}
		pass(time.Minute)
		require.Len(t, temporal.all(), 20, "the workflow has the steps' results, so no report is needed")
		require.Empty(t, r.reports.waiting)
	})
}

func TestReportsWaitForTemporal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &fakeStarts{away: errAway}
		r := newRecoveries(temporal, inDir(t, t.TempDir()), quiet)
		defer running(t, r)()
		for n := range int64(10) {
			r.Announce(batchNumber(n))
			r.Report(reportNumber(n))
		}
		pass(time.Hour)
		require.Empty(t, temporal.all())
		temporal.set(nil)
		pass(time.Minute)
		starts := temporal.all()
		require.Len(t, starts, 10)
		for n, s := range starts {
			require.Equal(t, contract.RecoverLanesID("orders", "p1", int64(n)), s.options.ID, "in order")
			in := s.arg.(contract.RecoverInput)
			require.NotNil(t, in.Report)
			require.EqualValues(t, n, in.Batch.Batch)
			require.Contains(t, s.options.StaticSummary, "done without Temporal from "+in.Batch.Began.UTC().Format("2006-01-02T15:04:05"))
			if n > 0 {
				require.GreaterOrEqual(t, s.at.Sub(starts[n-1].at), reportPause, "at most two a second")
			}
		}
	})
}

// The answer to an announcement may be lost or late: the id makes it one workflow all the same.
func TestOneWorkflowABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &fakeStarts{after: 2 * time.Second}
		r := newRecoveries(temporal, inDir(t, t.TempDir()), quiet)
		defer running(t, r)()
		r.Announce(batchNumber(1))
		pass(time.Second)
		r.Report(reportNumber(1)) // done before Temporal has answered
		pass(time.Minute)
		require.Len(t, temporal.all(), 1)
		require.Empty(t, r.reports.waiting)
	})
}

func TestReportsSurviveTheProcess(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		temporal := &fakeStarts{away: errAway}
		first := newRecoveries(temporal, inDir(t, dir), quiet)
		stop := running(t, first)
		for n := range int64(3) {
			first.Report(reportNumber(n))
		}
		pass(time.Millisecond) // the first try finds it away
		temporal.set(nil)
		pass(reportPause + startPause + 100*time.Millisecond)
		temporal.set(errAway)
		sent := len(temporal.all())
		require.Positive(t, sent)
		require.Less(t, sent, 3)
		stop()

		temporal.set(nil)
		second := newRecoveries(temporal, inDir(t, dir), quiet)
		defer running(t, second)()
		pass(time.Minute)
		require.Len(t, temporal.all(), 3, "what was delivered is not started again, the rest is")
	})
	info, err := os.Stat(filepath.Join(dir, ReportsFile))
	require.NoError(t, err)
	require.Zero(t, info.Size(), "all are delivered, so the file is empty")
}

func TestReportThatTemporalRefusesDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &fakeStarts{away: serviceerror.NewInvalidArgument("too large")}
		r := newRecoveries(temporal, inDir(t, ""), quiet)
		defer running(t, r)()
		r.Report(reportNumber(1))
		pass(time.Second)
		temporal.set(nil)
		r.Report(reportNumber(2))
		pass(time.Minute)
		require.Len(t, temporal.all(), 1)
	})
}

func TestReportsFile(t *testing.T) {
	line := func(id string, told *report.RecoveryReport) string {
		text, err := json.Marshal(reportLine{ID: id, Report: told})
		require.NoError(t, err)
		return string(text) + "\n"
	}
	one, two := reportNumber(1), reportNumber(2)
	for _, c := range []struct {
		name, text string
		waits      []string
	}{
		{"empty", "", nil},
		{"one waits", line("a", &one), []string{"a"}},
		{"delivered", line("a", &one) + line("b", &two) + line("a", nil), []string{"b"}},
		{"torn end", line("a", &one) + strings.TrimSuffix(line("b", &two), "}}\n"), []string{"a"}},
		{"garbage between", line("a", &one) + "garbage\n" + line("b", &two), []string{"a", "b"}},
		{"torn, then more by an older process", `{"id":"a","rep` + "\n" + line("b", &two), []string{"b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, ReportsFile), []byte(c.text), 0o644))
			l := inDir(t, dir)
			defer l.close()
			var ids []string
			for _, w := range l.waiting {
				ids = append(ids, w.id)
			}
			require.Equal(t, c.waits, ids)
			for range ids {
				got, ok := l.next()
				require.True(t, ok)
				require.Len(t, got.Lanes, 1)
				l.done(l.waiting[0].id)
			}
			l.add(one)
			again := inDir(t, dir)
			defer again.close()
			require.Len(t, again.waiting, 1, "what is added after a torn end can be read")
		})
	}
	_, err := openReports(filepath.Join(t.TempDir(), "missing"), DefaultReportsLimit, quiet)
	require.ErrorContains(t, err, "open recovery reports")
}

// However long Temporal is away, the file keeps its limit: what was delivered goes first, then the oldest reports.
func TestReportsFileKeepsItsLimit(t *testing.T) {
	dir := t.TempDir()
	one, err := json.Marshal(reportNumber(1000))
	require.NoError(t, err)
	limit := int64(100 * len(one))
	l, err := openReports(dir, limit, quiet)
	require.NoError(t, err)
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, ReportsFile))
		require.NoError(t, err)
		require.Equal(t, l.size, info.Size())
		return info.Size()
	}
	const added = 300
	for n := range int64(added) {
		l.add(reportNumber(n))
		require.LessOrEqual(t, size(), limit)
	}
	require.Equal(t, added, l.dropped+len(l.waiting), "counted")
	require.Greater(t, len(l.waiting), 50)
	first := int64(l.dropped)

	require.NoError(t, l.close())
	l, err = openReports(dir, limit, quiet)
	require.NoError(t, err)
	next := first
	deliver := func() {
		got, ok := l.next()
		require.True(t, ok)
		require.Equal(t, next, got.Batch.Batch, "in order, from the oldest that was kept")
		next++
		l.done(recoveryID(got.Batch))
	}
	for range 40 {
		deliver()
	}
	for n := range int64(150) { // something always waits, so the file is never simply emptied
		deliver()
		l.add(reportNumber(added + n))
		require.LessOrEqual(t, size(), limit)
	}
	require.Zero(t, l.dropped, "what was delivered made room")

	require.NoError(t, l.close())
	less, err := openReports(dir, limit/4, quiet)
	require.NoError(t, err)
	defer less.close()
	require.LessOrEqual(t, less.size, limit/4, "a smaller limit holds at once")
	require.Positive(t, less.dropped)
	require.NoFileExists(t, filepath.Join(dir, ReportsFile+unfinished))
}

func TestReportsInMemoryWhereTheDiskTakesNone(t *testing.T) {
	l := inDir(t, t.TempDir())
	require.NoError(t, l.file.Close())
	for n := range int64(memoryReports + 5) {
		l.add(reportNumber(n))
	}
	require.Len(t, l.waiting, memoryReports)
	first, ok := l.next()
	require.True(t, ok)
	require.EqualValues(t, 5, first.Batch.Batch)
}

// fakeLevel is a state machine.
type fakeLevel struct {
	mu      sync.Mutex
	changes []report.LevelChange
	news    chan struct{}
}

func (l *fakeLevel) move(from, to report.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, report.LevelChange{Seq: int64(len(l.changes) + 1), At: time.Now(), From: from, To: to,
		Reason: "because"})
	close(l.news)
	l.news = make(chan struct{})
}

func (l *fakeLevel) LevelStatus() report.LevelStatus { return report.LevelStatus{} }

func (l *fakeLevel) Changes(after int64) []report.LevelChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes[min(int(after), len(l.changes)):]
}

func (l *fakeLevel) Await(ctx context.Context, after int64) ([]report.LevelChange, error) {
	for {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		if changes := l.Changes(after); len(changes) > 0 {
			return changes, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *fakeLevel) Override(report.Override, string, string) error { return errors.New("not here") }

func TestDepartureFromNormalStartsADegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := new(fakeStarts)
		d := newDegrades(temporal, "worker-a", "p1", "d1", quiet)
		level := &fakeLevel{news: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		var following sync.WaitGroup
		following.Go(func() { d.Follow(ctx, "orders", 2, report.DependencyRedis, level) })
		level.move("normal", "normal") // an override that changed nothing
		level.move("normal", "journal")
		level.move("journal", "throttled")
		pass(2 * contract.StartJitter)
		starts := temporal.all()
		require.Len(t, starts, 1)
		require.Equal(t, "degrade:orders:worker-a:redis", starts[0].options.ID)
		require.Equal(t, contract.LevelSignal{Replica: 2, Process: "p1", Queue: "millrace:p:p1", Disk: "d1", After: 1,
			At:    level.changes[1].At,
			Level: "journal", Reason: "because"}, starts[0].signal)
		level.move("throttled", "normal")
		pass(time.Minute)
		require.Len(t, temporal.all(), 1, "the return is the workflow's to see")
		level.move("normal", "paused")
		pass(2 * contract.StartJitter)
		require.Len(t, temporal.all(), 2)

		// Temporal is away for a whole degradation: it is told afterwards, from its first change on.
		temporal.set(errAway)
		level.move("paused", "normal")
		level.move("normal", "journal")
		pass(time.Hour)
		level.move("journal", "normal")
		temporal.set(nil)
		pass(time.Minute)
		starts = temporal.all()
		require.Len(t, starts, 3)
		require.EqualValues(t, 6, starts[2].signal.After)
		cancel()
		following.Wait()
	})
}

func TestStartsOfManyProcessesAreSpread(t *testing.T) {
	d := newDegrades(nil, "w", "p", "", quiet)
	seen := make(map[string]bool)
	for range 50 {
		pause := d.jitter()
		require.Less(t, pause, contract.StartJitter)
		seen[fmt.Sprint(pause)] = true
	}
	require.Greater(t, len(seen), 10)
}
