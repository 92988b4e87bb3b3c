package store

import (
	"context"
	"fmt"
	"slices"
)

// A window's ledger is one hash: "edition" (missing in what versions before 0.3 wrote, for 1),
// "current", "final" (1 once its row is), for the latest two revisions "row:<revision>" and, where
// Redis has the content, "view:<revision>", which is the whole revision that it stands under, and
// "trimmed", the highest revision that was given up.

// flipScript writes a revision's row and makes the revision current unless a higher one is, or the
// same with its final row. The draft of the content's attempt becomes the content, and what the
// revision changes is added to it from the call or from the draft of that. The revision's view is set if the content is that of the
// attempt and has the directory, and else dropped; contents that nothing shows any more go, other
// drafts of the revision and of those before, and what is shown of an earlier edition. The plain rows
// are those of the revision afterwards, also when the content they are from is lost, or gone.
// Answers 1, 2 if there should be plain rows and nothing gives them, or 0 if a later edition or a
// higher revision is shown.
//
// KEYS[1] ledger
// KEYS[2] content as earlier releases wrote it
// KEYS[3] content
// KEYS[4] plain rows
// KEYS[5] rows staged for the revision
// KEYS[6] list of drafts
// KEYS[7] draft of the content
// KEYS[8] draft of what the revision changes
// KEYS[9...] contents and drafts of ARGV[1]
// ARGV[1] whole revisions that are not shown any more, and drafts that are of no use
// ARGV[2] revision
// ARGV[3] edition
// ARGV[4] 1 if the row is final, else 0
// ARGV[5] row
// ARGV[6] whole revision, 0 for no view
// ARGV[7] attempt
// ARGV[8] number of values to write into the content; the directory is the last
// ARGV[9] 1 if there are to be plain rows, else 0
// ARGV[10] token of the staged rows that take their place, empty for none
// ARGV[11] revision that the changes of rows lead on from, 0 for none
// ARGV[12] number of values to write into the rows
// ARGV[13] number of keys to delete from the rows
// ARGV[14] attempt of the draft of what the revision changes, empty for none
// ARGV[15...] name, value, ... of the content, key, values, ... and keys of the rows, then the names of fields to delete
var flipScript = newScript("flip", latestViews+`
local shown = redis.call('HMGET', KEYS[1], 'current', 'final', 'edition')
local view, dir = 'view:' .. ARGV[2], 'dir:' .. ARGV[2]
local mine = ARGV[6] ~= '0' and redis.call('HGET', KEYS[3], 'attempt') == ARGV[7]
local again, earlier, names, over = false, false, {}, {}
if shown[1] then
	local edition = tonumber(shown[3] or '1')
	if edition > tonumber(ARGV[3]) then return 0 end
	earlier = edition < tonumber(ARGV[3])
	if earlier then
		for _, whole in ipairs(latest_views(shown[1])) do
			if whole ~= ARGV[6] or not mine then names[#names + 1] = whole end
		end
	elseif tonumber(shown[1]) > tonumber(ARGV[2]) then
		return 0
	elseif shown[1] == ARGV[2] then
		if shown[2] == '1' and ARGV[4] == '0' then return 1 end
		again = true
		local was = redis.call('HMGET', KEYS[1], view, 'view:' .. (tonumber(ARGV[2]) - 1))
		if ARGV[6] ~= '0' and was[1] and was[1] ~= ARGV[6] and was[1] ~= was[2] then names[1] = was[1] end
	end
end
local named = ARGV[3] .. ':' .. ARGV[2] .. ':'
local used = {
	[ARGV[3] .. ':' .. ARGV[6] .. ':' .. ARGV[7]] = true, [named .. ARGV[10]] = true, [named .. ARGV[14]] = true,
}
local drafts = ARGV[6] ~= '0' and redis.call('HKEYS', KEYS[6]) or {}
table.sort(drafts)
for _, name in ipairs(drafts) do
	local edition, rev = string.match(name, '^(%d+):(%d+):')
	local before = tonumber(edition) < tonumber(ARGV[3]) or edition == ARGV[3] and tonumber(rev) <= tonumber(ARGV[2])
	if before and #over < @drafts@ then
		over[#over + 1] = name
		if not used[name] then names[#names + 1] = name end
	end
end
names = table.concat(names, ',')
if names ~= ARGV[1] then return {@otherviews@, names} end
if earlier then redis.call('UNLINK', KEYS[1]) end
for i = 9, #KEYS do redis.call('UNLINK', KEYS[i]) end
if #over > 0 then redis.call('HDEL', KEYS[6], unpack(over)) end
if ARGV[6] ~= '0' and not mine and redis.call('HGET', KEYS[7], 'attempt') then
	redis.call('UNLINK', KEYS[3])
	redis.call('RENAME', KEYS[7], KEYS[3])
	mine = true
end
local function each(command, key, list, first, last)
	for i = first, last, @step@ do redis.call(command, key, unpack(list, i, math.min(i + @step@ - 1, last))) end
end
local fields = 14 + tonumber(ARGV[8])
local rows = fields + tonumber(ARGV[12])
local left = rows + tonumber(ARGV[13])
local change = ARGV[14] ~= '' and redis.call('HGET', KEYS[8], dir)
if change then
	if mine and change ~= ARGV[fields] and change ~= redis.call('HGET', KEYS[3], dir) then
		redis.call('HDEL', KEYS[8], 'attempt')
		local all = redis.call('HGETALL', KEYS[8])
		each('HSET', KEYS[3], all, 1, #all)
	end
	redis.call('UNLINK', KEYS[8])
end
redis.call('HSET', KEYS[1], 'row:' .. ARGV[2], ARGV[5], 'current', ARGV[2], 'final', ARGV[4], 'edition', ARGV[3])
redis.call('PERSIST', KEYS[2])
if ARGV[9] == '0' then redis.call('UNLINK', KEYS[4], KEYS[5]) end
if again and ARGV[6] == '0' then return 1 end
local at = redis.call('HMGET', KEYS[4], 'attempt', 'revision')
local function shows_rows(revision) return at[1] == ARGV[7] and at[2] == revision end
if mine then each('HSET', KEYS[3], ARGV, 15, fields) end
if not mine or not redis.call('HGET', KEYS[3], dir) then
	redis.call('HDEL', KEYS[1], view)
	if not shows_rows(ARGV[2]) then redis.call('UNLINK', KEYS[4]) end
	return 1
end
redis.call('HSET', KEYS[1], view, ARGV[6])
redis.call('PERSIST', KEYS[1])
redis.call('PERSIST', KEYS[3])
each('HDEL', KEYS[3], ARGV, left + 1, #ARGV)
if ARGV[9] == '0' then return 1 end
local staged = redis.call('HMGET', KEYS[5], 'token', 'revision')
if staged[1] and staged[2] == ARGV[2] then
	redis.call('UNLINK', KEYS[4])
	redis.call('RENAME', KEYS[5], KEYS[4])
	redis.call('HDEL', KEYS[4], 'token')
	redis.call('HSET', KEYS[4], 'attempt', ARGV[7])
elseif shows_rows(ARGV[11]) then
	each('HSET', KEYS[4], ARGV, fields + 1, rows)
	each('HDEL', KEYS[4], ARGV, rows + 1, left)
	redis.call('HSET', KEYS[4], 'revision', ARGV[2])
elseif not shows_rows(ARGV[2]) then
	redis.call('UNLINK', KEYS[4])
	return 2
end
redis.call('PERSIST', KEYS[4])
return 1
`)

// publishedScript answers {edition, current revision, its row, whole revision that its content stands
// under or false, revision that the plain rows are of or false}, or {} when nothing was published.
//
// KEYS[1] ledger
// KEYS[2] plain rows
var publishedScript = newScript("published", `
local shown = redis.call('HMGET', KEYS[1], 'edition', 'current')
if not shown[2] then return {} end
local current = redis.call('HMGET', KEYS[1], 'row:' .. shown[2], 'view:' .. shown[2])
return {shown[1] or '1', shown[2], current[1], current[2], redis.call('HGET', KEYS[2], 'revision')}
`)

// trimScript unlinks the contents of old revisions but those that the latest two stand under,
// drops their rows and views, and remembers up to where. A ledger that has begun anew meanwhile is
// left alone. Answers the number unlinked.
//
// KEYS[1] ledger
// KEYS[2...] contents of the revisions as earlier releases wrote them, then as whole revisions, then those of ARGV[1]
// ARGV[1] lower whole revisions that some of them, but not the latest two stand under
// ARGV[2] the lowest of the revisions
// ARGV[3] the highest
var trimScript = newScript("trim", latestViews+`
local first, last = tonumber(ARGV[2]), tonumber(ARGV[3])
local head = redis.call('HMGET', KEYS[1], 'current', 'trimmed')
if not head[1] or tonumber(head[1]) - 2 < last then return 0 end
local kept, lower, fields, keys = {}, {}, {}, {}
for _, whole in ipairs(latest_views(head[1])) do kept[whole] = true end
for rev = first, last do fields[#fields + 1] = 'view:' .. rev end
for _, whole in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
	if whole and tonumber(whole) < first and not kept[whole] and whole ~= lower[#lower] then lower[#lower + 1] = whole end
end
lower = table.concat(lower, ',')
if lower ~= ARGV[1] then return {@otherviews@, lower} end
local n = last - first + 1
for rev = first, last do
	fields[#fields + 1] = 'row:' .. rev
	keys[#keys + 1] = KEYS[2 + rev - first]
	if not kept[tostring(rev)] then keys[#keys + 1] = KEYS[2 + n + rev - first] end
end
for i = 2 + 2 * n, #KEYS do keys[#keys + 1] = KEYS[i] end
redis.call('HDEL', KEYS[1], unpack(fields))
local unlinked = redis.call('UNLINK', unpack(keys))
if not head[2] or tonumber(head[2]) < last then redis.call('HSET', KEYS[1], 'trimmed', last) end
return unlinked
`)

// Flip writes the ledger row of a version into the view and makes that version current, only
// upwards: ErrRevisionBack when a higher one is current, which leaves the view as it is. A row
// that is not final never replaces the final row of its version: it comes from a closer that was
// overtaken. Of an earlier edition nothing stays. Repeating is safe.
//
// The content of the revision is what view names: the draft of its attempt, or the content of that
// together with what the revision changes. fields are that, the directory as the last, from whoever
// holds it; they must be few, since all goes out in one call. Without them it is taken from where
// WriteView has put it, or else from the draft that view names. The content is shown, and kept until
// ExpireWindow, only if it is the attempt's and the revision's directory is there; gone are fields
// that no revision shown needs any more, deleted then. Otherwise, and with the zero View, the row is
// shown without a content, so that a lost view can be rebuilt from the Kafka ledger, lowest revision
// first. The zero View leaves a revision that is shown already the content that it has.
//
// With the content a plain hash of its rows is shown as rows says, at the same instant; without
// rows there is none. ErrNoRows: the revision is shown, but nothing led to its rows, and the hash
// is gone, since it showed something else. StageRows and another call bring it back.
func (s *Store) Flip(ctx context.Context, id WindowID, v Version, final bool, row []byte,
	view View, fields []ViewField, gone []string, rows *Rows) error {
	wanted := rows != nil
	if !wanted {
		rows = &Rows{}
	}
	keys := []string{
		id.ledgerKey(), id.revisionKey(v.Revision), id.viewKey(view.Whole), id.rowsKey(),
		id.stagedRowsKey(draftName(v, rows.Staged)), id.draftsKey(),
		id.draftKey(draftName(Version{v.Edition, view.Whole}, view.Attempt)), id.draftKey(draftName(v, view.Change)),
	}
	args := appendFields([]any{
		v.Revision, v.Edition, final, row, view.Whole, view.Attempt, 2 * len(fields),
		wanted, rows.Staged, rows.Base, 2 * len(rows.Changed), len(rows.Gone), view.Change,
	}, fields)
	args = appendFields(args, rows.Changed)
	for _, name := range slices.Concat(rows.Gone, gone) {
		args = append(args, name)
	}
	reply, err := s.runWithViews(ctx, id, flipScript, keys, args...)
	if err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", v.Revision, id, err)
	}
	flipped, err := replyInt(reply, 0)
	switch {
	case err != nil:
	case flipped == 0:
		err = ErrRevisionBack
	case flipped == 2:
		err = ErrNoRows
	}
	if err != nil {
		return fmt.Errorf("publish revision %d of %s: %w", v.Revision, id, err)
	}
	return nil
}

// Published returns the current version of the view and its ledger row; found is false when there is none.
func (s *Store) Published(ctx context.Context, id WindowID) (p Published, found bool, err error) {
	reply, err := s.query(ctx, publishedScript, []string{id.ledgerKey(), id.rowsKey()})
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
	p = Published{
		Current: Version{int(edition), int(current)}, Row: []byte(replyString(reply, 2)), HasContent: replyString(reply, 3) != "",
	}
	if replyString(reply, 4) != "" {
		rows, err := replyInt(reply, 4)
		if err != nil {
			return Published{}, false, fmt.Errorf("%s: %w", id.rowsKey(), err)
		}
		p.Rows = int(rows)
	}
	return p, true, nil
}

// trimBatch is how many revisions one call of trimScript unlinks.
const trimBatch = 100

// Trim drops the rows of all revisions older than the previous one and unlinks their contents,
// unless the latest two revisions stand under them; it returns how many contents it found. A
// window that late events change for a day has tens of thousands of revisions. The ledger topic
// keeps its latest row.
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
		for rev := first; rev <= last; rev++ {
			keys = append(keys, id.viewKey(int(rev)))
		}
		reply, err := s.runWithViews(ctx, id, trimScript, keys, first, last)
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
