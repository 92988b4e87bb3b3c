package store

import (
	"context"
	"errors"
	"fmt"
)

// What an attempt writes of a revision before that is published is a draft: a hash of pages and one of
// plain rows, under a name that has edition, revision and attempt. Nobody but the attempt writes them,
// so a closer that was frozen, and goes on when another one has taken over, meets nothing but its own.
// The row in the Kafka ledger names the attempt, and Flip makes its draft the content of the window.
//
// What is not shown expires after a day. So that closers which die again and again do not fill Redis
// meanwhile, the drafts of a window are listed: whoever begins one unlinks those that were not
// completed, but for the latest few, and Flip unlinks the others of its revision and of those before.
// Both are harmless however late they happen. Nobody shows a draft that is not complete, and there is
// one row of a revision.

const (
	// draftsKept is how many drafts of others that are not complete stay when one is begun. Whoever
	// is still writing one that goes is told so.
	draftsKept = 2

	// draftsAtOnce is how many of the listed drafts one call looks at.
	draftsAtOnce = 64
)

// isShown is a function for scripts whose KEYS[1] is a ledger: whether a version or a later one is shown.
const isShown = `
local function is_shown(rev, edition)
	local shown = redis.call('HMGET', KEYS[1], 'current', 'edition')
	if not shown[1] then return false end
	local of = tonumber(shown[2] or '1')
	return of > tonumber(edition) or of == tonumber(edition) and tonumber(shown[1]) >= tonumber(rev)
end
`

// beginDraft is a function for scripts whose KEYS[2] lists the drafts, with the order in which they
// were begun, and whose keys from KEYS[4] on are pages and rows of the drafts named in ARGV[1]. It
// lists the draft that is begun, and returns nil, or what the script has to answer instead.
const beginDraft = `
local function begin_draft(name, ms)
	local listed, others = redis.call('HGETALL', KEYS[2]), {}
	for i = 1, #listed, 2 do
		if listed[i] ~= name then others[#others + 1] = {listed[i], tonumber(listed[i + 1])} end
	end
	table.sort(others, function(a, b) return a[2] > b[2] end)
	local names = {}
	for i = 1, math.min(#others, @drafts@) do names[i] = others[i][1] end
	local all = table.concat(names, ',')
	if all ~= ARGV[1] then return {@otherviews@, all} end
	local kept = 0
	for i, other in ipairs(names) do
		local pages, rows = KEYS[2 + 2 * i], KEYS[3 + 2 * i]
		local rev = string.match(other, '^%d+:(%d+):')
		if not redis.call('HGET', pages, 'dir:' .. rev) and not redis.call('HGET', rows, 'revision') then
			kept = kept + 1
			if kept > @kept@ then
				redis.call('UNLINK', pages, rows)
				redis.call('HDEL', KEYS[2], other)
			end
		end
	end
	redis.call('HSET', KEYS[2], name, others[1] and others[1][2] + 1 or 1)
	redis.call('PEXPIRE', KEYS[2], ms)
	return nil
end
`

// writeDraftScript adds fields to a draft. Answers 1, or 0 if the revision or a later one is shown, or
// draftgone if the draft does not have all fields of the calls before.
//
// KEYS[1] ledger
// KEYS[2] list of drafts
// KEYS[3] draft
// KEYS[4...] pages and rows of the drafts of ARGV[1]
// ARGV[1] other drafts that are listed
// ARGV[2] name
// ARGV[3] attempt
// ARGV[4] revision
// ARGV[5] edition
// ARGV[6] fields that were written before, 0 to begin the draft
// ARGV[7] ms to keep it unless it is shown
// ARGV[8...] name, value, ...
var writeDraftScript = newScript("write_draft", isShown+beginDraft+`
if is_shown(ARGV[4], ARGV[5]) then return 0 end
local written, found = tonumber(ARGV[6]), redis.call('HLEN', KEYS[3])
if written > 0 and found <= written then return @draftgone@ end
if found == 0 then
	local other = begin_draft(ARGV[2], ARGV[7])
	if other then return other end
	redis.call('HSET', KEYS[3], 'attempt', ARGV[3])
end
for i = 8, #ARGV, @step@ do redis.call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + @step@ - 1, #ARGV))) end
redis.call('PEXPIRE', KEYS[3], ARGV[7])
return 1
`)

// WriteDraft adds fields to the draft of a revision: all pages, or those that it changes, and as the
// last one the directory, which completes it. attempt is random, and the same for nobody else. written
// is how many fields the calls before have written, no two of one name; 0 begins the draft, and does
// nothing when it is repeated. Fields of any number are sent in calls of about 1 MiB. They count for
// nobody until Flip shows the revision with a View that names the attempt, and expire a day after the
// last call.
//
// ErrSuperseded: v or a later version is shown. ErrDraftGone: Redis has lost some of the draft. A
// server that fails over forgets the latest calls, so the directory stands in no draft that lacks a
// page.
func (s *Store) WriteDraft(ctx context.Context, id WindowID, v Version, attempt string, written int,
	fields []ViewField) error {
	fail := func(err error) error { return fmt.Errorf("draft revision %d of %s: %w", v.Revision, id, err) }
	if v.Revision < 1 || attempt == "" {
		return fail(errors.New("a draft needs a revision and an attempt"))
	}
	name := draftName(v, attempt)
	keys := []string{id.ledgerKey(), id.draftsKey(), id.draftKey(name)}
	for first := true; first || len(fields) > 0; first = false {
		n := fieldsOfCall(fields, viewCallBytes)
		args := []any{name, attempt, v.Revision, v.Edition, written, unshownFor.Milliseconds()}
		reply, err := s.runWithViews(ctx, id, writeDraftScript, keys, appendFields(args, fields[:n])...)
		if err == nil {
			err = draftRefusal(reply)
		}
		if err != nil {
			return fail(err)
		}
		fields, written = fields[n:], written+n
	}
	return nil
}

// draftRefusal is the error that a reply of a script that writes a draft stands for.
func draftRefusal(reply []any) error {
	switch reply[0] {
	case int64(1):
		return nil
	case int64(statusDraftGone):
		return ErrDraftGone
	}
	return ErrSuperseded
}

// discardDraftScript unlinks a draft.
//
// KEYS[1] list of drafts
// KEYS[2] pages
// KEYS[3] rows
// ARGV[1] name
var discardDraftScript = newScript("discard_draft", `
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('UNLINK', KEYS[2], KEYS[3])
`)

// DiscardDraft unlinks what the attempt at a revision has written, pages and plain rows, unless it is
// shown. The revision must not be published any more. Without it they expire after a day.
func (s *Store) DiscardDraft(ctx context.Context, id WindowID, v Version, attempt string) error {
	name := draftName(v, attempt)
	keys := []string{id.draftsKey(), id.draftKey(name), id.stagedRowsKey(name)}
	if _, err := s.run(ctx, discardDraftScript, keys, name); err != nil {
		return fmt.Errorf("discard the draft of revision %d of %s: %w", v.Revision, id, err)
	}
	return nil
}
