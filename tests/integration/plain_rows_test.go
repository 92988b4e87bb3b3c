package integration

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/tests/rig"
)

// plainHash is what a program that knows the name of a key reads in one call: the revision, and the rows.
func plainHash(t *testing.T, client *redis.Client, key string) (revision int, rows map[string]string) {
	t.Helper()
	rows, err := client.HGetAll(context.Background(), key).Result()
	require.NoError(t, err)
	if len(rows) == 0 {
		return 0, nil
	}
	revision, err = strconv.Atoi(rows["revision"])
	require.NoError(t, err)
	delete(rows, "revision")
	delete(rows, "attempt")
	return revision, rows
}

// What another program reads from Redis is at any time the whole content of the revision that it names, and in the end that of
// the latest one: the rows that the oracle expects.
func TestPlainRowsAreTheResults(t *testing.T) {
	t.Parallel()
	const text = `
name: plain
source: {topics: [plain], format: json}
event:
  key: [origin]
  time: {field: scheduled, unit: s}
aggregates:
  flights:   {func: count}
  delay_sum: {func: sum, field: delay, type: int}
  last_to:   {func: last, field: destination}
windows:
  - {name: daily, size: 24h}
  - {name: hourly, size: 1h}
watermark: {out_of_orderness: 30m, idle_timeout: 0s}
allowed_lateness: 6h
results:     {kafka: {topic: plain.results}, redis: {layout: rows}}
late:        {kafka: {topic: plain.late}}
dead_letter: {kafka: {topic: plain.dead}}
lane: {commit_interval: 100ms}
`
	_, lines := rig.Flights(t, 1_500)
	lines = lines[:min(len(lines), 1_500)]
	own := rig.StartRedis(t)
	client := redis.NewClient(&redis.Options{Addr: own.Addr})
	t.Cleanup(func() { client.Close() })
	w := newWorld(t, rig.Servers{Redis: own.Addr})
	p := w.newPipeline(text, 3)
	h := p.hotPath()
	feed := p.Trickle(lines, len(lines)/3)

	seen := map[string]ledger.Checksum{} // by window and revision
	look := func() {
		keys, err := client.Keys(t.Context(), "mr:{*}:rows").Result()
		require.NoError(t, err)
		for _, key := range keys {
			revision, rows := plainHash(t, client, key)
			var sum ledger.Checksum
			for key, values := range rows {
				sum.AddContent(ledger.Content{Key: []byte(key), Values: []byte(values)})
			}
			name := fmt.Sprintf("%s %d", key, revision)
			if before, ok := seen[name]; ok {
				require.Equal(t, before.String(), sum.String(), name)
			}
			if revision > 0 {
				seen[name] = sum
			}
		}
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for rounds, fed := 0, false; !fed; rounds++ {
		select {
		case <-feed.Done:
			fed = true
		case <-tick.C:
		}
		_, err := h.closer.Round(t.Context())
		require.NoError(t, err)
		look()
		if rounds == 10 { // somebody deletes what Redis shows of every window
			keys, err := client.Keys(t.Context(), "mr:{*}:v:*").Result()
			require.NoError(t, err)
			if len(keys) > 0 {
				require.NoError(t, client.Del(t.Context(), keys...).Err())
			}
		}
	}
	feed.Finish()
	h.finish()
	look()
	p.RequireResults()
	h.verify()

	rows, latest := p.Ledger(), p.Latest()
	require.NotEmpty(t, rows)
	revised := 0
	for i := range rows {
		row := &rows[i]
		key := fmt.Sprintf("mr:{%s/%s/%d}:rows", p.Spec.Name, row.Window, row.Start)
		prefix := ledger.NewResultPrefix(p.Spec.Name, row.Window, row.Start, row.End, row.Edition)
		want := map[string]string{}
		for _, line := range latest {
			var result ledger.ResultRow
			if bytes.HasPrefix(line, prefix) {
				require.NoError(t, result.UnmarshalJSON(line))
				want[string(result.Key)] = string(result.Values)
			}
		}
		revision, got := plainHash(t, client, key)
		require.Equal(t, row.Revision, revision, key)
		require.Equal(t, want, got, key)
		revised += row.Revision - 1
	}
	require.Positive(t, revised)
	checked := 0
	require.NoError(t, ledger.Read(t.Context(), p.Cluster, p.Spec.Name, func(rec ledger.Record) error {
		if rec.Row == nil {
			return nil
		}
		name := fmt.Sprintf("mr:{%s/%s/%d}:rows %d", p.Spec.Name, rec.Row.Window, rec.Row.Start, rec.Row.Revision)
		if sum, ok := seen[name]; ok {
			checked++
			require.Equal(t, rec.Row.Checksum, sum.String(), name)
		}
		return nil
	}))
	t.Logf("%d windows, %d later revisions; %d of the revisions were seen in Redis", len(rows), revised, len(seen))
	require.GreaterOrEqual(t, checked, len(seen))
	require.Greater(t, len(seen), len(rows))
}
