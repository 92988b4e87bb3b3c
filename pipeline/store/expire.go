package store

import (
	"context"
	"fmt"
	"time"
)

// expireScript lets the view and every content that may be left of a window vanish together, unless a later edition or a
// higher revision than the given one is shown. A view of an earlier edition goes at once. Answers {1 unless a higher
// version is shown, 1 if the view shows the given version's final row}.
//
// KEYS[1] ledger
// KEYS[2...5] contents of the revision and the one before, in either form
// KEYS[6] plain rows
// KEYS[7...] contents of ARGV[1]
// ARGV[1] whole revisions that the latest two revisions shown stand under
// ARGV[2] revision
// ARGV[3] ms to keep them, at most 0 to unlink them now
// ARGV[4] edition
var expireScript = newScript("expire", latestViews+`
local views, earlier = '', false
local shown = redis.call('HMGET', KEYS[1], 'current', 'final', 'edition')
if shown[1] then
	local edition = tonumber(shown[3] or '1')
	if edition > tonumber(ARGV[4]) then return {0, 0} end
	earlier = edition < tonumber(ARGV[4])
	if not earlier and tonumber(shown[1]) > tonumber(ARGV[2]) then return {0, 0} end
	views = table.concat(latest_views(shown[1]), ',')
end
if views ~= ARGV[1] then return {@otherviews@, views} end
if earlier then
	redis.call('UNLINK', KEYS[1], KEYS[6], unpack(KEYS, 7))
	shown[1] = false
end
if tonumber(ARGV[3]) <= 0 then
	redis.call('UNLINK', unpack(KEYS))
else
	for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
end
if shown[1] == ARGV[2] and shown[2] == '1' then return {1, 1} end
return {1, 0}
`)

// ExpireWindow lets the view of a window whose final row has version v, the contents of its revision and the one before,
// and its plain rows vanish together after d, or now when d is not positive. Drafts stay, because one may be that of a further
// revision which is published and not shown yet. Repeating is safe, and a longer d renews. A window that shows a higher version
// stays as it is: it was corrected since, or belongs to another incarnation of the pipeline, and whoever wrote that
// expires it.
//
// shown reports whether the view showed the final row of v at that moment; without it there was nothing, or an older row,
// to expire.
func (s *Store) ExpireWindow(ctx context.Context, id WindowID, v Version, d time.Duration) (shown bool, err error) {
	rev := v.Revision
	fail := func(err error) (bool, error) { return false, fmt.Errorf("expire %s: %w", id, err) }
	if rev > 2 {
		if _, err := s.Trim(ctx, id); err != nil { // revisions below are unlinked once they are shown, unless the closer died
			return fail(err)
		}
	}
	keys := []string{id.ledgerKey()}
	for n := rev - 1; n <= rev; n++ {
		keys = append(keys, id.revisionKey(n), id.viewKey(n))
	}
	keys = append(keys, id.rowsKey())
	views := ""
	if rev == 1 {
		views = "1" // as of nearly every window that had no late event
	}
	reply, err := s.runWithNames(ctx, id, views, expireScript, keys, rev, d.Milliseconds(), v.Edition)
	if err != nil {
		return fail(err)
	}
	if len(reply) != 2 {
		return fail(fmt.Errorf("%w: reply has %d parts", ErrCorrupt, len(reply)))
	}
	return reply[1] == int64(1), nil
}
