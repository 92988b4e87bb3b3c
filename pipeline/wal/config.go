package wal

import (
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/measure"
)

// Backend is how bytes reach the disk.
type Backend string

const (
	// Write uses pwrite and fdatasync.
	Write Backend = "write"
	// Mmap stores into a shared mapping and syncs it with msync. The file stays fully allocated, and a store that faults
	// nevertheless is an error, not the end of the process.
	Mmap Backend = "mmap"
)

// Bounds of the format and of the configuration, in bytes.
const (
	MinSegmentSize = 64 << 10
	MaxSegmentSize = 1 << 30
	MaxStream      = 1024
	MaxChain       = 255
)

// maxStaged is how many bytes may wait for the syncer before appenders wait for it.
const maxStaged = 4 << 20

// spareFiles is how many released segments are kept for recycling; further ones are deleted.
const spareFiles = 2

// Config says where a log lives and how large it may grow. The zero value of everything but Dir is its default.
type Config struct {
	// Dir is the log's directory, created when missing. Nothing else may write into it.
	Dir string
	// Worker names who holds the directory; it stands in the lock's owner file. Default "".
	Worker string
	// Incarnation tells this holder from its predecessors under the same name. Default: random.
	Incarnation string
	// SegmentSize is the size of new segments in bytes, a multiple of 4096. Default 64 MiB. A batch of records must fit
	// into half a segment.
	SegmentSize int64
	// SoftLimit and HardLimit bound the bytes of records not released yet (counted by whole segments once a segment is
	// full). At the hard limit appends fail with ErrFull. The directory may be larger by three segments. Defaults 3 and 4 GiB.
	SoftLimit, HardLimit int64
	// Backend is how bytes reach the disk. Default DefaultBackend.
	Backend Backend
	// MarkAfter is how long the log is idle before the tail position is written into the segment's header, which lets recovery
	// prove that everything before it was acknowledged. Default 100 ms.
	MarkAfter time.Duration
	// RetryAfter is how long the housekeeper waits after it could not prepare a segment. Default 1 s.
	RetryAfter time.Duration
	// AsideLimit and AsideAge bound the copies of unreadable ranges and torn tails beside the segments, in bytes and in time
	// since they were written; see SweepAside. Defaults 1 GiB and 30 days.
	AsideLimit int64
	AsideAge   time.Duration
	// FS is the file system. Default OS.
	FS FS
	// Calls counts appends and syncs. Nil: nobody does.
	Calls *measure.Server
}

// DefaultBackend is what docs/wal-format.md's measurements favour.
const DefaultBackend = Write

func (c Config) withDefaults() Config {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.SegmentSize, 64<<20)
	def(&c.HardLimit, max(4<<30, 4*c.SegmentSize))
	def(&c.SoftLimit, c.HardLimit/4*3)
	def(&c.AsideLimit, 1<<30)
	if c.AsideAge == 0 {
		c.AsideAge = 30 * 24 * time.Hour
	}
	if c.Backend == "" {
		c.Backend = DefaultBackend
	}
	if c.MarkAfter == 0 {
		c.MarkAfter = 100 * time.Millisecond
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = time.Second
	}
	if c.FS == nil {
		c.FS = OS
	}
	return c
}

// Validate reports every option that cannot be.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(option string, value any, want string) {
		errs = append(errs, fmt.Errorf("wal: %s is %v; want %s", option, value, want))
	}
	if c.Dir == "" {
		bad("Dir", `""`, "a directory")
	}
	if c.SegmentSize < MinSegmentSize || c.SegmentSize > MaxSegmentSize || c.SegmentSize%pageSize != 0 {
		bad("SegmentSize", c.SegmentSize, fmt.Sprintf("a multiple of %d from %d to %d bytes", pageSize, MinSegmentSize, MaxSegmentSize))
	}
	if c.HardLimit < 2*c.SegmentSize {
		bad("HardLimit", c.HardLimit, "at least two segments")
	}
	if c.SoftLimit < 0 || c.SoftLimit > c.HardLimit {
		bad("SoftLimit", c.SoftLimit, "at most HardLimit")
	}
	if c.Backend != Write && c.Backend != Mmap {
		bad("Backend", c.Backend, fmt.Sprintf("%q or %q", Write, Mmap))
	}
	if c.MarkAfter < 0 {
		bad("MarkAfter", c.MarkAfter, "a positive duration")
	}
	if c.RetryAfter < 0 {
		bad("RetryAfter", c.RetryAfter, "a positive duration")
	}
	if c.AsideLimit < 0 {
		bad("AsideLimit", c.AsideLimit, "a number of bytes")
	}
	if c.AsideAge < 0 {
		bad("AsideAge", c.AsideAge, "a positive duration")
	}
	return errors.Join(errs...)
}
