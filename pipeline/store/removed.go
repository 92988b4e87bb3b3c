package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// removedPrefix begins the owner of a lane whose pipeline is being removed. No owner of a living lane has it: those begin
// with a number.
const removedPrefix = "removed:"

// removedState is the state id of a meta that exists only to fence a lane of a removed pipeline.
const removedState = "removed"

// ErrRemoved means that the lane belongs to a pipeline that is being removed. Nobody may own it any more.
var ErrRemoved = errors.New("the pipeline of the lane is being removed")

// RemovedToken is the owner that Fence gives to the lanes of a removed pipeline. id says which removal it was.
func RemovedToken(id string) Token { return Token(removedPrefix + id) }

// Removed reports whether the token was written by Fence.
func (t Token) Removed() bool { return strings.HasPrefix(string(t), removedPrefix) }

// fenceScript makes a removal the owner of a lane, whoever owned it, and creates the meta when there is none. A lane that
// was fenced before keeps its token. Other formats and state ids make no difference: the owner is all that a writer of any
// version compares.
//
// KEYS[1] meta
// ARGV[1] token
// ARGV[2] format version
// ARGV[3] state id of a new meta
// ARGV[4...] field, value, ... of a new meta
// Answers the owner before, "" when there was no meta
var fenceScript = newScript("fence", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, 8) == 'removed:' then return owner end
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('HSET', KEYS[1], 'format', ARGV[2], 'state', ARGV[3], 'owner', ARGV[1], unpack(ARGV, 4))
else
	redis.call('HSET', KEYS[1], 'owner', ARGV[1])
	redis.call('PERSIST', KEYS[1])
end
return owner or ''
`)

// unfenceScript deletes the meta of a lane if a removal owns it. Answers 1 if the meta is gone afterwards.
//
// KEYS[1] meta
var unfenceScript = newScript("unfence", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, 8) ~= 'removed:' then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
`)

// abandonScript deletes the meta of a lane that its owner has created and never committed to.
//
// KEYS[1] meta
// ARGV[1] owner
// ARGV[2] offset of a lane that has never committed
var abandonScript = newScript("abandon", `
local m = redis.call('HMGET', KEYS[1], 'owner', 'offset')
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] then return 0 end
return redis.call('UNLINK', KEYS[1])
`)

// Fence takes a lane away from whoever owns it for good: every later call of a former owner is ErrFenced, and Acquire
// answers ErrRemoved until the meta is deleted. It returns the owner before. Repeating it is safe.
func (s *Store) Fence(ctx context.Context, id LaneID, token Token) (before Token, err error) {
	if !token.Removed() {
		return "", fmt.Errorf("fence lane %s: token %q is not one of a removal", id, token)
	}
	args := append([]any{string(token), FieldFormat, removedState}, metaDefaults...)
	reply, err := s.run(ctx, fenceScript, []string{id.metaKey()}, args...)
	if err != nil {
		return "", fmt.Errorf("fence lane %s: %w", id, err)
	}
	return Token(replyString(reply, 0)), nil
}

// Abandon takes back the meta that Acquire has created for owner, if nothing was committed under it.
func (s *Store) Abandon(ctx context.Context, id LaneID, owner Token) error {
	if _, err := s.run(ctx, abandonScript, []string{id.metaKey()}, string(owner), NotStarted); err != nil {
		return fmt.Errorf("abandon lane %s: %w", id, err)
	}
	return nil
}
