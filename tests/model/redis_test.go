package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The model's Redis answers every command of whole runs as miniredis does. What Redis forgets is left out: miniredis
// cannot.
func TestRedisAnswersAsMiniredis(t *testing.T) {
	other := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: other.Addr(), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { client.Close() })
	lab := newLab(t)
	compared, passed := map[string]int{}, int64(0)
	lab.server.before = func(now int64) {
		other.FastForward(time.Duration(now-passed) * time.Millisecond)
		passed = now
	}
	lab.server.mirror = func(args []string, reply any, err error) {
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			return // the other one was not told to forget
		}
		if args[0] == "memory" {
			return // each server has its own idea of what a hash takes
		}
		in := make([]any, len(args))
		for i := range args {
			in[i] = args[i]
		}
		want, wantErr := client.Do(context.Background(), in...).Result()
		if errors.Is(wantErr, redis.Nil) {
			want, wantErr = nil, nil
		}
		require.NoError(t, wantErr, "%v", args)
		require.NoError(t, err, "%v", args)
		require.Equal(t, plain(args[0], want), plain(args[0], reply), "%v", args)
		compared[args[0]]++
	}
	for seed := range uint64(8) {
		other.FlushAll()
		passed = 0
		require.Empty(t, lab.Run(Options{Seed: seed + 1, Sky: Crashes, Steps: 400}).Wrong)
	}
	require.Greater(t, compared["evalsha"], 500)
	for _, command := range []string{"hgetall", "hmget", "hkeys", "zrangebyscore", "hscan"} {
		require.Greater(t, compared[command], 50, command)
	}
}

// plain makes replies comparable: pairs of a hash come in any order.
func plain(name string, reply any) any {
	list, ok := reply.([]any)
	if !ok {
		return fmt.Sprint(reply)
	}
	out := make([]string, 0, len(list))
	for _, item := range list {
		out = append(out, fmt.Sprint(plain(name, item)))
	}
	if name != "hmget" {
		slices.Sort(out)
	}
	return out
}
