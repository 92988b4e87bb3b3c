package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Kinds of the keys of a pipeline.
const (
	KeyMeta    = "meta"    // of a lane: owner, offset, counters
	KeyRequest = "request" // of a lane: what the closer asks of it
	KeySlices  = "slices"  // of a lane: its open slices, what was folded into them and of which traces
	KeyEntries = "entries" // of a lane: a bucket of a slice
	KeyView    = "view"    // of a window: ledger rows, contents and plain rows
	KeyControl = "control" // of the pipeline: desired state and answered requests
	KeyLease   = "lease"   // of a replica or of the closer
	KeyShadow  = "shadow"  // of a replay: plan, differences and which replays there are
	KeyOther   = "other"   // nothing that this version writes
)

// KeyKinds lists them in the order in which they are shown.
var KeyKinds = [...]string{KeyMeta, KeyRequest, KeySlices, KeyEntries, KeyView, KeyControl, KeyLease, KeyShadow, KeyOther}

// scanCount is how many keys of the server one call of SCAN looks at, so that none holds the server up for long.
const scanCount = 1000

// pipelinePattern matches every key of a pipeline: its own, those of its lanes and windows, and those of its further
// editions, which are named <pipeline>@<edition>. Names of pipelines hold nothing that a pattern interprets.
func pipelinePattern(pipeline string) string { return "mr:{" + pipeline + "[}/@]*" }

// PipelineKey is a key of a pipeline as ScanPipeline finds it.
type PipelineKey struct {
	Name string
	Kind string
	Lane LaneID // whose key it is; the zero LaneID for keys that are not a lane's
}

// IsGuard reports whether the key is the guard of a shadow, which goes after everything it guards.
func (k PipelineKey) IsGuard() bool {
	return k.Kind == KeyShadow && strings.HasSuffix(k.Name, "}:guard")
}

// parsePipelineKey says what a key that matched the pattern is.
func parsePipelineKey(name string) PipelineKey {
	k := PipelineKey{Name: name, Kind: KeyOther}
	tag, rest, ok := strings.Cut(strings.TrimPrefix(name, "mr:{"), "}:")
	if !ok {
		return k
	}
	parts := strings.Split(tag, "/")
	head, _, _ := strings.Cut(rest, ":")
	switch {
	case len(parts) == 1 && (rest == "ctl" || rest == "requests"):
		k.Kind = KeyControl
	case len(parts) == 1 && head == "replica":
		k.Kind = KeyLease
	case len(parts) == 1 && (rest == "shadows" || strings.Contains(tag, "@") && shadowKeys[head]):
		k.Kind = KeyShadow
	case len(parts) == 3 && (rest == "ledger" || head == "v" || head == "r" || head == "rows"):
		k.Kind = KeyView
	case len(parts) == 3:
		n, err := strconv.ParseInt(parts[2], 10, 32)
		kind, known := laneKinds[head]
		if err == nil && known {
			k.Kind, k.Lane = kind, LaneID{Pipeline: parts[0], Topic: parts[1], Partition: int32(n)}
		}
	}
	return k
}

var laneKinds = map[string]string{"meta": KeyMeta, "ctl": KeyRequest, "slices": KeySlices, "folds": KeySlices, "traces": KeySlices, "s": KeyEntries, "p": KeyEntries}

// shadowKeys are the keys that a shadow has under its own tag, by what they begin with.
var shadowKeys = map[string]bool{"guard": true, "plan": true, "windows": true, "d": true}

// ScanPipeline passes all keys of a pipeline to fn, batch by batch; every key that exists from the beginning to the end
// comes at least once. It looks at all keys of the server, in calls of bounded length: only that finds what no registry
// names. An error of fn is returned as it is.
func (s *Store) ScanPipeline(ctx context.Context, pipeline string, fn func(keys []PipelineKey) error) error {
	var mu sync.Mutex // the masters of a Cluster are scanned side by side
	return s.eachPrimary(ctx, func(ctx context.Context, c redis.UniversalClient) error {
		for cursor := uint64(0); ; {
			names, next, err := c.Scan(ctx, cursor, pipelinePattern(pipeline), scanCount).Result()
			if err != nil {
				return fmt.Errorf("scan the keys of pipeline %s: %w", pipeline, err)
			}
			if len(names) > 0 {
				keys := make([]PipelineKey, len(names))
				for i, name := range names {
					keys[i] = parsePipelineKey(name)
				}
				mu.Lock()
				err := fn(keys)
				mu.Unlock()
				if err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

// KeyBytes returns the memory that each key takes, 0 for one that is gone meanwhile and where the server does not say.
func (s *Store) KeyBytes(ctx context.Context, keys []PipelineKey) ([]int64, error) {
	pipe := s.client.Pipeline()
	asked := make([]*redis.IntCmd, len(keys))
	for i, k := range keys {
		asked[i] = pipe.MemoryUsage(ctx, k.Name)
	}
	_, _ = pipe.Exec(ctx) // it returns the first failure, and a server without the command fails them all
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	sizes := make([]int64, len(keys))
	for i, cmd := range asked {
		sizes[i], _ = cmd.Result()
	}
	return sizes, nil
}

// deleteScript unlinks keys of a lane, unless somebody owns it: it was begun anew since the keys were found.
//
// KEYS[1] meta
// KEYS[2...] keys of the lane
var deleteScript = newScript("delete", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, 8) ~= 'removed:' then return 0 end
return redis.call('UNLINK', unpack(KEYS, 2))
`)

// deleteBatch is how many keys one call of a script unlinks.
const deleteBatch = 500

// deleteOfLanes unlinks keys of lanes that nobody owns, but their metas.
func (s *Store) deleteOfLanes(ctx context.Context, keys []PipelineKey) (deleted int64, err error) {
	byLane := make(map[LaneID][]string)
	for _, k := range keys {
		if k.Kind != KeyMeta && k.Lane.Pipeline != "" {
			byLane[k.Lane] = append(byLane[k.Lane], k.Name)
		}
	}
	for id, names := range byLane {
		for batch := range slices.Chunk(names, deleteBatch) {
			reply, err := s.run(ctx, deleteScript, append([]string{id.metaKey()}, batch...))
			if err != nil {
				return deleted, fmt.Errorf("delete keys of lane %s: %w", id, err)
			}
			n, err := replyInt(reply, 0)
			if err != nil {
				return deleted, fmt.Errorf("delete keys of lane %s: %w", id, err)
			}
			deleted += n
		}
	}
	return deleted, nil
}

// DeleteKeys unlinks keys of a pipeline whose lanes are fenced, and returns how many it found. Those of a lane that was begun anew
// meanwhile are left alone. Metas are left alone unless metas is set, and then those that a removal owns are deleted.
func (s *Store) DeleteKeys(ctx context.Context, keys []PipelineKey, metas bool) (deleted int64, err error) {
	if deleted, err = s.deleteOfLanes(ctx, keys); err != nil {
		return deleted, err
	}
	pipe := s.client.Pipeline()
	var asked []*redis.IntCmd
	for _, k := range keys {
		if k.Kind != KeyMeta && k.Lane.Pipeline == "" {
			asked = append(asked, pipe.Unlink(ctx, k.Name))
		}
	}
	if len(asked) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return deleted, fmt.Errorf("delete keys: %w", err)
		}
	}
	for _, cmd := range asked {
		deleted += cmd.Val()
	}
	for _, k := range keys {
		if k.Kind != KeyMeta || !metas {
			continue
		}
		reply, err := s.run(ctx, unfenceScript, []string{k.Name})
		if err != nil {
			return deleted, fmt.Errorf("delete %s: %w", k.Name, err)
		}
		if n, err := replyInt(reply, 0); err != nil || n == 0 {
			return deleted, fmt.Errorf("delete %s: %w", k.Name, ErrOwnerChanged)
		}
		deleted++
	}
	return deleted, nil
}

// DeleteControl deletes the desired state of a pipeline. From then on no lane begins from nothing.
func (s *Store) DeleteControl(ctx context.Context, pipeline string) error {
	if err := s.client.Unlink(ctx, pipelineCtlKey(pipeline), pipelineRequestsKey(pipeline)).Err(); err != nil {
		return fmt.Errorf("delete the desired state of %s: %w", pipeline, err)
	}
	return nil
}

// leasesScript answers {number, worker, remaining ms} of every lease that has not expired.
//
// KEYS leases
// ARGV their numbers
var leasesScript = newScript("leases", `
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local held = {}
for i = 1, #KEYS do
	local h = redis.call('HMGET', KEYS[i], 'worker', 'token', 'until')
	if h[2] and tonumber(h[3]) > now then
		held[#held + 1] = {ARGV[i], h[1], tonumber(h[3]) - now}
	end
end
return held
`)

// HeldLease is a lease that has not expired.
type HeldLease struct {
	Replica int
	Lease
}

// Leases returns the leases of a pipeline that have not expired, among those with numbers in [first, past).
func (s *Store) Leases(ctx context.Context, pipeline string, first, past int) ([]HeldLease, error) {
	var keys []string
	var numbers []any
	for n := first; n < past; n++ {
		keys, numbers = append(keys, leaseKey(pipeline, n)), append(numbers, n)
	}
	reply, err := s.run(ctx, leasesScript, keys, numbers...)
	if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", pipeline, err)
	}
	held := make([]HeldLease, len(reply))
	for i := range reply {
		row := replyList(reply, i)
		n, err := replyInt(row, 0)
		if err != nil {
			return nil, fmt.Errorf("leases of %s: %w", pipeline, err)
		}
		left, err := replyInt(row, 2)
		if err != nil {
			return nil, fmt.Errorf("leases of %s: %w", pipeline, err)
		}
		held[i] = HeldLease{int(n), Lease{Worker: replyString(row, 1), TTL: time.Duration(left) * time.Millisecond}}
	}
	return held, nil
}
