package archive

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// markerName is a file that every archive directory has. It holds an id by which two processes find out whether they see the
// same directory.
const markerName = ".millrace-archive"

// maxMarker is the longest marker that is read, in bytes.
const maxMarker = 128

// NotSharedError says that a directory is not the same for all workers.
type NotSharedError struct {
	Dir     string
	Workers []string // those that see another archive there or none, with what they see
}

func (e *NotSharedError) Error() string {
	return fmt.Sprintf("archive.dir %s is not a directory that all workers share, so nothing is archived there: %s; mount the same "+
		"directory on every worker", e.Dir, strings.Join(e.Workers, "; "))
}

// Mark makes the directory an archive, unless it is one, and returns its id. Of two processes that do it at the same moment
// both may return their own; ID then tells.
func (d *Dir) Mark() (id string, err error) {
	if id, err = d.ID(); !errors.Is(err, os.ErrNotExist) {
		return id, err
	}
	fail := func(err error) (string, error) { return "", fmt.Errorf("make %s an archive: %w", d.path, err) }
	if err := d.fs.MkdirAll(d.path); err != nil {
		return fail(err)
	}
	marker, text := filepath.Join(d.path, markerName), rand.Text()
	tmp := marker + "." + text[:8] + tmpSuffix
	f, err := d.fs.Create(tmp)
	if err != nil {
		return fail(err)
	}
	_, err = f.WriteAt([]byte(text+"\n"), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.fs.Rename(tmp, marker)
	}
	if err == nil {
		err = d.fs.SyncDir(d.path)
	}
	if err != nil {
		return fail(errors.Join(err, d.fs.Remove(tmp)))
	}
	return d.ID()
}

// ID returns the directory's id. It is os.ErrNotExist where there is no archive.
func (d *Dir) ID() (string, error) {
	path := filepath.Join(d.path, markerName)
	f, size, err := openFile(d.fs, path)
	if err != nil {
		return "", err
	}
	text := make([]byte, min(size, maxMarker))
	n, err := f.ReadAt(text, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	id, whole := strings.CutSuffix(string(text[:n]), "\n")
	if !whole || id == "" {
		return "", fmt.Errorf("%w %s: it holds no id; remove it if no worker archives there, and it is made again", ErrDamaged, path)
	}
	return id, nil
}
