package storetest

import (
	"context"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// shared are the servers that all tests of a binary use one after the other, because a Cluster takes two seconds to start.
var shared struct {
	keep           bool
	redis, cluster *server
}

// Shared wraps the argument of TestMain: Each then starts each kind of server once, empties it for every test, and stops
// it after the last one. Without it every test starts its own.
func Shared(m interface{ Run() int }) interface{ Run() int } { return sharedRun{m} }

type sharedRun struct{ m interface{ Run() int } }

func (r sharedRun) Run() int {
	shared.keep = true
	defer func() {
		for _, srv := range []*server{shared.redis, shared.cluster} {
			if srv != nil {
				srv.stop()
				os.RemoveAll(srv.dir)
			}
		}
	}()
	return r.m.Run()
}

// sharedClient returns a client of an emptied shared server, which it starts on first use.
func sharedClient(t *testing.T, srv **server, cluster bool) redis.UniversalClient {
	if !shared.keep {
		if cluster {
			return Client(t, StartCluster(t), true)
		}
		return Client(t, StartRedis(t), false)
	}
	if *srv == nil {
		dir, err := os.MkdirTemp("", "storetest")
		require.NoError(t, err)
		start := launch
		if cluster {
			start = launchCluster
		}
		*srv = start(t, dir)
	}
	client := Client(t, (*srv).addr, cluster)
	require.NoError(t, client.FlushAll(context.Background()).Err())
	require.NoError(t, client.ScriptFlush(context.Background()).Err())
	return client
}
