package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// LeastBacklog is how many bytes of writes a server should keep for a replica that was cut off: state pages are written in
// megabytes, and a replica that has missed more than the backlog holds is copied whole.
const LeastBacklog = 64 << 20

// Advice says, a line each, which settings of the servers serve lanes badly. Nothing depends on them. A server that does not let
// its settings be read is passed over.
func (s *Store) Advice(ctx context.Context) []string {
	var mu sync.Mutex
	var all []string
	seen := make(map[string]bool)
	_ = s.eachPrimary(ctx, func(ctx context.Context, c redis.UniversalClient) error {
		for _, line := range adviceOf(ctx, c) {
			mu.Lock()
			if !seen[line] { // the nodes of a Cluster are mostly set alike
				seen[line] = true
				all = append(all, line)
			}
			mu.Unlock()
		}
		return nil
	})
	return all
}

type configured interface {
	infoer
	ConfigGet(ctx context.Context, parameter string) *redis.MapStringStringCmd
}

func adviceOf(ctx context.Context, c configured) (lines []string) {
	replication, _, _ := info(ctx, c, "replication") // a server that does not say is passed over
	if n, err := strconv.ParseInt(replication["repl_backlog_size"], 10, 64); err == nil && n < LeastBacklog {
		lines = append(lines, fmt.Sprintf("repl-backlog-size is %d bytes, want %d or more: a replica that is cut off for a moment "+
			"is copied whole; CONFIG SET it there and in the server's configuration file", n, LeastBacklog))
	}
	defrag, err := c.ConfigGet(ctx, "activedefrag").Result()
	if err == nil && defrag["activedefrag"] == "no" { // managed servers refuse CONFIG, and so may the rights of the user
		lines = append(lines, "activedefrag is no, want yes if the server's build has it: pages of all sizes come and go, and memory "+
			"that they leave in pieces is not given back; CONFIG SET it there and in the server's configuration file")
	}
	return lines
}
