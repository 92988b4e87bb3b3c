package store

import (
	"context"
	"fmt"
)

// mostBuckets bounds the buckets of a slice, whatever spec wrote it.
const mostBuckets = 1024

// replaceScript gives a lane a new owner and a new state without a slice, whatever stands there: nothing of it is
// interpreted but the owner, and the state id for the names of its keys. Entries under names that a newer format uses stay.
// The cursor goes on from the one that is there, so that no read takes what comes for what was.
//
// KEYS[1] meta
// KEYS[2] slices
// KEYS[3] folds
// ARGV[1] format version
// ARGV[2] state id
// ARGV[3] owner that was read, "" when there was none
// ARGV[4] new owner
// ARGV[5] what the names of entry keys begin with, up to the state id
// ARGV[6] buckets per slice of this state id
// ARGV[7] buckets per slice of another one
// ARGV[8] what the names of page keys begin with, up to the state id
// ARGV[9...] field, value, ... of the new meta
// Answers the meta as field, value, ...
var replaceScript = newScript("replace", `
local m = redis.call('HMGET', KEYS[1], 'owner', 'state', 'cursor')
local owner, state = m[1] or '', m[2] or ARGV[2]
if string.sub(owner, 1, 8) == 'removed:' then return {@removed@, owner} end
if owner ~= ARGV[3] and owner ~= ARGV[4] then return {@fenced@, owner} end
local seq = string.match(m[3] or '', '^(%d+):%d+$') or '0'
local buckets = tonumber(state == ARGV[2] and ARGV[6] or ARGV[7])
for _, slice in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
	local names = {}
	for b = 0, buckets - 1 do names[b + 1] = ARGV[5] .. state .. ':' .. slice .. ':' .. b end
	names[buckets + 1] = ARGV[8] .. state .. ':' .. slice
	for n = 1, @spread@ do names[buckets + 1 + n] = ARGV[8] .. state .. ':' .. slice .. ':' .. n end
	for i = 1, #names, @step@ do redis.call('UNLINK', unpack(names, i, math.min(i + @step@ - 1, #names))) end
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'state', ARGV[2], 'owner', ARGV[4], 'dropped_under', ARGV[4],
	'cursor', string.format('%.0f:0', tonumber(seq) + 1), unpack(ARGV, 9))
return redis.call('HGETALL', KEYS[1])
`)

// Replace makes next the owner of a lane whose state cannot be used, and m its state, without a slice, in one call: what
// stood there goes, of whatever format and under whatever state id. expected is the owner that was read, "" for a lane
// without one; m needs a known balance. Repeating a call with the same next before anything is committed is safe.
// Errors: ErrOwnerChanged, ErrRemoved.
func (s *Store) Replace(ctx context.Context, id LaneID, stateID string, expected, next Token, buckets int, m *MetaUpdate) (Meta, error) {
	args := append([]any{FieldFormat, stateID, string(expected), string(next), id.key("s:"), buckets, mostBuckets, id.key("p:")}, metaArgs(m)...)
	reply, err := s.run(ctx, replaceScript, []string{id.metaKey(), id.slicesKey(), id.foldsKey()}, args...)
	if err != nil {
		return Meta{}, fmt.Errorf("replace the state of lane %s: %w", id, err)
	}
	if status, ok := reply[0].(int64); ok {
		return Meta{}, fmt.Errorf("replace the state of lane %s: %w", id, acquireError(id, stateID, status, replyString(reply, 1)))
	}
	return parseMeta(id, replyHash(reply))
}
