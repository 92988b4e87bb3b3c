package store

import (
	"context"
	"fmt"
)

// A window's ledger is one hash: "edition" (missing in what versions before 0.3 wrote, for 1), "current", "final" (1 once
// its row is), "row:<revision>" for the latest two revisions, and "trimmed", the highest revision that was given up.

// flipScript writes a revision's row and makes the revision current unless a higher one is, or the same with its final
// row. What is shown of an earlier edition goes. Answers 1, or 0 if a later edition or a higher revision is shown.
//
// KEYS[1] ledger
// KEYS[2] revision
// ARGV[1] revision
// ARGV[2] row
// ARGV[3] 1 if the row is final, else 0
// ARGV[4] edition
var flipScript = newScript("flip", `
local shown = redis.call('HMGET', KEYS[1], 'current', 'final', 'edition')
if shown[1] then
	local edition = tonumber(shown[3] or '1')
	if edition > tonumber(ARGV[4]) then return 0 end
	if edition < tonumber(ARGV[4]) then
		redis.call('UNLINK', KEYS[1])
	elseif tonumber(shown[1]) > tonumber(ARGV[1]) then
		return 0
	elseif shown[1] == ARGV[1] and shown[2] == '1' and ARGV[3] == '0' then
		return 1
	end
end
redis.call('HSET', KEYS[1], 'row:' .. ARGV[1], ARGV[2], 'current', ARGV[1], 'final', ARGV[3], 'edition', ARGV[4])
redis.call('PERSIST', KEYS[2])
return 1
`)

// publishedScript answers {edition, current revision, its row}, or {} when nothing was published.
//
// KEYS[1] ledger
var publishedScript = newScript("published", `
local shown = redis.call('HMGET', KEYS[1], 'edition', 'current')
if not shown[2] then return {} end
return {shown[1] or '1', shown[2], redis.call('HGET', KEYS[1], 'row:' .. shown[2])}
`)

// trimScript unlinks the content of old revisions with their rows and remembers up to where. Answers the number unlinked.
//
// KEYS[1] ledger
// KEYS[2...] revisions
// ARGV[1] the highest of them
// ARGV[2] the lowest
var trimScript = newScript("trim", `
for rev = tonumber(ARGV[2]), tonumber(ARGV[1]) do redis.call('HDEL', KEYS[1], 'row:' .. rev) end
local unlinked = redis.call('UNLINK', unpack(KEYS, 2))
local trimmed = redis.call('HGET', KEYS[1], 'trimmed')
if not trimmed or tonumber(trimmed) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'trimmed', ARGV[1]) end
return unlinked
`)

// Flip writes the ledger row of a version into the view and makes that version current, only upwards: ErrRevisionBack when
// a higher one is current, which leaves the view as it is. A row that is not final never replaces the final row of its
// version: it comes from a closer that was overtaken. Of an earlier edition nothing stays. The content of the revision
// is kept from then on, until ExpireWindow. Repeating is safe. The content
// of the revision need not be in Redis, so that a lost view can be rebuilt from the Kafka ledger, lowest revision first.
func (s *Store) Flip(ctx context.Context, id WindowID, v Version, final bool, row []byte) error {
	rank := 0
	if final {
		rank = 1
	}
	reply, err := s.run(ctx, flipScript, []string{id.ledgerKey(), id.revisionKey(v.Revision)}, v.Revision, row, rank, v.Edition)
	if err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", v.Revision, id, err)
	}
	flipped, err := replyInt(reply, 0)
	if err == nil && flipped != 1 {
		err = ErrRevisionBack
	}
	if err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", v.Revision, id, err)
	}
	return nil
}

// Published returns the current version of the view and its ledger row; found is false when there is none.
func (s *Store) Published(ctx context.Context, id WindowID) (p Published, found bool, err error) {
	reply, err := s.query(ctx, publishedScript, []string{id.ledgerKey()})
	if err != nil {
		return Published{}, false, fmt.Errorf("read ledger of %s: %w", id, err)
	}
	if len(reply) == 0 {
		return Published{}, false, nil
	}
	edition, err := replyInt(reply, 0)
	if err != nil {
		return Published{}, false, fmt.Errorf("%s: %w", id.ledgerKey(), err)
	}
	current, err := replyInt(reply, 1)
	if err != nil {
		return Published{}, false, fmt.Errorf("%s: %w", id.ledgerKey(), err)
	}
	return Published{Current: Version{int(edition), int(current)}, Row: []byte(replyString(reply, 2))}, true, nil
}

// trimBatch is how many revisions one call of trimScript unlinks.
const trimBatch = 100

// Trim unlinks the content of all revisions older than the previous one, with their rows, and returns how many it found:
// a window that late events change for a day has tens of thousands. The ledger topic keeps its latest row.
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
		reply, err := s.run(ctx, trimScript, keys, last, first)
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
