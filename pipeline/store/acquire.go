package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// ReadMeta returns the lane's meta; found is false when there is none. A meta of another format version is a
// *FormatError.
func (s *Store) ReadMeta(ctx context.Context, id LaneID) (m Meta, found bool, err error) {
	hash, err := s.client.HGetAll(ctx, id.metaKey()).Result()
	if err != nil {
		return Meta{}, false, fmt.Errorf("read meta of lane %s: %w", id, err)
	}
	if len(hash) == 0 {
		return Meta{}, false, nil
	}
	m, err = parseMeta(id, hash)
	return m, err == nil, err
}

// ReadOwner returns the lane's owner, "" for a lane without meta. It reads nothing else, so it answers whatever the format
// or the state of the meta is.
func (s *Store) ReadOwner(ctx context.Context, id LaneID) (Token, error) {
	owner, err := s.client.HGet(ctx, id.metaKey(), "owner").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read owner of lane %s: %w", id, err)
	}
	return Token(owner), nil
}

// Acquire makes next the owner of the lane if the owner still is expected, the one that was read ("" for a lane without
// meta, which is then created with NotStarted). It keeps cursor, offset, watermark and counters; the first call of the
// new owner follows the returned cursor. found is false when the lane has never committed, no matter who created its
// meta: a lane whose consumer group has an offset all the same has lost its state.
//
// Repeating a call with the same next is safe. Errors: ErrOwnerChanged, ErrRemoved, ErrExpires, *FormatError, *StateIDError.
func (s *Store) Acquire(ctx context.Context, id LaneID, stateID string, expected, next Token) (m Meta, found bool, err error) {
	args := make([]any, 0, 5+len(metaDefaults))
	args = append(args, PageFormat, stateID, string(expected), string(next), FieldFormat)
	args = append(args, metaDefaults...)
	reply, err := s.run(ctx, acquireScript, []string{id.metaKey(), id.slicesKey(), id.foldsKey()}, args...)
	if err != nil {
		return Meta{}, false, fmt.Errorf("acquire lane %s: %w", id, err)
	}
	if status, ok := reply[0].(int64); ok {
		return Meta{}, false, fmt.Errorf("acquire lane %s: %w", id, acquireError(id, stateID, status, replyString(reply, 1)))
	}
	m, err = parseMeta(id, replyHash(reply))
	return m, m.Offset != NotStarted, err
}

func acquireError(id LaneID, stateID string, status int64, detail string) error {
	switch status {
	case statusFormat:
		found, err := parseInts(detail, ":", 1)
		if err != nil {
			return fmt.Errorf("%w: format is %q", ErrCorrupt, detail)
		}
		return &FormatError{Key: id.metaKey(), Found: int(found[0]), Want: PageFormat}
	case statusStateID:
		return &StateIDError{Lane: id, Found: detail, Want: stateID}
	case statusRemoved:
		return fmt.Errorf("%w: owner is %q", ErrRemoved, detail)
	case statusExpires:
		return fmt.Errorf("%w: %s", ErrExpires, detail)
	default:
		return fmt.Errorf("%w: now %q", ErrOwnerChanged, detail)
	}
}

// IsFinal reports whether err is a decision of the protocol rather than a failure to reach Redis: sending the same call
// again would give the same answer.
func IsFinal(err error) bool {
	for _, final := range []error{ErrFenced, ErrLostWrites, ErrNoMeta, ErrNotSealed, ErrOwnerChanged, ErrCorrupt, ErrExpires, ErrRevisionBack, ErrRemoved} {
		if errors.Is(err, final) {
			return true
		}
	}
	var format *FormatError
	var state *StateIDError
	return errors.As(err, &format) || errors.As(err, &state)
}
