package connect

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
)

func TestWALOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want wal.Config
		err  string
	}{
		{"none", nil, nil, wal.Config{}, ""},
		{"environment", map[string]string{"MILLRACE_WAL_DIR": "/wal", "MILLRACE_WAL_HARD_LIMIT": "8GiB"}, nil,
			wal.Config{Dir: "/wal", Worker: "w", HardLimit: 8 << 30}, ""},
		{"flags override", map[string]string{"MILLRACE_WAL_DIR": "/wal", "MILLRACE_WAL_SOFT_LIMIT": "1GiB"},
			[]string{"--wal", "/other", "--wal-soft-limit", "512MiB"},
			wal.Config{Dir: "/other", Worker: "w", SoftLimit: 512 << 20}, ""},
		{"plain bytes", map[string]string{"MILLRACE_WAL_DIR": "/wal", "MILLRACE_WAL_HARD_LIMIT": "268435456"}, nil,
			wal.Config{Dir: "/wal", Worker: "w", HardLimit: 256 << 20}, ""},
		{"small limit, small segments", nil, []string{"--wal", "/wal", "--wal-hard-limit", "4200000"},
			wal.Config{Dir: "/wal", Worker: "w", HardLimit: 4200000, SegmentSize: 1 << 20}, ""},
		{"smallest segments", nil, []string{"--wal", "/wal", "--wal-hard-limit", "128KiB"},
			wal.Config{Dir: "/wal", Worker: "w", HardLimit: 128 << 10, SegmentSize: 64 << 10}, ""},
		{"too small", nil, []string{"--wal", "/wal", "--wal-hard-limit", "127KiB"}, wal.Config{}, "HardLimit"},
		{"bounds of copies", map[string]string{"MILLRACE_WAL_DIR": "/wal", "MILLRACE_WAL_ASIDE_AGE": "1d"}, []string{"--wal-aside-limit", "64MiB"},
			wal.Config{Dir: "/wal", Worker: "w", AsideLimit: 64 << 20, AsideAge: 24 * time.Hour}, ""},
		{"no age", map[string]string{"MILLRACE_WAL_ASIDE_AGE": "a month"}, nil, wal.Config{},
			`MILLRACE_WAL_ASIDE_AGE: "a month" is not a duration; want a number with its unit, such as 90s, 10m or 1d`},
		{"negative age", map[string]string{"MILLRACE_WAL_DIR": "/wal"}, []string{"--wal-aside-age", "-1h"}, wal.Config{}, "want a duration of at least 1s"},
		{"limit without a directory", nil, []string{"--wal-hard-limit", "1GiB"}, wal.Config{}, "give --wal DIR or set wal.dir (MILLRACE_WAL_DIR)"},
		{"soft above hard", map[string]string{"MILLRACE_WAL_DIR": "/wal"}, []string{"--wal-soft-limit", "2GiB", "--wal-hard-limit", "1GiB"},
			wal.Config{}, "SoftLimit"},
		{"no size", map[string]string{"MILLRACE_WAL_SOFT_LIMIT": "lots"}, nil, wal.Config{}, `MILLRACE_WAL_SOFT_LIMIT: "lots" is no size`},
		{"negative", nil, []string{"--wal-hard-limit", "-1GiB"}, wal.Config{}, "is no size"},
		{"too large", nil, []string{"--wal-hard-limit", "99999999999TiB"}, wal.Config{}, "is no size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := func() (wal.Config, error) {
				o := New()
				flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
				o.AddFlags(flags, true)
				if err := flags.Parse(c.args); err != nil {
					return wal.Config{}, err
				}
				if err := o.Resolve(flags, func(k string) string { return c.env[k] }, true); err != nil {
					return wal.Config{}, err
				}
				return o.Worker.WAL.Config("w")
			}()
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
