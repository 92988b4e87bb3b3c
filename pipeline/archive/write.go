package archive

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"millrace/pipeline/ledger"
	"millrace/pipeline/wal"
)

// A row group is what writing and reading hold in memory. Its bounds are part of a file's bytes.
const (
	groupRows  = 64 << 10
	groupBytes = 8 << 20 // of keys and values as JSON
	batchRows  = 64
)

const (
	tmpSuffix = ".tmp"

	// tmpKept is how long an unfinished file is left alone: its writer may be alive.
	tmpKept = time.Hour
)

// Dir is a directory of archived windows. It is safe for concurrent use, also by several processes.
type Dir struct {
	fs   wal.FS
	path string
}

// NewDir returns the archive in a directory. It touches nothing yet.
func NewDir(fs wal.FS, path string) *Dir { return &Dir{fs: fs, path: path} }

// File is a file of the archive.
type File struct {
	Name   string // below the archive's directory, with slashes
	SHA256 string // of its bytes, in hex
	Bytes  int64
}

// OtherFileError says that a file stands where another one belongs.
type OtherFileError struct {
	Path       string
	Have, Want string // SHA-256
}

func (e *OtherFileError) Error() string {
	return fmt.Sprintf("archive file %s has SHA-256 %s, but the contents to be archived give %s; if no ledger row names the file, "+
		"move it away and archive again", e.Path, e.Have, e.Want)
}

// Contents passes the rows of a revision to yield, without those that are deleted, and returns its first error. The order
// must be the same every time. Content need not be valid after yield has returned.
type Contents func(yield func(ledger.Content) error) error

// Write archives the revision that a ledger row describes. When it returns, the file is durable, was read back, and holds
// exactly the contents that the row's keys and checksum stand for. A file that is there already with the same bytes is
// kept; with other bytes it is an *OtherFileError.
func (d *Dir) Write(ctx context.Context, s *Schema, row *ledger.Row, contents Contents) (File, error) {
	file := File{Name: FileName(row)}
	path := d.pathOf(file.Name)
	if err := d.fs.MkdirAll(filepath.Dir(path)); err != nil {
		return File{}, fmt.Errorf("archive %s: make its directory: %w", path, err)
	}
	tmp := path + "." + rand.Text()[:8] + tmpSuffix
	err := d.writeUnnamed(ctx, tmp, s, row, contents, &file)
	if err == nil {
		err = d.verify(ctx, tmp, file, row)
	}
	if err == nil {
		err = d.giveName(tmp, path, file)
	}
	if err != nil {
		if gone := d.fs.Remove(tmp); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return File{}, fmt.Errorf("archive %s: %w", path, err)
	}
	return file, nil
}

func (d *Dir) pathOf(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// writeUnnamed writes the file under its temporary name and makes its bytes durable.
func (d *Dir) writeUnnamed(ctx context.Context, tmp string, s *Schema, row *ledger.Row, contents Contents, file *File) error {
	f, err := d.fs.Create(tmp)
	if err != nil {
		return err
	}
	out := &hashingWriter{file: f, sum: sha256.New()}
	err = encode(ctx, out, s, row, contents)
	if err == nil {
		err = f.Sync()
	}
	file.SHA256, file.Bytes = hex.EncodeToString(out.sum.Sum(nil)), out.size
	return errors.Join(err, f.Close())
}

// giveName moves a durable file to where it belongs, unless an equal one is there.
func (d *Dir) giveName(tmp, path string, file File) error {
	there, err := d.sum(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := d.fs.Rename(tmp, path); err != nil {
			return err
		}
	case err != nil:
		return err
	case there != file.SHA256:
		return &OtherFileError{Path: path, Have: there, Want: file.SHA256}
	default:
		if err := d.fs.Remove(tmp); err != nil {
			return err
		}
	}
	return d.fs.SyncDir(filepath.Dir(path))
}

// RemoveUnfinished removes what archivings that were interrupted long ago have left of a pipeline's window family.
func (d *Dir) RemoveUnfinished(pipeline, family string, now time.Time) error {
	dir := filepath.Join(d.path, pipeline, family)
	names, err := d.fs.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if !strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		path := filepath.Join(dir, name)
		f, opened := d.fs.Open(path, false)
		if opened != nil {
			continue // its writer was faster
		}
		written, asked := f.Modified()
		if err = errors.Join(err, asked, f.Close()); asked == nil && now.Sub(written) > tmpKept {
			err = errors.Join(err, d.fs.Remove(path))
		}
	}
	return err
}

// hashingWriter writes a file from its beginning and hashes it.
type hashingWriter struct {
	file wal.File
	sum  hash.Hash
	size int64
}

func (w *hashingWriter) Write(p []byte) (int, error) {
	n, err := w.file.WriteAt(p, w.size)
	w.sum.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// encode writes contents as Parquet.
func encode(ctx context.Context, out io.Writer, s *Schema, row *ledger.Row, contents Contents) error {
	header, err := json.Marshal(headerOf(s, row))
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	w := parquet.NewGenericWriter[any](out, s.parquet, parquet.Compression(&parquet.Zstd), parquet.DataPageVersion(1),
		parquet.CreatedBy("millrace archive", fmt.Sprintf("%d.0.0", FormatVersion), "none"),
		parquet.KeyValueMetadata(headerKey, string(header)))
	b := batch{encoder: encoder{schema: s, window: row}, out: w}
	err = contents(func(c ledger.Content) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return b.add(c)
	})
	if err == nil {
		err = b.write()
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// batch collects rows for a writer, which takes several at a time faster than one.
type batch struct {
	encoder encoder
	out     *parquet.GenericWriter[any]
	held    [batchRows]ledger.Content // copies, which rows alias
	rows    [batchRows]parquet.Row
	n       int

	groupRows, groupBytes int // of the row group that is being filled
}

func (b *batch) add(c ledger.Content) error {
	held := &b.held[b.n]
	held.Key, held.Values = append(held.Key[:0], c.Key...), append(held.Values[:0], c.Values...)
	held.Overflow, held.Deleted = c.Overflow, c.Deleted
	row, err := b.encoder.append(b.rows[b.n][:0], *held)
	if err != nil {
		return err
	}
	b.rows[b.n] = row
	b.n++
	b.groupRows++
	b.groupBytes += len(c.Key) + len(c.Values)
	full := b.groupRows >= groupRows || b.groupBytes >= groupBytes
	if b.n < batchRows && !full {
		return nil
	}
	if err := b.write(); err != nil || !full {
		return err
	}
	b.groupRows, b.groupBytes = 0, 0
	return b.out.Flush()
}

func (b *batch) write() error {
	_, err := b.out.WriteRows(b.rows[:b.n])
	b.n = 0
	return err
}
