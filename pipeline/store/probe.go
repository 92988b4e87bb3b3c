package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// probeScript writes and deletes a key in one step, so that nothing of it is ever seen. A server that answers PING but takes
// no writes (a replica, a full one, one that cannot save) refuses it.
//
// KEYS[1] probe
var probeScript = newScript("probe", `
redis.call('SET', KEYS[1], '1', 'PX', 1000)
return redis.call('UNLINK', KEYS[1])
`)

// Probe writes to every primary, which a PING would not, and asks whether it may evict keys by now (ErrEviction), within ctx. A
// server that may evict is one to write nothing to: what it drops is state that somebody waits for. A refusal of the write is
// a *RefusalError.
func (s *Store) Probe(ctx context.Context) error {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return s.probeNode(ctx, s.client, probeKey(0))
	}
	return s.eachPrimary(ctx, func(ctx context.Context, primary redis.UniversalClient) error {
		node := primary.(*redis.Client)
		key, served, err := s.probes.keyOf(ctx, cluster, node)
		if err != nil {
			return err
		}
		if !served { // a primary without slots takes no keys at all
			return node.Ping(ctx).Err()
		}
		return s.probeNode(ctx, node, key)
	})
}

func (s *Store) probeNode(ctx context.Context, node redis.UniversalClient, key string) error {
	// Through the store's own client: in a Cluster it follows the slot if that has moved meanwhile.
	if _, err := s.run(ctx, probeScript, []string{key}); err != nil {
		return fmt.Errorf("write a probe: %w", err)
	}
	return checkEviction(ctx, node)
}

// probeTags is how many hash tags are tried to find one that a node of a Cluster serves. With a thousand equal nodes one
// is missed once in 10,000 times, and then that node is only pinged.
const probeTags = 10_000

// probeKeys remembers a key for every node of a Cluster that belongs to a slot of this node.
type probeKeys struct {
	mu  sync.Mutex
	tag map[string]int // by the node's address
}

// keyOf returns a key that node serves; served is false when no tag was found that it does.
func (p *probeKeys) keyOf(ctx context.Context, cluster *redis.ClusterClient, node *redis.Client) (key string, served bool, err error) {
	address := node.Options().Addr
	p.mu.Lock()
	known, ok := p.tag[address]
	p.mu.Unlock()
	serves := func(tag int) (bool, error) {
		master, err := cluster.MasterForKey(ctx, probeKey(tag))
		return err == nil && master.Options().Addr == address, err
	}
	if ok {
		if still, err := serves(known); still || err != nil {
			return probeKey(known), still, err
		}
	}
	for tag := range probeTags {
		here, err := serves(tag)
		if err != nil {
			return "", false, err
		}
		if here {
			p.mu.Lock()
			p.tag[address] = tag
			p.mu.Unlock()
			return probeKey(tag), true, nil
		}
	}
	return "", false, nil
}

func probeKey(tag int) string { return "mr:probe:{" + strconv.Itoa(tag) + "}" }
