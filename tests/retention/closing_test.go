package retention

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// TestClosingCost says what the first revision of a window costs, and what a late event of one key does to it: with the
// content in pages, and with plain rows beside them.
func TestClosingCost(t *testing.T) {
	addrs, _ := brokers(t)
	pages := measureClosing(t, addrs, spec.LayoutPages)
	rows := measureClosing(t, addrs, spec.LayoutRows)
	ratio := func(of func(*closingCost) float64) float64 { return of(&rows) / of(&pages) }
	t.Logf("rows ÷ pages, first revision: time %.2f, processor %.2f, Redis %.2f, its memory %.2f; late event: processor %.2f, Redis %.2f",
		ratio(func(c *closingCost) float64 { return float64(c.first.wall) }),
		ratio(func(c *closingCost) float64 { return float64(c.first.process) }),
		ratio(func(c *closingCost) float64 { return float64(c.first.redis) }),
		ratio(func(c *closingCost) float64 { return float64(c.bytes) }),
		ratio(func(c *closingCost) float64 { return float64(c.late.process) }),
		ratio(func(c *closingCost) float64 { return float64(c.late.redis) }))
}

// closingCost is what two revisions of a window cost.
type closingCost struct {
	first, late cost
	bytes       int64 // that Redis holds of the first
}

func measureClosing(t *testing.T, addrs []string, layout string) (c closingCost) {
	w := newWorld(t, addrs, time.Hour, *keys, nil)
	w.spec.Results.Redis = &spec.RedisResults{Layout: layout}
	closer := w.closer(w.store, time.Now, 5000)
	w.foldMinute(0, *keys)
	w.foldMinute(1, lanes)
	read, before := w.redisSays("stats", "total_net_output_bytes"), w.redisSays("memory", "used_memory")
	w.closeDue(closer, &c.first)
	first := w.redisSays("stats", "total_net_output_bytes") - read
	c.bytes = w.redisSays("memory", "used_memory") - before

	w.lanes[0].fold(0, 1)
	require.NoError(t, w.lanes[0].save(w.ctx))
	read = w.redisSays("stats", "total_net_output_bytes")
	w.closeDue(closer, &c.late)
	second := w.redisSays("stats", "total_net_output_bytes") - read

	rows, err := ledger.Latest(w.ctx, w.kafka, w.spec.Name)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, []int64{2, int64(*keys), int64(*keys) + 1}, []int64{int64(rows[0].Revision), rows[0].Keys, rows[0].Events})
	if *keys > 100 {
		require.Equal(t, int64(1), rows[0].Changed)
	}
	plain, err := w.store.ReadRows(w.ctx, store.WindowID{Pipeline: w.spec.Name, Window: rows[0].Window, Start: rows[0].Start}, nil)
	require.NoError(t, err)
	if want := (store.RowsRead{Values: []string{}}); layout == spec.LayoutPages {
		require.Equal(t, want, plain)
	} else {
		want.Revision, want.Rows = 2, int64(*keys)
		require.Equal(t, want, plain)
	}
	t.Logf("%s: %d keys, first revision: %v; %.0f rows/s; %d KiB from Redis; Redis holds %d bytes a row", layout, *keys, c.first,
		float64(*keys)/c.first.wall.Seconds(), first>>10, c.bytes/int64(*keys))
	t.Logf("%s: one late event: %v; %d row published; %d KiB from Redis", layout, c.late, rows[0].Changed, second>>10)
	t.Logf("%s: late ÷ first: time %.4f, processor %.4f, Redis %.4f, bytes from Redis %.4f", layout,
		float64(c.late.wall)/float64(c.first.wall), float64(c.late.process)/float64(c.first.process),
		float64(c.late.redis)/float64(c.first.redis), float64(second)/float64(first))
	return c
}

// redisSays is a number in a section of what the redis-server says of itself.
func (w *world) redisSays(section, name string) int64 {
	w.t.Helper()
	text, err := w.redis.Info(w.ctx, section).Result()
	require.NoError(w.t, err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			require.NoError(w.t, err)
			return n
		}
	}
	require.Fail(w.t, "Redis does not say "+name)
	return 0
}
