package wal

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Names of the files beside the segments.
const (
	lockFile    = "lock"       // held while a log is open
	ownerFile   = "owner.json" // who holds or held the lock
	diskFile    = "disk.json"  // the log's id, made once
	asideFolder = "corrupt"    // copies of unreadable ranges
)

// identityLimit bounds what is read of the small files, in bytes.
const identityLimit = 4096

func (id ID) String() string { return hex.EncodeToString(id[:]) }

func parseID(text string) (id ID, err error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != len(id) {
		err = fmt.Errorf("%d bytes, want %d", len(b), len(id))
	}
	copy(id[:], b)
	return id, err
}

func newID() (id ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// Owner is who holds, or last held, a log's directory.
type Owner struct {
	Worker      string    `json:"worker"`
	Incarnation string    `json:"incarnation"`
	PID         int       `json:"pid"`
	Since       time.Time `json:"since"`
}

// Identity is what a log's directory says of itself.
type Identity struct {
	Disk  ID
	Owner Owner
}

type diskRecord struct {
	Format  uint32    `json:"format"`
	Disk    string    `json:"disk"`
	Created time.Time `json:"created"`
	CRC     uint32    `json:"crc"`
}

func (d *diskRecord) sum() uint32 {
	return crc32.Checksum(fmt.Appendf(nil, "%d %s %d", d.Format, d.Disk, d.Created.UnixNano()), castagnoli)
}

// lock takes the directory and writes down who has it.
func lockDir(c *Config) (io.Closer, Owner, error) {
	lock, err := c.FS.Lock(filepath.Join(c.Dir, lockFile))
	if errors.Is(err, ErrLocked) {
		if by, ownerErr := ReadOwner(c.FS, c.Dir); ownerErr == nil {
			err = fmt.Errorf("%s: %w by worker %q, incarnation %s, process %d since %s", c.Dir, err, by.Worker, by.Incarnation, by.PID,
				by.Since.Format(time.RFC3339))
		}
	}
	if err != nil {
		return nil, Owner{}, fmt.Errorf("lock log directory: %w", err)
	}
	owner := Owner{Worker: c.Worker, Incarnation: c.Incarnation, PID: os.Getpid(), Since: time.Now().UTC()}
	if owner.Incarnation == "" {
		owner.Incarnation = newID().String()
	}
	data, err := json.Marshal(owner)
	if err == nil {
		err = writeFile(c.FS, filepath.Join(c.Dir, ownerFile), append(data, '\n'))
	}
	if noSpace(err) {
		err = nil // only for people; a full disk must not keep the journal from being read
	}
	if err != nil {
		return nil, Owner{}, errors.Join(err, lock.Close())
	}
	return lock, owner, nil
}

// ReadOwner says who holds, or last held, the log in dir. fsys nil means OS.
func ReadOwner(fsys FS, dir string) (o Owner, err error) {
	if fsys == nil {
		fsys = OS
	}
	data, err := readFile(fsys, filepath.Join(dir, ownerFile), identityLimit)
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	return o, err
}

// readDisk returns the log's id, os.ErrNotExist, ErrCorrupt or ErrVersion.
func readDisk(fsys FS, dir string) (ID, error) {
	name := filepath.Join(dir, diskFile)
	data, err := readFile(fsys, name, identityLimit)
	if err != nil {
		return ID{}, err
	}
	var d diskRecord
	if err := json.Unmarshal(data, &d); err != nil || d.CRC != d.sum() {
		return ID{}, fmt.Errorf("%s: %w", name, ErrCorrupt)
	}
	if d.Format > format {
		return ID{}, &VersionError{File: name, Found: d.Format, Supported: format}
	}
	id, err := parseID(d.Disk)
	if err != nil {
		return ID{}, fmt.Errorf("%s: %w", name, ErrCorrupt)
	}
	return id, nil
}

func writeDisk(fsys FS, dir string, id ID) error {
	d := diskRecord{Format: format, Disk: id.String(), Created: time.Now().UTC()}
	d.CRC = d.sum()
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return writeFile(fsys, filepath.Join(dir, diskFile), append(data, '\n'))
}
