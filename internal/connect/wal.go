package connect

import (
	"errors"
	"time"

	"millrace/internal/settings"
	"millrace/pipeline/wal"
)

// WAL is a worker's directory for commits that Redis cannot take. An empty Dir is none.
type WAL struct {
	Dir       string
	SoftLimit settings.Size // 0: the log's own default
	HardLimit settings.Size // likewise
	// Bounds of the copies of what could not be read; 0: the log's own defaults.
	AsideLimit settings.Size
	AsideAge   time.Duration
}

// Config says how to open the directory for a worker. It is the zero value when there is none.
func (w WAL) Config(worker string) (wal.Config, error) {
	if w.Dir == "" {
		if w.SoftLimit != 0 || w.HardLimit != 0 || w.AsideLimit != 0 || w.AsideAge != 0 {
			return wal.Config{}, errors.New("WAL limits without a directory: give --wal DIR or set wal.dir (MILLRACE_WAL_DIR)")
		}
		return wal.Config{}, nil
	}
	cfg := wal.Config{
		Dir: w.Dir, Worker: worker, SoftLimit: int64(w.SoftLimit), HardLimit: int64(w.HardLimit),
		AsideLimit: int64(w.AsideLimit), AsideAge: w.AsideAge,
	}
	if part := cfg.HardLimit / leastSegments &^ (wal.MinSegmentSize - 1); 0 < cfg.HardLimit && part < usualSegment {
		cfg.SegmentSize = max(part, wal.MinSegmentSize)
	}
	return cfg, cfg.Validate()
}

// A WAL of a small hard limit has small segments, so that there are still some to release one by one.
const (
	leastSegments = 4
	usualSegment  = 64 << 20 // the log's own default
)
