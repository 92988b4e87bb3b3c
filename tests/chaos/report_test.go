package chaos

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	r := summarise([]*Outcome{
		{Seed: 1, Exact: true, Events: 100, Faults: map[Kind]int{WorkerKill: 2, RedisFlush: 1}},
		{Seed: 7, Events: 50, Lost: 3, Duplicated: 1, Recounted: 12, Refused: 2, Why: "2 era", Faults: map[Kind]int{WorkerKill: 1}, Logs: "logs/seed-7"},
	})
	require.False(t, r.Exact)
	require.Equal(t, []uint64{7}, r.Failed)
	var out strings.Builder
	require.NoError(t, r.write(&out))
	require.Regexp(t, `(?m)^worker-kill +3$`, out.String())
	require.Contains(t, out.String(), "make chaos SEEDS=7  (logs: logs/seed-7)")
	require.True(t, strings.HasSuffix(out.String(), "\nchaos: 2 seeds, 4 faults, 150 events, 3 lost, 1 duplicated, 12 windows recounted, 2 refused\n"), "%s", out.String())
	require.Contains(t, r.Seeds[1].line(), ", 1 duplicated, 12 windows recounted, 2 refused (2 era)")
	require.False(t, summarise(nil).Exact, "nothing was shown")
	require.True(t, summarise(r.Seeds[:1]).Exact)
}

func TestCount(t *testing.T) {
	row := func(key, n string) string {
		return `{"window":"hour","start":"2023-11-14T12:00:00Z","key":{"k":"` + key + `"},"values":{"n":` + n + "}}\n"
	}
	for _, c := range []struct {
		name             string
		want, got        string
		lost, duplicated int64
	}{
		{"equal", row("a", "3") + row("b", "1"), row("a", "3") + row("b", "1"), 0, 0},
		{"too few", row("a", "3"), row("a", "1"), 2, 0},
		{"too many", row("a", "3"), row("a", "4"), 0, 1},
		{"a row is missing", row("a", "3") + row("b", "5"), row("a", "3"), 5, 0},
		{"a row is too much", row("a", "3"), row("a", "3") + row("b", "5"), 0, 5},
		{"one window's loss is not another's surplus", row("a", "3") + row("b", "1"), row("a", "1") + row("b", "3"), 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &Outcome{}
			require.NoError(t, o.count([]byte(c.want), []byte(c.got)))
			require.Equal(t, c.lost, o.Lost)
			require.Equal(t, c.duplicated, o.Duplicated)
		})
	}
	require.Error(t, (&Outcome{}).count([]byte("{"), nil))
}
