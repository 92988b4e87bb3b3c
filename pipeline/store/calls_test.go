package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/measure"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// Calls are counted by what they are called here and by what became of them: scripts by their names, a pipeline by what it holds.
func TestCallsAreCounted(t *testing.T) {
	process := measure.NewProcess()
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{storetest.StartRedis(t, "--enable-debug-command", "local")}
	cfg.Calls = process.CallsTo("redis")
	client, err := store.NewClient(cfg)
	require.NoError(t, err)
	defer client.Close()
	s := store.New(client)
	require.NoError(t, s.Check(ctx))
	require.NoError(t, s.Probe(ctx))
	require.NoError(t, s.Probe(ctx))

	id := store.LaneID{Pipeline: "p", Topic: "t"}
	_, _, err = s.Acquire(ctx, id, "state", "", "1-a")
	require.NoError(t, err)
	call := store.Call{Next: store.Cursor{Seq: 1}, Meta: &store.MetaUpdate{Offset: 1}}
	_, err = s.Apply(ctx, id, "state", "1-a", []store.Call{call})
	require.NoError(t, err)

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	require.Error(t, client.Do(short, "debug", "sleep", "0.3").Err())
	given, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, client.Get(given, "x").Err())
	require.Error(t, client.HGet(ctx, "mr:format", "x").Err(), "a wrong type")
	require.NoError(t, client.ConfigSet(ctx, "min-replicas-to-write", "1").Err())
	require.Error(t, s.Probe(ctx))

	all := process.Calls.All()
	at := func(operation string, outcome measure.Outcome) uint64 {
		c := all[measure.Call{Server: "redis", Operation: operation, Outcome: outcome}].Counts()
		return c.Count
	}
	require.NotZero(t, at("apply", measure.OK))
	require.NotZero(t, at("probe", measure.OK))
	require.EqualValues(t, 1, at("probe", measure.Refused))
	require.NotZero(t, at("acquire", measure.OK))
	require.EqualValues(t, 1, at("debug", measure.Timeout))
	require.EqualValues(t, 1, at("hget", measure.Failed))
	require.NotZero(t, at("connect", measure.OK))
	require.Zero(t, at("get", measure.Failed), "its caller gave it up")
	for call := range all {
		require.NotEqual(t, "script", call.Operation)
	}
}

func TestServerMemory(t *testing.T) {
	client := storetest.Client(t, storetest.StartRedis(t), false)
	s := store.New(client)
	m, err := s.ServerMemory(ctx)
	require.NoError(t, err)
	require.Greater(t, m.Used, int64(100_000))
	require.Zero(t, m.Limit)
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "50mb").Err())
	m, err = s.ServerMemory(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 50<<20, m.Limit)
}
