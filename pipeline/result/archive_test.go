package result_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
	"millrace/pipeline/verify"
	"millrace/pipeline/wal"
)

// newArchivingWorld is a pipeline that archives below dir.
func newArchivingWorld(t *testing.T) (w *world, dir string, clk *clock) {
	w = newWorld(t, keepsMinutes, 1)
	dir = w.archiveTo()
	return w, dir, w.newClock()
}

// archiveTo lets the pipeline archive, from its next closer on.
func (w *world) archiveTo() (dir string) {
	dir = filepath.Join(w.t.TempDir(), "archive")
	w.spec.Archive = &spec.Archive{Dir: dir}
	return dir
}

// archives lets a closer archive; every worker shares the directory.
func archives(cfg *result.Config) {
	cfg.Jobs = map[string]result.JobKind{
		result.JobArchive: result.Archives{Shared: noWorkerElse},
	}
}

func archiveJob(by time.Time) result.Job {
	return result.Job{ID: "compact:orders/archive", Kind: result.JobArchive, Body: fmt.Appendf(nil, `{"by":%d}`, by.UnixMilli())}
}

// archiveDue archives what is due now, and returns what became of each window as carry does.
func (w *world) archiveDue(c *result.Closer, clk *clock) []string {
	w.t.Helper()
	said, err := w.carry(c, archiveJob(clk.now), atOnce)
	require.NoError(w.t, err)
	slices.Sort(said)
	return said
}

// archivedFile proves the file that a window's latest row names, and returns its name; "" when it names none.
func (w *world) archivedFile(dir string, start int64) string {
	w.t.Helper()
	var latest *ledger.Row
	for _, row := range w.ledger() {
		if row.Start == start {
			latest = &row
		}
	}
	require.NotNil(w.t, latest)
	if latest.Archive == nil || latest.Archive.Gone != "" {
		return ""
	}
	a := latest.Archive
	file := archive.File{Name: a.File, SHA256: a.SHA256, Bytes: a.Bytes}
	require.NoError(w.t, archive.NewDir(wal.OS, dir).Verify(w.ctx, file, latest))
	return a.File
}

const forEver = "ledger=52560000 v:1=52560000" // until it is archived

func TestContentsExpireOnlyWhenTheyAreArchived(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use, archives)
	w.finals(c, 2)
	require.Equal(t, forEver, w.kept()[0])
	require.Empty(t, w.archiveDue(c, clk), "their retention is not over")

	clk.pass(12 * time.Minute)
	w.round(w.closer(clk.use, archives)) // a closer that takes over sweeps
	require.Contains(t, w.kept(), int64(0))
	require.Equal(t, 2, w.unarchived(clk))

	require.Equal(t, []string{"0 published r1", "1 published r1"}, w.archiveDue(c, clk))
	require.NotEmpty(t, w.archivedFile(dir, base))
	require.NotEmpty(t, w.archivedFile(dir, base+hour))
	require.NotContains(t, w.kept(), int64(0), "the retention was over")
	require.NotContains(t, w.kept(), int64(60))
	require.Zero(t, w.unarchived(clk))
	require.Empty(t, w.archiveDue(w.closer(clk.use, archives), clk), "once is enough")
	w.round(w.closer(clk.use, archives))
	require.NotContains(t, w.kept(), int64(0), "and nothing shows it again")
}

// unarchived is how many windows verify says are kept because they are still to be archived. There is nothing else to say.
func (w *world) unarchived(clk *clock) int {
	w.t.Helper()
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: func() time.Time { return clk.now }})
	require.NoError(w.t, err)
	require.Empty(w.t, v.Problems)
	return v.Unarchived
}

// What is archived before its retention is over is kept until then.
func TestArchivedContentsKeepTheirTime(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use, archives)
	w.finals(c, 1)
	clk.pass(4 * time.Minute)
	early := *clk
	early.now = clk.now.Add(10 * time.Minute)
	require.Len(t, w.archiveDue(c, &early), 1)
	require.NotEmpty(t, w.archivedFile(dir, base))
	require.Equal(t, "ledger=6 v:1=6", w.kept()[0], "it counts from closed_at")
}

// Rows of windows that are not archived are not given up, however old they are.
func TestRowsStayUntilTheirWindowsAreArchived(t *testing.T) {
	w, _, clk := newArchivingWorld(t)
	c := w.closer(clk.use, archives)
	w.finals(c, 2)
	rows := func() (n int) {
		latest := map[int64]bool{}
		require.NoError(t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
			switch {
			case rec.Row != nil:
				latest[rec.Row.Start] = true
			case rec.Tombstone != nil:
				delete(latest, rec.Tombstone.Start)
			}
			return nil
		}))
		return len(latest)
	}
	maintain := func() {
		for range 3 {
			clk.pass(2 * time.Hour)
			w.round(c)
		}
	}
	maintain() // floors
	clk.pass(40 * 24 * time.Hour)
	maintain()
	require.Equal(t, 3, rows())
	require.Len(t, w.archiveDue(c, clk), 2)
	maintain()
	require.Equal(t, 1, rows(), "the open window's")
}

// A process may die in every step of an archiving; the next one does what is left of it.
func TestArchivingIsRepeated(t *testing.T) {
	for _, outcome := range []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter} {
		for step := 1; archiveWithFailure(t, outcome, step); step++ {
			require.Less(t, step, 100)
		}
	}
}

// archiveWithFailure lets a step of an archiving fail, and reports whether there was such a step.
func archiveWithFailure(t *testing.T, outcome publishtest.Outcome, step int) (failed bool) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use, archives)
	w.finals(c, 1)
	clk.pass(11 * time.Minute)
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
		if step--; step != 0 {
			return publishtest.Pass
		}
		failed = true
		return outcome
	})
	said, err := w.carry(c, archiveJob(clk.now), atOnce)
	w.kafka.Plan(nil)
	if err == nil {
		require.Len(t, said, 1)
		require.NotEmpty(t, w.archivedFile(dir, base))
	}
	c.Close()

	w.archiveDue(w.closer(clk.use, archives), clk)
	files, err := filepath.Glob(filepath.Join(dir, "orders", "hourly", "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, w.archivedFile(dir, base))}, files)
	w.round(w.closer(clk.use, archives))
	require.NotContains(t, w.kept(), int64(0))
	require.Zero(t, w.unarchived(clk))
	return failed
}

// Contents that are gone keep nobody else's from being archived. Their windows are booked, once, and their rows say why.
func TestContentsThatAreGone(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use, archives)
	w.finals(c, 2)
	clk.pass(11 * time.Minute)
	w.kafka.MakeTopicAgain("orders.windows", "made-again", 3)
	require.NoError(t, w.redis.Del(w.ctx, fmt.Sprintf("mr:{orders/hourly/%d}:v:1", base)).Err())
	var gone []result.Carried
	book := func(done result.Carried) {
		if done.Gone {
			gone = append(gone, done)
		}
	}
	require.NoError(t, c.CarryOut(w.ctx, archiveJob(clk.now), atOnce, book))
	require.Len(t, gone, 1)
	require.Equal(t, base, gone[0].Window.Start)
	require.Contains(t, gone[0].Problem, "not archived: contents gone: ")
	require.Contains(t, gone[0].Problem, "the topic was made again since")
	require.Empty(t, w.archivedFile(dir, base))
	require.NotEmpty(t, w.archivedFile(dir, base+hour))
	require.NoError(t, c.CarryOut(w.ctx, archiveJob(clk.now), atOnce, book))
	require.Len(t, gone, 1)
}

// A file system that takes nothing refuses the job, and the next one goes on; another file in a window's place concerns that
// window.
func TestFilesThatCannotBeWritten(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use, archives)
	w.finals(c, 2)
	clk.pass(11 * time.Minute)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "orders"), nil, 0o600))
	said, err := w.carry(c, archiveJob(clk.now), atOnce)
	var refused *result.RefusedJobError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, syscall.ENOTDIR.Error())
	require.Empty(t, said)

	require.NoError(t, os.Remove(filepath.Join(dir, "orders")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "orders", "hourly"), 0o700))
	other := filepath.Join(dir, archive.FileName(&ledger.Row{Pipeline: "orders", Window: "hourly", Start: base, Revision: 1}))
	require.NoError(t, os.WriteFile(other, []byte("other"), 0o600))
	require.Equal(t, []string{"0  r0", "1 published r1"}, w.archiveDue(c, clk))
	require.Contains(t, w.kept(), int64(0))
	require.NoError(t, os.Remove(other))
	require.Equal(t, []string{"0 published r1"}, w.archiveDue(c, clk))
}

func TestArchivingThatIsRefused(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use, func(cfg *result.Config) {
		cfg.Jobs = map[string]result.JobKind{result.JobArchive: result.Archives{Shared: func(_ context.Context, asked string) error {
			require.Equal(t, dir, asked)
			return &archive.NotSharedError{Dir: asked, Workers: []string{"worker b sees no archive there"}}
		}}}
	})
	w.finals(c, 1)
	clk.pass(11 * time.Minute)
	refused := func(c *result.Closer, job result.Job, why string) {
		t.Helper()
		_, err := w.carry(c, job, atOnce)
		var of *result.RefusedJobError
		require.ErrorAs(t, err, &of)
		require.Contains(t, of.Why, why)
	}
	refused(c, archiveJob(clk.now), "worker b sees no archive there")
	require.Contains(t, w.kept(), int64(0))
	bad := archiveJob(clk.now)
	bad.Body = []byte(`{"by":0}`)
	refused(c, bad, `want {"by":978307200000}`)
	w.spec.Archive = nil
	refused(w.closer(clk.use, archives), archiveJob(clk.now), "has no archive.dir")
}

// A correction of an archived window is archived again, beside the file of the revision that it corrects.
func TestCorrectionsAreArchivedAgain(t *testing.T) {
	w, d := replayed(t)
	dir := w.archiveTo()
	clk := w.newClock()
	c := w.closer(clk.use, d.use, func(cfg *result.Config) { cfg.Jobs[result.JobArchive] = result.Archives{Shared: noWorkerElse} })
	later := clk.now.Add(w.spec.Retention.Results.Std())
	said, err := w.carry(c, archiveJob(later), atOnce)
	require.NoError(t, err)
	require.Contains(t, said, "0 published r1")
	first := w.archivedFile(dir, base)
	require.NotEmpty(t, first)

	said, err = w.carry(c, job(result.JobCorrections), atOnce)
	require.NoError(t, err)
	require.Equal(t, []string{"0 published r2", "1 published r2"}, said)
	require.Empty(t, w.archivedFile(dir, base))
	said, err = w.carry(c, archiveJob(later), atOnce)
	require.NoError(t, err)
	slices.Sort(said)
	require.Equal(t, []string{"0 published r2", "1 published r2"}, said)
	require.Equal(t, strings.Replace(first, ".r1.", ".r2.", 1), w.archivedFile(dir, base))
	require.FileExists(t, filepath.Join(dir, first))
}

func noWorkerElse(context.Context, string) error { return nil }
