package store

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Ping asks every primary for a sign of life, within ctx.
func (s *Store) Ping(ctx context.Context) error {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
	}
	return s.client.Ping(ctx).Err()
}
