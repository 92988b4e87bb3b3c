package result_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/verify"
	"millrace/pipeline/wal"
)

// newArchivingWorld is a pipeline that archives below dir.
func newArchivingWorld(t *testing.T) (w *world, dir string, clk *clock) {
	dir = t.TempDir()
	w = newWorld(t, keepsMinutes+"archive: {dir: "+dir+"}\n", 1)
	return w, dir, w.newClock()
}

func (w *world) contents() *publish.Contents {
	return &publish.Contents{Kafka: w.kafka, State: w.store, Wait: time.Second}
}

// archiveDue archives what is due now.
func (w *world) archiveDue(c *result.Closer, clk *clock) (all []result.Archived) {
	w.t.Helper()
	require.NoError(w.t, c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now}, w.contents(), func(a result.Archived) error {
		require.NoError(w.t, a.Err)
		all = append(all, a)
		return nil
	}))
	return all
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
	if latest.Archive == nil {
		return ""
	}
	a := latest.Archive
	file := archive.File{Name: a.File, SHA256: a.SHA256, Bytes: a.Bytes}
	require.NoError(w.t, archive.NewDir(wal.OS, dir).Verify(w.ctx, file, latest))
	return a.File
}

const forEver = "ledger=52560000 r:1=52560000" // until it is archived

func TestContentsExpireOnlyWhenTheyAreArchived(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use)
	w.finals(c, 2)
	require.Equal(t, forEver, w.kept()[0])
	require.Empty(t, w.archiveDue(c, clk), "their retention is not over")

	clk.pass(12 * time.Minute)
	w.round(w.closer(clk.use)) // a closer that takes over sweeps
	require.Contains(t, w.kept(), int64(0))
	require.Equal(t, 2, w.unarchived(clk))

	done := w.archiveDue(c, clk)
	require.Len(t, done, 2)
	for _, a := range done {
		require.Equal(t, w.archivedFile(dir, a.Window.Start), a.File.File)
		require.Equal(t, 1, a.Revision)
	}
	require.NotContains(t, w.kept(), int64(0), "the retention was over")
	require.NotContains(t, w.kept(), int64(60))
	require.Zero(t, w.unarchived(clk))
	require.Empty(t, w.archiveDue(w.closer(clk.use), clk), "once is enough")
	w.round(w.closer(clk.use))
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
	c := w.closer(clk.use)
	w.finals(c, 1)
	clk.pass(4 * time.Minute)
	early := *clk
	early.now = clk.now.Add(10 * time.Minute)
	require.Len(t, w.archiveDue(c, &early), 1)
	require.NotEmpty(t, w.archivedFile(dir, base))
	require.Equal(t, "ledger=6 r:1=6", w.kept()[0], "it counts from closed_at")
}

// Rows of windows that are not archived are not given up, however old they are.
func TestRowsStayUntilTheirWindowsAreArchived(t *testing.T) {
	w, _, clk := newArchivingWorld(t)
	c := w.closer(clk.use)
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
	c := w.closer(clk.use)
	w.finals(c, 1)
	clk.pass(11 * time.Minute)
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
		if step--; step != 0 {
			return publishtest.Pass
		}
		failed = true
		return outcome
	})
	var firstErr error
	err := c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now}, w.contents(), func(a result.Archived) error {
		firstErr = a.Err
		return nil
	})
	w.kafka.Plan(nil)
	if failed && err == nil && firstErr == nil {
		require.NotEmpty(t, w.archivedFile(dir, base))
	}
	c.Close()

	w.archiveDue(w.closer(clk.use), clk)
	files, err := filepath.Glob(filepath.Join(dir, "orders", "hourly", "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, w.archivedFile(dir, base))}, files)
	w.round(w.closer(clk.use))
	require.NotContains(t, w.kept(), int64(0))
	require.Zero(t, w.unarchived(clk))
	return failed
}

// Contents that are gone keep nobody else's from being archived; a file system that takes nothing ends it.
func TestWhatCannotBeArchived(t *testing.T) {
	w, dir, clk := newArchivingWorld(t)
	c := w.closer(clk.use)
	w.finals(c, 2)
	clk.pass(11 * time.Minute)
	gone := &publish.GoneError{Window: ledger.WindowID{Window: "hourly", Start: base}, Revision: 1}
	failed := 0
	from := contentsFunc(func(ctx context.Context, row *ledger.Row) ([]ledger.Content, error) {
		if row.Start == base {
			return nil, gone
		}
		return w.contents().Read(ctx, row)
	})
	require.NoError(t, c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now}, from, func(a result.Archived) error {
		if a.Err != nil {
			require.ErrorIs(t, a.Err, gone)
			failed++
		}
		return nil
	}))
	require.Equal(t, 1, failed)
	require.Empty(t, w.archivedFile(dir, base))
	require.NotEmpty(t, w.archivedFile(dir, base+60*minute))
	require.Contains(t, w.kept(), int64(0), "and it stays where it may still be")

	full := contentsFunc(func(context.Context, *ledger.Row) ([]ledger.Content, error) {
		return nil, &os.PathError{Op: "write", Err: syscall.ENOSPC}
	})
	err := c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now}, full, func(result.Archived) error { return nil })
	require.ErrorIs(t, err, syscall.ENOSPC)

	end := errors.New("enough")
	require.ErrorIs(t, c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now}, from, func(result.Archived) error { return end }), end)
	require.NoError(t, c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now, Window: "daily"}, from, nil))
	require.NoError(t, c.ArchiveWindows(w.ctx, result.Archiving{By: clk.now, From: base + 1, To: base + 2}, from, nil))

	other := newWorld(t, keepsMinutes, 1)
	require.ErrorIs(t, other.closer().ArchiveWindows(w.ctx, result.Archiving{}, from, nil), result.ErrNoArchive)
}

type contentsFunc func(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)

func (f contentsFunc) Read(ctx context.Context, row *ledger.Row) ([]ledger.Content, error) {
	return f(ctx, row)
}
