package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A window's ledger is one hash: "current", "final" (1 once its row is), "row:<revision>" for every revision, and
// "trimmed", the highest revision whose content was unlinked.

// flipScript writes a revision's row and makes the revision current unless a higher one is, or the same with its final
// row. Answers the current revision.
//
// KEYS[1] ledger
// ARGV[1] revision
// ARGV[2] row
// ARGV[3] 1 if the row is final, else 0
var flipScript = newScript(`
local shown = redis.call('HMGET', KEYS[1], 'current', 'final')
if shown[1] and tonumber(shown[1]) > tonumber(ARGV[1]) then return tonumber(shown[1]) end
if shown[1] == ARGV[1] and shown[2] == '1' and ARGV[3] == '0' then return tonumber(ARGV[1]) end
redis.call('HSET', KEYS[1], 'row:' .. ARGV[1], ARGV[2], 'current', ARGV[1], 'final', ARGV[3])
return tonumber(ARGV[1])
`)

// publishedScript answers {current revision, its row}, or {} when nothing was published.
//
// KEYS[1] ledger
var publishedScript = newScript(`
local current = redis.call('HGET', KEYS[1], 'current')
if not current then return {} end
return {current, redis.call('HGET', KEYS[1], 'row:' .. current)}
`)

// trimScript unlinks the content of old revisions and remembers up to where. Answers the number unlinked.
//
// KEYS[1] ledger
// KEYS[2...] revisions
// ARGV[1] the highest of them
var trimScript = newScript(`
local unlinked = redis.call('UNLINK', unpack(KEYS, 2))
local trimmed = redis.call('HGET', KEYS[1], 'trimmed')
if not trimmed or tonumber(trimmed) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'trimmed', ARGV[1]) end
return unlinked
`)

// Flip writes the ledger row of rev into the view and makes rev the current revision, only upwards: ErrRevisionBack when a
// higher one is current, which leaves the view as it is. A row of rev that is not final never replaces its final row: it
// comes from a closer that was overtaken. Repeating is safe. The content of rev need not be in Redis, so
// that a lost view can be rebuilt from the Kafka ledger, lowest revision first.
func (s *Store) Flip(ctx context.Context, id WindowID, rev int, final bool, row []byte) error {
	rank := 0
	if final {
		rank = 1
	}
	reply, err := s.run(ctx, flipScript, []string{id.ledgerKey()}, rev, row, rank)
	if err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", rev, id, err)
	}
	current, err := replyInt(reply, 0)
	if err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", rev, id, err)
	}
	if current != int64(rev) {
		return fmt.Errorf("publish revision %d of %s: %w: %d is current", rev, id, ErrRevisionBack, current)
	}
	return nil
}

// Published returns the current revision of the view and its ledger row; found is false when there is none.
func (s *Store) Published(ctx context.Context, id WindowID) (p Published, found bool, err error) {
	reply, err := s.query(ctx, publishedScript, []string{id.ledgerKey()})
	if err != nil {
		return Published{}, false, fmt.Errorf("read ledger of %s: %w", id, err)
	}
	if len(reply) == 0 {
		return Published{}, false, nil
	}
	current, err := replyInt(reply, 0)
	if err != nil {
		return Published{}, false, fmt.Errorf("%s: %w", id.ledgerKey(), err)
	}
	return Published{Current: int(current), Row: []byte(replyString(reply, 1))}, true, nil
}

// LedgerRows returns all ledger rows of the view by revision.
func (s *Store) LedgerRows(ctx context.Context, id WindowID) (map[int][]byte, error) {
	hash, err := s.client.HGetAll(ctx, id.ledgerKey()).Result()
	if err != nil {
		return nil, fmt.Errorf("read ledger of %s: %w", id, err)
	}
	rows := make(map[int][]byte, len(hash))
	for field, row := range hash {
		text, ok := strings.CutPrefix(field, "row:")
		if !ok {
			continue
		}
		rev, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: field %q", id.ledgerKey(), ErrCorrupt, field)
		}
		rows[rev] = []byte(row)
	}
	return rows, nil
}

// trimBatch is how many revisions one call of trimScript unlinks.
const trimBatch = 100

// Trim unlinks the content of all revisions older than the previous one and returns how many it found. Their ledger rows
// stay.
func (s *Store) Trim(ctx context.Context, id WindowID) (unlinked int, err error) {
	fail := func(err error) (int, error) { return unlinked, fmt.Errorf("trim revisions of %s: %w", id, err) }
	fields, err := s.client.HMGet(ctx, id.ledgerKey(), "current", "trimmed").Result()
	if err != nil {
		return fail(err)
	}
	if fields[0] == nil {
		return 0, nil
	}
	current, err := replyInt(fields, 0)
	if err != nil {
		return fail(err)
	}
	first := int64(1)
	if fields[1] != nil {
		trimmed, err := replyInt(fields, 1)
		if err != nil {
			return fail(err)
		}
		first = trimmed + 1
	}
	for first <= current-2 {
		last := min(first+trimBatch-1, current-2)
		keys := []string{id.ledgerKey()}
		for rev := first; rev <= last; rev++ {
			keys = append(keys, id.revisionKey(int(rev)))
		}
		reply, err := s.run(ctx, trimScript, keys, last)
		if err != nil {
			return fail(err)
		}
		n, err := replyInt(reply, 0)
		if err != nil {
			return fail(err)
		}
		unlinked += int(n)
		first = last + 1
	}
	return unlinked, nil
}
