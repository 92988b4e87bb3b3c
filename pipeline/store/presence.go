package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// presenceKept is how long a fleet without a process is remembered.
const presenceKept = 10 * time.Minute

// Present is a process of a fleet. Whoever looks again and finds another Beat knows that it lives; no clock is compared.
type Present struct {
	ID      string
	Beat    int64 // another one every time
	Version int64 // of the body
}

func (p Present) field() string {
	return strconv.FormatInt(p.Beat, 10) + " " + strconv.FormatInt(p.Version, 10)
}

// beatScript writes a process's beat and body and answers with the beats of all: {id, "beat version", ...}.
//
// KEYS[1] beats
// KEYS[2] bodies
// ARGV[1] id
// ARGV[2] "beat version"
// ARGV[3] body
// ARGV[4] ms to keep both unless somebody beats
var beatScript = newScript("beat", `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return redis.call('HGETALL', KEYS[1])
`)

// buryScript removes a process that still stands where the caller saw it. Answers 1 if it did, so that of many callers one wins.
//
// KEYS[1] beats
// KEYS[2] bodies
// ARGV[1] id
// ARGV[2] "beat version"; "" removes it wherever it stands
var buryScript = newScript("bury", `
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[1], ARGV[1])
`)

// Beat says that a process of the fleet is there, and returns all that are known, in the order of their ids.
func (s *Store) Beat(ctx context.Context, fleet string, me Present, body []byte) ([]Present, error) {
	reply, err := s.run(ctx, beatScript, presenceKeys(fleet), me.ID, me.field(), body, presenceKept.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("beat in fleet %s: %w", fleet, err)
	}
	var all []Present
	for id, text := range replyHash(reply) {
		n, err := parseInts(text, " ", 2)
		if err != nil {
			return nil, fmt.Errorf("beat in fleet %s: %w: %s is at %q", fleet, ErrCorrupt, id, text)
		}
		all = append(all, Present{ID: id, Beat: n[0], Version: n[1]})
	}
	slices.SortFunc(all, func(a, b Present) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

// Bodies returns what the processes with these ids say of themselves, nil for one that has left.
func (s *Store) Bodies(ctx context.Context, fleet string, ids ...string) ([][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	values, err := s.client.HMGet(ctx, presenceKeys(fleet)[1], ids...).Result()
	if err != nil {
		return nil, fmt.Errorf("read %d processes of fleet %s: %w", len(ids), fleet, err)
	}
	bodies := make([][]byte, len(ids))
	for i := range ids {
		if text := replyString(values, i); text != "" {
			bodies[i] = []byte(text)
		}
	}
	return bodies, nil
}

// Bury removes a process that has not beaten since it was seen, and reports whether it was this call that did.
func (s *Store) Bury(ctx context.Context, fleet string, seen Present) (bool, error) {
	return s.leave(ctx, fleet, seen.ID, seen.field())
}

// Leave removes a process that ends.
func (s *Store) Leave(ctx context.Context, fleet, id string) error {
	_, err := s.leave(ctx, fleet, id, "")
	return err
}

func (s *Store) leave(ctx context.Context, fleet, id, at string) (bool, error) {
	reply, err := s.run(ctx, buryScript, presenceKeys(fleet), id, at)
	if err != nil {
		return false, fmt.Errorf("remove %s from fleet %s: %w", id, fleet, err)
	}
	n, err := replyInt(reply, 0)
	return n == 1, err
}
