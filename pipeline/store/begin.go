package store

import (
	"context"
	"errors"
	"fmt"
)

// ErrHasState means that a lane that was to be given its first state has one.
var ErrHasState = errors.New("the lane has state")

// beginLaneScript gives a lane its first state. A lane that has the same owner was begun by an earlier try; one that a removal has
// fenced is begun anew if that is asked for, and whatever stands beside its meta goes.
//
// KEYS[1] meta
// KEYS[2] slices
// KEYS[3] folds
// KEYS[4] requests
// ARGV[1] owner
// ARGV[2] "1": a fenced lane is begun anew
// ARGV[3...] field, value, ... of the meta
// Answers the owner that stands in the way, "" when the lane was begun
var beginLaneScript = newScript("begin_lane", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner == ARGV[1] then return '' end
if owner and not (ARGV[2] == '1' and string.sub(owner, 1, 8) == 'removed:') then return owner end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], unpack(ARGV, 3))
return ''
`)

// BeginToken is the owner of a lane that a start has begun and nobody has acquired yet. id says which start it was.
func BeginToken(id string) Token { return Token("0:" + id) }

// Begin gives a lane without state its first one: the lane reads from offset on, which belongs to the topic with that id, or from
// the start of its log for NotStarted. fenced says that a lane that a removal owns is begun anew. Repeating it with the same owner
// changes nothing, as long as nobody has acquired the lane. A lane with a state is ErrHasState, one that is being removed ErrRemoved.
func (s *Store) Begin(ctx context.Context, id LaneID, stateID string, owner Token, offset int64, topicID string, fenced bool) error {
	if owner == "" || owner.Removed() {
		return fmt.Errorf("begin lane %s: %q cannot own it", id, owner)
	}
	args := append([]any{string(owner), fenced, "format", FieldFormat, "state", stateID, "dropped_under", string(owner)}, metaDefaults...)
	if offset != NotStarted {
		args = append(args, "offset", offset, "begun", offset, "topic_id", topicID)
	}
	reply, err := s.run(ctx, beginLaneScript, []string{id.metaKey(), id.slicesKey(), id.foldsKey(), id.ctlKey()}, args...)
	if err != nil {
		return fmt.Errorf("begin lane %s: %w", id, err)
	}
	switch other := Token(replyString(reply, 0)); {
	case other == "":
		return nil
	case other.Removed():
		return fmt.Errorf("begin lane %s: %w: owner is %q", id, ErrRemoved, other)
	default:
		return fmt.Errorf("begin lane %s: %w: owner is %q", id, ErrHasState, other)
	}
}

// OpenSlices is how many slices of a lane are registered.
func (s *Store) OpenSlices(ctx context.Context, id LaneID) (int64, error) {
	n, err := s.client.ZCard(ctx, id.slicesKey()).Result()
	if err != nil {
		return 0, fmt.Errorf("count the slices of lane %s: %w", id, err)
	}
	return n, nil
}
