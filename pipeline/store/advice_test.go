package store

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// fakeServer says what stands here of itself; "" is nothing, and of its settings a refusal.
type fakeServer struct{ backlog, defrag string }

func (f fakeServer) Info(ctx context.Context, section ...string) *redis.StringCmd {
	cmd := redis.NewStringCmd(ctx, "info", section[0])
	cmd.SetVal("# Replication\r\nrole:master\r\n")
	if f.backlog != "" {
		cmd.SetVal(cmd.Val() + "repl_backlog_size:" + f.backlog + "\r\n")
	}
	return cmd
}

func (f fakeServer) ConfigGet(ctx context.Context, parameter string) *redis.MapStringStringCmd {
	cmd := redis.NewMapStringStringCmd(ctx, "config", "get", parameter)
	if f.defrag == "" {
		cmd.SetErr(errors.New("NOPERM this user has no permissions to run the 'config|get' command"))
		return cmd
	}
	cmd.SetVal(map[string]string{parameter: f.defrag})
	return cmd
}

func TestAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		server fakeServer
		want   []string // beginnings
	}{
		"as delivered":     {fakeServer{"1048576", "no"}, []string{"repl-backlog-size is 1048576", "activedefrag is no"}},
		"a byte too small": {fakeServer{"67108863", "yes"}, []string{"repl-backlog-size is 67108863"}},
		"as it should be":  {fakeServer{"67108864", "yes"}, nil},
		"says nothing":     {fakeServer{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			lines := adviceOf(t.Context(), c.server)
			require.Len(t, lines, len(c.want))
			for i, want := range c.want {
				require.Contains(t, lines[i], want)
			}
		})
	}
}
