package dev

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func runRedis(t *testing.T) *redis.Client {
	t.Helper()
	r, err := StartRedis(t.Context(), RedisConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRedisStartupChecks(t *testing.T) {
	c := runRedis(t)
	ctx := t.Context()
	policy, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"maxmemory-policy": "noeviction"}, policy)
	all, err := c.ConfigGet(ctx, "maxmemory*").Result()
	require.NoError(t, err)
	require.Len(t, all, 2)
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		info, err := c.Info(ctx, section).Result()
		require.NoError(t, err)
		require.Contains(t, info, "# ")
	}
	info, err := c.Info(ctx).Result()
	require.NoError(t, err)
	require.Contains(t, info, "role:master")
	clients, err := c.Info(ctx, "clients").Result()
	require.NoError(t, err)
	require.Contains(t, clients, "connected_clients")
	require.Error(t, c.ConfigSet(ctx, "maxmemory", "1").Err())
}

func TestRedisScripts(t *testing.T) {
	c := runRedis(t)
	ctx := t.Context()
	require.ErrorContains(t, c.EvalSha(ctx, strings.Repeat("0", 40), []string{"k"}).Err(), "NOSCRIPT")
	fenced := redis.NewScript(`
		if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
			return redis.error_reply('FENCED by another owner')
		end
		redis.call('HSET', KEYS[1], 'offset', ARGV[2])
		return {tonumber(ARGV[2]), redis.call('HGET', KEYS[1], 'owner'), false}`)
	require.NoError(t, c.HSet(ctx, "{l}:meta", "owner", "7:abc").Err())
	err := fenced.Run(ctx, c, []string{"{l}:meta"}, "6:zzz", 10).Err()
	require.EqualError(t, err, "FENCED by another owner")
	got, err := fenced.Run(ctx, c, []string{"{l}:meta"}, "7:abc", 10).Result()
	require.NoError(t, err)
	require.Equal(t, []any{int64(10), "7:abc", nil}, got)
}

func TestRedisScriptSetsManyBinaryFields(t *testing.T) {
	c := runRedis(t)
	ctx := t.Context()
	const fields = 1000
	set := redis.NewScript(`
		for i = 1, #ARGV, 400 do
			redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 399, #ARGV)))
		end
		return redis.call('HLEN', KEYS[1])`)
	var argv []any
	for i := range fields {
		argv = append(argv, fmt.Sprintf("key\x00%d", i), []byte{0, 0xff, 0x80, '\r', '\n', byte(i)})
	}
	n, err := set.Run(ctx, c, []string{"{l}:s"}, argv...).Int()
	require.NoError(t, err)
	require.Equal(t, fields, n)
	all, err := c.HGetAll(ctx, "{l}:s").Result()
	require.NoError(t, err)
	require.Equal(t, string([]byte{0, 0xff, 0x80, '\r', '\n', 3}), all["key\x003"])
	var seen int
	iter := c.HScan(ctx, "{l}:s", 0, "", 100).Iterator()
	for iter.Next(ctx) {
		seen++
	}
	require.NoError(t, iter.Err())
	require.Equal(t, 2*fields, seen)
}

func TestRedisScriptLibraries(t *testing.T) {
	c := runRedis(t)
	for name, want := range map[string]bool{
		"cjson": true, "cjson.encode": true, "redis.sha1hex": true, "redis.status_reply": true, "redis.pcall": true, "table.concat": true,
		"math.min": true, "string.format": true, "cmsgpack": false, "struct": false, "bit": false,
	} {
		have, err := c.Eval(t.Context(), `
			local v = _G
			for part in string.gmatch(ARGV[1], '[%w_]+') do
				v = rawget(v, part)
				if v == nil then return 0 end
			end
			return 1`, nil, name).Bool()
		require.NoError(t, err, name)
		require.Equal(t, want, have, name)
	}
}

func TestRedisExpiryFollowsTheClock(t *testing.T) {
	c := runRedis(t)
	ctx := t.Context()
	require.NoError(t, c.HSet(ctx, "h", "f", 1).Err())
	require.NoError(t, c.PExpire(ctx, "h", 50*time.Millisecond).Err())
	ttl, err := c.PTTL(ctx, "h").Result()
	require.NoError(t, err)
	require.Positive(t, ttl)
	require.Eventually(t, func() bool { return c.Exists(ctx, "h").Val() == 0 }, patience, 5*time.Millisecond)
	require.NoError(t, c.HSet(ctx, "keep", "f", 1).Err())
	ttl, err = c.TTL(ctx, "keep").Result()
	require.NoError(t, err)
	require.Equal(t, time.Duration(-1), ttl)
}

func TestRedisSortedSetsAndUnlink(t *testing.T) {
	c := runRedis(t)
	ctx := t.Context()
	require.NoError(t, c.ZAdd(ctx, "{l}:slices", redis.Z{Score: 3600, Member: "3600:0:0"}, redis.Z{Score: 7200, Member: "3600:3600:0"}).Err())
	due, err := c.ZRangeArgs(ctx, redis.ZRangeArgs{Key: "{l}:slices", ByScore: true, Start: "-inf", Stop: "3600"}).Result()
	require.NoError(t, err)
	require.Equal(t, []string{"3600:0:0"}, due)
	require.NoError(t, c.ZRem(ctx, "{l}:slices", "3600:0:0").Err())
	n, err := c.Unlink(ctx, "{l}:slices", "none").Result()
	require.NoError(t, err)
	require.Equal(t, int64(1), n)
}

func TestRedisKeepsItsKeysFromCloseToStart(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	open := func() (*Redis, *redis.Client) {
		r, err := StartRedis(ctx, RedisConfig{DataDir: dir})
		require.NoError(t, err)
		return r, redis.NewClient(&redis.Options{Addr: r.Addr()})
	}
	r, c := open()
	binary := string([]byte{0, 0xff, 1})
	require.NoError(t, c.HSet(ctx, "h", "a", 1, binary, binary).Err())
	require.NoError(t, c.ZAdd(ctx, "z", redis.Z{Score: 1.5, Member: "m"}).Err())
	require.NoError(t, c.Set(ctx, "s", "v", time.Hour).Err())
	_, err := StartRedis(ctx, RedisConfig{DataDir: dir})
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, c.Close())
	require.NoError(t, r.Close())
	require.NoError(t, r.Close(), "closing twice is harmless")

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = StartRedis(ctx, RedisConfig{DataDir: dir, Port: taken.Addr().(*net.TCPAddr).Port})
	require.ErrorContains(t, err, "choose another port")
	require.FileExists(t, snapshotFile(dir), "a start that failed loses nothing")

	r, c = open()
	defer r.Close()
	defer c.Close()
	hash, err := c.HGetAll(ctx, "h").Result()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1", binary: binary}, hash)
	score, err := c.ZScore(ctx, "z", "m").Result()
	require.NoError(t, err)
	require.Equal(t, 1.5, score)
	ttl, err := c.TTL(ctx, "s").Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
	require.NoFileExists(t, snapshotFile(dir), "a crash must not bring back what this start has read")
}

func TestRedisRefusesADamagedSnapshot(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(snapshotFile(dir), []byte("not a snapshot"), 0o644))
	_, err := StartRedis(t.Context(), RedisConfig{DataDir: dir})
	require.ErrorContains(t, err, "remove it to start empty")
	require.FileExists(t, snapshotFile(dir))
}
