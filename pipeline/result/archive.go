package result

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/wal"
)

// JobArchive is the kind of job that archives windows.
const JobArchive = "archive"

// archiving is the body of such a job.
type archiving struct {
	// By is when contents would have expired (ms) that are archived now: a job that runs every hour archives what would
	// expire before the next one.
	By int64 `json:"by"`
}

// Archives archives final windows before their contents expire: it writes what was published to a file, proves the file, and
// names it in the window's ledger row; from then on the contents may expire. A window that fails does not keep the others from
// being archived, unless they would fail for the same reason.
type Archives struct {
	// Shared returns nil when every worker sees the same archive in a directory, and an *archive.NotSharedError when one does
	// not: what this process archives must be there for the others before anything expires.
	Shared func(ctx context.Context, dir string) error
}

// CarryOut implements JobKind. What earlier attempts have archived is named in the ledger, and is not looked at again.
func (k Archives) CarryOut(ctx context.Context, d *Desk, job Job) error {
	refuse := func(format string, args ...any) error { return &RefusedJobError{job.ID, fmt.Sprintf(format, args...)} }
	var body archiving
	if err := json.Unmarshal(job.Body, &body); err != nil || body.By <= 0 {
		return refuse("it does not say until when contents would have expired; want {\"by\":978307200000}, in ms since 1970")
	}
	s := d.closer.cfg.Spec
	if s.Archive == nil {
		return refuse("the spec of pipeline %s has no archive.dir", s.Name)
	}
	schema, err := archive.NewSchema(s)
	if err != nil {
		return refuse("%v", err)
	}
	contents, err := d.Contents()
	if err != nil {
		return err
	}
	var apart *archive.NotSharedError
	err = k.Shared(ctx, s.Archive.Dir)
	if err == nil {
		a := &archiver{desk: d, dir: archive.NewDir(wal.OS, s.Archive.Dir), schema: schema, contents: contents}
		err = a.archiveDue(ctx, time.UnixMilli(body.By))
	}
	var file *fs.PathError
	switch {
	case errors.As(err, &apart):
		return refuse("%v", apart)
	case errors.As(err, &file): // somebody has to see to it, and the next job goes on from here
		return refuse("archive.dir %s cannot be used: %v", s.Archive.Dir, err)
	}
	return err
}

// archiver archives windows for one job.
type archiver struct {
	desk     *Desk
	dir      *archive.Dir
	schema   *archive.Schema
	contents *publish.Contents
}

// archiveDue archives every final window that is not yet and whose contents would otherwise have expired by then.
func (a *archiver) archiveDue(ctx context.Context, by time.Time) error {
	c := a.desk.closer
	tidied := make(map[string]bool)
	for _, slot := range c.slots {
		due, err := slot.Unarchived(ctx, by)
		if err != nil {
			return err
		}
		for _, id := range due {
			if !tidied[id.Window] {
				if err := a.dir.RemoveUnfinished(c.cfg.Spec.Name, id.Window, c.cfg.Now()); err != nil {
					return err
				}
				tidied[id.Window] = true
			}
			done, err := a.archiveWindow(ctx, id)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err == nil:
				a.desk.book(archivedAs(id, done))
			default:
				if err := a.bookFailure(id, err); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// archiveWindow archives the latest revision of a final window. It is nobody's turn while the file is written.
func (a *archiver) archiveWindow(ctx context.Context, id ledger.WindowID) (done publish.Corrected, err error) {
	row, err := a.desk.Latest(ctx, id)
	if err != nil || row == nil {
		return publish.Corrected{Verdict: publish.VerdictMoved}, err
	}
	contents, err := a.contents.Read(ctx, row)
	var gone *publish.GoneError
	if errors.As(err, &gone) && gone.Expired {
		return a.nameInRow(ctx, row, &ledger.Archive{Gone: strings.Join(gone.Missing, "; ")})
	}
	if err != nil {
		return publish.Corrected{}, err
	}
	file, err := a.dir.Write(ctx, a.schema, row, func(yield func(ledger.Content) error) error {
		for _, content := range contents {
			if err := yield(content); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return publish.Corrected{}, &fileError{err}
	}
	return a.nameInRow(ctx, row, &ledger.Archive{File: file.Name, SHA256: file.SHA256, Bytes: file.Bytes})
}

// archivedAs books a window that was archived, or of which nothing was left: its contents had gone before the pipeline archived
// anything. Its row says that, so that no later job looks for them.
func archivedAs(id ledger.WindowID, done publish.Corrected) Carried {
	carried := carriedAs(id, done)
	if done.Verdict != publish.VerdictPublished || done.Row.Archive == nil {
		return carried
	}
	if at := done.Row.Archive; at.Gone != "" {
		carried.Verdict, carried.Gone, carried.Problem = publish.VerdictUnchanged, true, "not archived: contents gone: "+at.Gone
	} else {
		carried.Bytes = at.Bytes
	}
	return carried
}

// nameInRow says in the row of a window where it was archived, unless it says so already.
func (a *archiver) nameInRow(ctx context.Context, row *ledger.Row, named *ledger.Archive) (done publish.Corrected, err error) {
	named.At = a.desk.closer.cfg.Now().UnixMilli()
	err = a.desk.InSlot(ctx, row.ID(), func(ctx context.Context, s *publish.Held) (err error) {
		done, err = s.AmendLatest(ctx, row.ID(), row.Revision, row.Checksum, func(r *ledger.Row) bool {
			if r.Archive != nil {
				return false
			}
			r.Archive = named
			return true
		})
		return err
	})
	return done, err
}

// fileError is why a file was not written.
type fileError struct{ error }

func (e *fileError) Unwrap() error { return e.error }

// bookFailure books a window as failed, and returns nil, when others may succeed. A disk that is full and a file system that is
// away concern all of them.
func (a *archiver) bookFailure(id ledger.WindowID, err error) error {
	var file *fileError
	var of syscall.Errno
	if errors.As(err, &file) && !errors.As(err, &of) {
		a.desk.book(Carried{Window: id, Problem: err.Error()})
		return nil
	}
	return a.desk.BookFailure(id, err)
}
