package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Ping asks every primary for a sign of life, and whether it may evict keys by now (ErrEviction), within ctx. A server that
// may evict is one to write nothing to: what it drops is state that somebody waits for.
func (s *Store) Ping(ctx context.Context) error {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return ping(ctx, c) })
	}
	return ping(ctx, s.client)
}

func ping(ctx context.Context, c redis.UniversalClient) error {
	if err := c.Ping(ctx).Err(); err != nil {
		return err
	}
	return checkEviction(ctx, c)
}
