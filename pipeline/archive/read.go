package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/parquet-go/parquet-go"

	"millrace/pipeline/ledger"
	"millrace/pipeline/wal"
)

// ErrDamaged means that a file of the archive is not what was archived.
var ErrDamaged = errors.New("damaged archive file")

// Verify proves a file against the ledger row that names it: size and checksum of its bytes, and keys and checksum of the
// contents. A file that is not there is os.ErrNotExist; every other difference wraps ErrDamaged.
func (d *Dir) Verify(ctx context.Context, file File, row *ledger.Row) error {
	return d.verify(ctx, d.pathOf(file.Name), file, row)
}

func (d *Dir) verify(ctx context.Context, path string, file File, row *ledger.Row) error {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w %s: %w", ErrDamaged, path, fmt.Errorf(format, args...))
	}
	f, size, err := openFile(d.fs, path)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	if size != file.Bytes {
		return damaged("%d bytes, the ledger says %d", size, file.Bytes)
	}
	sum, err := sumOf(f, size)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if sum != file.SHA256 {
		return damaged("SHA-256 %s, the ledger says %s", sum, file.SHA256)
	}
	var total ledger.Checksum
	h, err := readContents(ctx, f, size, func(c ledger.Content) error {
		total.AddContent(c)
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return damaged("%w", err)
	case !h.isOf(row):
		return damaged("it holds %s/%s/%s, edition %d, revision %d", h.Pipeline, h.Window, h.Start, h.Edition, h.Revision)
	case total.Rows() != row.Keys || total.String() != row.Checksum:
		return damaged("%d keys with checksum %s, the ledger says %d with %s", total.Rows(), &total, row.Keys, row.Checksum)
	}
	return nil
}

// Prove proves a file by what it says of itself: its contents have the keys and the checksum of its metadata. That is all there is
// once the ledger has given the window's row up.
func (d *Dir) Prove(ctx context.Context, name string) error {
	var total ledger.Checksum
	h, err := d.Read(ctx, name, func(c ledger.Content) error {
		total.AddContent(c)
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrNotExist) || errors.As(err, new(syscall.Errno)):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case total.Rows() != h.Keys || total.String() != h.Checksum:
		return fmt.Errorf("%w %s: %d keys with checksum %s, its metadata says %d with %s",
			ErrDamaged, d.pathOf(name), total.Rows(), &total, h.Keys, h.Checksum)
	}
	return nil
}

// Files lists a pipeline's files by name.
func (d *Dir) Files(pipeline string) ([]string, error) {
	families, err := d.fs.ReadDir(filepath.Join(d.path, pipeline))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, family := range families {
		names, err := d.fs.ReadDir(filepath.Join(d.path, pipeline, family))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if strings.HasSuffix(name, fileSuffix) {
				all = append(all, pipeline+"/"+family+"/"+name)
			}
		}
	}
	return all, nil
}

// Read passes the contents of a file to fn, as they were published, and returns its first error. They are valid until fn
// returns. It trusts the bytes it finds: Verify proves them.
func (d *Dir) Read(ctx context.Context, name string, fn func(ledger.Content) error) (*Header, error) {
	path := d.pathOf(name)
	f, size, err := openFile(d.fs, path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	h, err := readContents(ctx, f, size, fn)
	if err != nil {
		return nil, fmt.Errorf("read archive file %s: %w", path, err)
	}
	return h, nil
}

func openFile(fs wal.FS, path string) (wal.File, int64, error) {
	f, err := fs.Open(path, false)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// sum is the SHA-256 of a file's bytes.
func (d *Dir) sum(path string) (string, error) {
	f, size, err := openFile(d.fs, path)
	if err != nil {
		return "", err
	}
	sum, err := sumOf(f, size)
	return sum, errors.Join(err, f.Close())
}

func sumOf(f io.ReaderAt, size int64) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, size)); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// readContents reads a file's header and rows. The library that decodes Parquet panics on some files that are not whole;
// here that is an error like others.
func readContents(ctx context.Context, r io.ReaderAt, size int64, fn func(ledger.Content) error) (h *Header, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			h, err = nil, fmt.Errorf("decode Parquet: %v", cause)
		}
	}()
	f, err := parquet.OpenFile(r, size)
	if err != nil {
		return nil, err
	}
	h, s, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	for _, group := range f.RowGroups() {
		if err := readGroup(ctx, group, s, h, fn); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func readGroup(ctx context.Context, group parquet.RowGroup, s *Schema, h *Header, fn func(ledger.Content) error) (err error) {
	rows := group.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	batch := make([]parquet.Row, batchRows)
	var values []byte
	for {
		n, err := rows.ReadRows(batch)
		for _, row := range batch[:n] {
			c, buf, err := s.content(values, row, h)
			if err != nil {
				return err
			}
			if values = buf; ctx.Err() != nil {
				return ctx.Err()
			}
			if err := fn(c); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
