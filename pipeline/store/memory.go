package store

import (
	"context"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Memory is what the servers of Redis say of their memory, in bytes.
type Memory struct {
	Used  int64
	Limit int64 // maxmemory, of all nodes together; 0 when one of them has none
}

// ServerMemory asks every primary for its memory.
func (s *Store) ServerMemory(ctx context.Context) (Memory, error) {
	var used, limit atomic.Int64
	var unlimited atomic.Bool
	err := s.eachPrimary(ctx, func(ctx context.Context, node redis.UniversalClient) error {
		memory, known, err := info(ctx, node, "memory")
		if err != nil || !known {
			return err
		}
		number := func(name string) int64 {
			n, _ := strconv.ParseInt(memory[name], 10, 64) // a server that does not say it has none
			return n
		}
		used.Add(number("used_memory"))
		limit.Add(number("maxmemory"))
		if number("maxmemory") == 0 {
			unlimited.Store(true)
		}
		return nil
	})
	m := Memory{Used: used.Load(), Limit: limit.Load()}
	if unlimited.Load() {
		m.Limit = 0
	}
	return m, err
}
