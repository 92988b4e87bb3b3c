package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// SliceTrace says that a record of a trace went into a slice. It is a courtesy to whoever looks at traces: nothing that is
// decided or published follows from it, so it may be lost, or be of a record that is read again.
type SliceTrace struct {
	Slice  SliceID
	Parent string // W3C trace context
}

const (
	// keptTraces bounds the trace contexts of a lane; those of the latest slices are kept.
	keptTraces = 128
	// tracesExpire is for how long a lane's trace contexts stay after the last of them was noted.
	tracesExpire = 24 * time.Hour
)

// noteTraceScript keeps a trace context of a lane, if its owner still is the given one.
//
// KEYS[1] meta
// KEYS[2] traces
// ARGV[1] owner
// ARGV[2] end of the slice, ms
// ARGV[3] slice and trace context
// ARGV[4] how many are kept
// ARGV[5] ms until they expire
var noteTraceScript = newScript("note_trace", `
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
local old = redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[4])
if #old > 0 then redis.call('ZREM', KEYS[2], unpack(old)) end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
`)

// NoteTrace keeps the context of a trace beside a lane for whoever closes the slice's windows. It changes nothing when the
// lane has another owner.
func (s *Store) NoteTrace(ctx context.Context, id LaneID, owner Token, t SliceTrace) error {
	_, err := s.run(ctx, noteTraceScript, []string{id.metaKey(), id.tracesKey()},
		string(owner), t.Slice.End(), t.Slice.String()+" "+t.Parent, keptTraces, tracesExpire.Milliseconds())
	if err != nil {
		return fmt.Errorf("note a trace of lane %s: %w", id, err)
	}
	return nil
}

// Traces returns the trace contexts that are kept of lanes, by the end of their slices. What cannot be read as one is left
// out: a later version may have written it.
func (s *Store) Traces(ctx context.Context, ids ...LaneID) ([]SliceTrace, error) {
	pipe := s.client.Pipeline()
	asked := make([]*redis.StringSliceCmd, len(ids))
	for i, id := range ids {
		asked[i] = pipe.ZRange(ctx, id.tracesKey(), 0, -1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the traces of %d lanes: %w", len(ids), err)
	}
	var all []SliceTrace
	for _, cmd := range asked {
		for _, member := range cmd.Val() {
			name, parent, _ := strings.Cut(member, " ")
			if slice, err := ParseSliceID(name); err == nil {
				all = append(all, SliceTrace{slice, parent})
			}
		}
	}
	return all, nil
}
