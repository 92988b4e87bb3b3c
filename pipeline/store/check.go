package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// oldestMajor is the oldest major version of Redis whose scripts replicate their effects as one unit by default, with
// the commands used here. Valkey reports the version it is compatible with.
const oldestMajor = 7

// Check verifies at start-up what the protocols rest on: that no server evicts keys (ErrEviction), that it is new enough
// (ErrServerVersion), and that Redis holds our format version or nothing of ours (*FormatError), which it then claims.
func (s *Store) Check(ctx context.Context) error {
	if err := s.eachPrimary(ctx, func(ctx context.Context, c redis.UniversalClient) error { return checkServer(ctx, c) }); err != nil {
		return err
	}
	claimed, err := s.client.SetNX(ctx, formatKey, Format, 0).Result()
	if err != nil {
		return fmt.Errorf("claim %s: %w", formatKey, err)
	}
	if claimed {
		return nil
	}
	text, err := s.client.Get(ctx, formatKey).Result()
	if err != nil {
		return fmt.Errorf("read %s: %w", formatKey, err)
	}
	found, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s: %w: %q", formatKey, ErrCorrupt, text)
	}
	if found != Format {
		return &FormatError{Key: formatKey, Found: found, Want: Format}
	}
	return nil
}

// eachPrimary runs fn on every server that takes writes. Refusals are RefusalErrors also where a Cluster's nodes are asked by
// themselves, and where it is asked for its nodes: the client's hooks see neither.
func (s *Store) eachPrimary(ctx context.Context, fn func(context.Context, redis.UniversalClient) error) error {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return fn(ctx, s.client)
	}
	return explained(cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return fn(ctx, node) }))
}

type infoer interface {
	Info(ctx context.Context, section ...string) *redis.StringCmd
}

// checkServer reads the eviction policy from INFO, which managed servers allow where they refuse CONFIG. An in-process
// server that has no such section evicts nothing.
func checkServer(ctx context.Context, c infoer) error {
	server, known, err := info(ctx, c, "server")
	if err != nil || !known {
		return err
	}
	major, _, _ := strings.Cut(server["redis_version"], ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestMajor {
		return fmt.Errorf("%w: version %q, want %d or newer", ErrServerVersion, server["redis_version"], oldestMajor)
	}
	return checkEviction(ctx, c)
}

func checkEviction(ctx context.Context, c infoer) error {
	memory, known, err := info(ctx, c, "memory")
	if err != nil || !known {
		return err
	}
	if policy := memory["maxmemory_policy"]; policy != "noeviction" {
		return fmt.Errorf("%w: maxmemory-policy is %q, want noeviction; CONFIG SET it there and in the server's configuration file",
			ErrEviction, policy)
	}
	return nil
}

// info returns a section of INFO; known is false when the server has no such section.
func info(ctx context.Context, c infoer, section string) (fields map[string]string, known bool, err error) {
	text, err := c.Info(ctx, section).Result()
	if err != nil {
		if strings.Contains(err.Error(), "is not supported") {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("ask redis for its %s: %w", section, err)
	}
	fields = make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, true, nil
}
