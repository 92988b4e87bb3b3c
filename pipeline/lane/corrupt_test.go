package lane

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/journal"
)

// What a running lane cannot read of its journal is read again from Kafka.
func TestCorruptJournalUnderARunningLane(t *testing.T) {
	c := launch(t, 33, 5000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.overflow(t)
	c.spoil(bytes.Index)
	c.gate.shut.Store(false)
	err := <-c.done
	c.done <- err
	require.ErrorIs(t, err, journal.ErrBroken)
	require.Less(t, c.Status().Committed, int64(3000))
	next := start(t, c.log, c.store, c.redis, func(d *Deps) { d.Open, d.Journal, d.Side = c.tap.open, c.journal, c.side })
	next.side = c.side
	c.bench = next
	c.finish(t)
	require.NotZero(t, c.balanced(t).Superseded.Commits)
}

// overflow lets records 1000 to 3000 through, commit by commit, while all of them go to the journal.
func (c *course) overflow(t *testing.T) {
	t.Helper()
	c.gate.shut.Store(true)
	for upto := int64(1100); upto <= 3000; upto += 100 {
		c.flow(t, upto)
	}
}

// spoil flips a bit of a journalled record: find says where in a segment its key stands.
func (c *course) spoil(find func(segment, key []byte) int) {
	for _, name := range c.fs.Files() {
		at := find(c.fs.Bytes(name), []byte(`"key-7"`))
		if strings.HasSuffix(name, ".seg") && at > 0 {
			c.fs.Mutate(name, func(b []byte) []byte {
				b[at] ^= 1
				return b
			})
			return
		}
	}
}

// imageOf copies what Redis holds; the answer brings it back.
func imageOf(t *testing.T, redis *miniredis.Miniredis) (back func()) {
	t.Helper()
	hashes, sets := make(map[string][]string), make(map[string]map[string]float64)
	for _, key := range redis.Keys() {
		switch redis.Type(key) {
		case "hash":
			fields, err := redis.HKeys(key)
			require.NoError(t, err)
			for _, f := range fields {
				hashes[key] = append(hashes[key], f, redis.HGet(key, f))
			}
		case "zset":
			set, err := redis.SortedSet(key)
			require.NoError(t, err)
			sets[key] = set
		default:
			require.Fail(t, "a type this does not copy", "%s: %s", key, redis.Type(key))
		}
	}
	return func() {
		redis.FlushAll()
		for key, fields := range hashes {
			redis.HSet(key, fields...)
		}
		for key, set := range sets {
			for member, score := range set {
				_, err := redis.ZAdd(key, score, member)
				require.NoError(t, err)
			}
		}
	}
}

// Two faults at once: Redis has forgotten acknowledged writes, and what the journal held meanwhile cannot be read. What Redis still
// has is where the lane starts again; Kafka has the rest.
func TestCorruptJournalAndLostWrites(t *testing.T) {
	c := launch(t, 35, 5000)
	c.flow(t, 500)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 500 })
	back := imageOf(t, c.redis)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.overflow(t)
	c.spoil(bytes.LastIndex)
	back()
	c.gate.shut.Store(false)
	err := <-c.done
	c.done <- err
	require.ErrorIs(t, err, journal.ErrBroken)
	meta, _, err := c.store.ReadMeta(context.Background(), testLane)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(meta.Owner), "2:"), "it had begun to write its memory again: %s", meta.Owner)
	require.Equal(t, int64(500), meta.Offset)
	next := start(t, c.log, c.store, c.redis, func(d *Deps) { d.Open, d.Journal, d.Side = c.tap.open, c.journal, c.side })
	next.side = c.side
	c.bench, c.twice = next, true
	c.finish(t)
	require.Zero(t, c.Status().Unsent)
}

// The same with a Redis that is empty: the lane alone has the state, and keeps it. Nothing but the side records of what cannot be
// read can be missing, and it counts that.
func TestCorruptJournalAndEmptyRedis(t *testing.T) {
	for name, find := range map[string]func(segment, key []byte) int{"first": bytes.Index, "last": bytes.LastIndex} {
		t.Run(name, func(t *testing.T) {
			c := launch(t, 36, 5000)
			c.flow(t, 1000)
			c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
			c.overflow(t)
			c.spoil(find)
			c.redis.FlushAll()
			c.gate.shut.Store(false)
			c.tap.let(c.all())
			c.wait(t, "all committed", func(s Status) bool { return s.Committed == c.all() && s.JournalCommits == 0 })
			require.Equal(t, int64(1), c.Status().Unsent)
			require.Equal(t, 1, c.Status().Reseeds)
			require.NoError(t, c.stop(t))
			want := reference(t, c.tap.records)
			c.requireExact(t, want)
			all, got := places(sidesOf(want)), places(c.side.records)
			require.Subset(t, all, got)
			require.Less(t, len(got), len(all), "one record was not read")
			require.Greater(t, len(got), len(all)-100, "its neighbours were")
			c.balanced(t)
		})
	}
}
