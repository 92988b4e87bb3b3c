package result

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/wal"
)

// Archiving says which final windows are to be archived: those that are not yet, and whose contents would otherwise have
// expired.
type Archiving struct {
	By       time.Time // until then
	Window   string    // of this family; "" for all
	From, To int64     // that start in [From, To), ms; both 0 for all
}

// includes reports whether a window is among those that are meant.
func (a *Archiving) includes(id ledger.WindowID) bool {
	return (a.Window == "" || id.Window == a.Window) && (a.From == 0 && a.To == 0 || a.From <= id.Start && id.Start < a.To)
}

// Archived is what became of one window.
type Archived struct {
	Window   ledger.WindowID
	Revision int
	File     *ledger.Archive // nil unless it was archived
	Moved    bool            // another revision was published meanwhile; it is archived another time
	Err      error           // why it was not archived
}

// ErrNoArchive means that the spec names no directory to archive to.
var ErrNoArchive = errors.New("the spec has no archive.dir")

// RevisionContents reads the content of a revision, sorted by key; *publish.Contents does.
type RevisionContents interface {
	Read(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
}

// ArchiveWindows archives windows one after the other and passes what became of each to done, whose error ends it. A window
// is archived when its file is durable and was read back, and its ledger row names it; from then on its contents may expire.
// Repeating is safe, whatever became of an earlier attempt. A window that cannot be archived does not keep the others from it,
// unless the archive itself cannot be used.
func (c *Closer) ArchiveWindows(ctx context.Context, what Archiving, from RevisionContents, done func(Archived) error) error {
	s := c.cfg.Spec
	if s.Archive == nil {
		return fmt.Errorf("archive windows of %s: %w", s.Name, ErrNoArchive)
	}
	schema, err := archive.NewSchema(s)
	if err != nil {
		return err
	}
	a := &archiver{dir: archive.NewDir(wal.OS, s.Archive.Dir), schema: schema, from: from, now: c.cfg.Now, warnView: c.warnView}
	tidied := make(map[string]bool)
	for _, slot := range c.slots {
		due, err := slot.Unarchived(ctx, what.By)
		if err != nil {
			return err
		}
		for _, id := range due {
			if !what.includes(id) {
				continue
			}
			if !tidied[id.Window] {
				if err := a.dir.RemoveUnfinished(s.Name, id.Window, c.cfg.Now()); err != nil {
					return err
				}
				tidied[id.Window] = true
			}
			became := a.archiveWindow(ctx, slot, id)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := done(became); err != nil {
				return err
			}
			if hindersAll(became.Err) {
				return became.Err
			}
		}
	}
	return nil
}

// hindersAll reports whether the next window would fail for the same reason: a full disk, a file system or a server that is
// away.
func hindersAll(err error) bool {
	var of syscall.Errno
	return errors.As(err, &of)
}

// archiver writes windows to an archive and says so in their ledger rows.
type archiver struct {
	dir    *archive.Dir
	schema *archive.Schema
	from   RevisionContents
	now    func() time.Time

	warnView func(error)
}

// archiveWindow archives the latest revision of a final window. The slot is free while the file is written: closing goes on.
func (a *archiver) archiveWindow(ctx context.Context, slot *publish.Slot, id ledger.WindowID) (done Archived) {
	done.Window = id
	row, err := slot.FinalRow(ctx, id)
	if err != nil || row == nil {
		done.Err, done.Moved = err, err == nil
		return done
	}
	done.Revision = row.Revision
	file, err := a.writeFile(ctx, row)
	if err != nil {
		done.Err = err
		return done
	}
	entry := &ledger.Archive{File: file.Name, SHA256: file.SHA256, Bytes: file.Bytes, At: a.now().UnixMilli()}
	done.Err = slot.Do(func(h *publish.Held) error {
		named, err := h.AmendLatest(ctx, id, row.Revision, row.Checksum, func(r *ledger.Row) bool {
			if r.Archive != nil && r.Archive.SHA256 == entry.SHA256 && r.Archive.File == entry.File {
				entry = r.Archive
				return false
			}
			r.Archive = entry
			return true
		})
		if err != nil {
			return err
		}
		if named.Verdict == publish.VerdictMoved {
			done.Moved = true
			return nil
		}
		done.File = entry
		if err := h.ShowRows(ctx); err != nil {
			a.warnView(err)
		}
		return nil
	})
	return done
}

// writeFile writes the content of a revision as a file.
func (a *archiver) writeFile(ctx context.Context, row *ledger.Row) (archive.File, error) {
	contents, err := a.from.Read(ctx, row)
	if err != nil {
		return archive.File{}, err
	}
	return a.dir.Write(ctx, a.schema, row, func(yield func(ledger.Content) error) error {
		for _, content := range contents {
			if err := yield(content); err != nil {
				return err
			}
		}
		return nil
	})
}
