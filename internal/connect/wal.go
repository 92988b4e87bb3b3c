package connect

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"millrace/pipeline/wal"
)

// WAL is a worker's directory for commits that Redis cannot take. An empty Dir is none.
type WAL struct {
	Dir       string
	SoftLimit Size // 0: the log's own default
	HardLimit Size // likewise
	// Bounds of the copies of what could not be read; 0: the log's own defaults.
	AsideLimit Size
	AsideAge   time.Duration
}

// WALFromEnv reads the environment through getenv.
func WALFromEnv(getenv func(string) string) (w WAL, err error) {
	w.Dir = getenv(EnvWALDir)
	for name, limit := range map[string]*Size{
		EnvWALSoftLimit: &w.SoftLimit, EnvWALHardLimit: &w.HardLimit, EnvWALAsideLimit: &w.AsideLimit,
	} {
		if text := getenv(name); text != "" {
			if err := limit.Set(text); err != nil {
				return w, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if text := getenv(EnvWALAsideAge); text != "" {
		if err := (*Duration)(&w.AsideAge).Set(text); err != nil {
			return w, fmt.Errorf("%s: %w", EnvWALAsideAge, err)
		}
	}
	return w, nil
}

// AddFlags lets flags override what the environment says.
func (w *WAL) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&w.Dir, "wal", w.Dir,
		"directory on a local disk for commits that Redis cannot take, of this worker alone (or "+EnvWALDir+")")
	flags.Var(&w.SoftLimit, "wal-soft-limit",
		"size of the WAL from which on intake is throttled (or "+EnvWALSoftLimit+"; default 3/4 of the hard limit)")
	flags.Var(&w.HardLimit, "wal-hard-limit", "size of the WAL at which intake is paused (or "+EnvWALHardLimit+"; default 4GiB)")
	flags.Var(&w.AsideLimit, "wal-aside-limit",
		"bytes of copies of unreadable parts of the WAL to keep in its folder corrupt; the oldest go first, "+
			"those of records nobody has decided about never (or "+EnvWALAsideLimit+"; default 1GiB)")
	flags.Var((*Duration)(&w.AsideAge), "wal-aside-age", "how long to keep such copies at most (or "+EnvWALAsideAge+"; default 30d)")
}

// Config says how to open the directory for a worker. It is the zero value when there is none.
func (w WAL) Config(worker string) (wal.Config, error) {
	if w.Dir == "" {
		if w.SoftLimit != 0 || w.HardLimit != 0 || w.AsideLimit != 0 || w.AsideAge != 0 {
			return wal.Config{}, fmt.Errorf("WAL limits without a directory: give --wal DIR or set %s", EnvWALDir)
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

// Size is a number of bytes, written as such or with one of KiB, MiB, GiB, TiB.
type Size int64

var units = []struct {
	name  string
	shift uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"", 0}}

// String implements pflag.Value.
func (s *Size) String() string {
	if *s == 0 {
		return ""
	}
	for _, u := range units {
		if int64(*s)%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(*s)>>u.shift, 10) + u.name
		}
	}
	return ""
}

// Type implements pflag.Value.
func (s *Size) Type() string { return "size" }

// Set implements pflag.Value.
func (s *Size) Set(text string) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n <= 0 || n > (1<<62)>>u.shift {
			break
		}
		*s = Size(n << u.shift)
		return nil
	}
	return fmt.Errorf("%q is no size; want bytes, or a number with KiB, MiB, GiB or TiB, such as 4GiB", text)
}
