package wal

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrClosed means the log or reader was closed.
	ErrClosed = errors.New("log is closed")

	// ErrFailed means a write or sync of the log failed. It is final: what was not acknowledged may or may not be on disk, and
	// nothing more is appended. Close the log and open it again; recovery settles what is there.
	ErrFailed = errors.New("log has failed")

	// ErrNoSpace means the disk has no room for another segment. The housekeeper keeps trying; append again later.
	ErrNoSpace = errors.New("no space for another segment")

	// ErrFull means the hard limit is reached. Release records, or append again when somebody has.
	ErrFull = errors.New("log is at its hard limit")

	// ErrTooLarge means a batch of records can never be appended with this segment size, or a name is too long.
	ErrTooLarge = errors.New("record is too large")

	// ErrLocked means another process, or another Log of this one, holds the directory.
	ErrLocked = errors.New("log directory is locked")

	// ErrVersion means a newer version of this package wrote the log. Nothing was changed.
	ErrVersion = errors.New("log has a newer format")

	// ErrForeign means a file belongs to another log. Nothing was changed.
	ErrForeign = errors.New("file belongs to another log")

	// ErrTrimmed means the records asked for were released.
	ErrTrimmed = errors.New("records are trimmed")

	// ErrCorrupt means acknowledged bytes cannot be read. The error is a *CorruptError, or names a file beside the segments.
	ErrCorrupt = errors.New("log is corrupt")
)

// VersionError says which file has a format this version cannot read. It is an ErrVersion.
type VersionError struct {
	File             string
	Found, Supported uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: format %d found, this version reads up to %d; open it with a newer version", e.File, e.Found, e.Supported)
}

// Is makes the error an ErrVersion.
func (e *VersionError) Is(target error) bool { return target == ErrVersion }

// CorruptError is what a reader meets where acknowledged records cannot be read. It is an ErrCorrupt.
type CorruptError struct{ Range Range }

func (e *CorruptError) Error() string {
	return "corrupt range: " + e.Range.String()
}

// Is makes the error an ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// noSpace says whether err is a full disk or an exhausted quota.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
