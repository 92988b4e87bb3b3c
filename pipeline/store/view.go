package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A content is one hash, named by the revision that was written whole into it. Later revisions that
// change little write what they change into the same hash, and the ledger says under which whole
// revision each of the latest two stands. The fields are "attempt", who wrote the whole revision, and
// those of the caller's choosing: pages and, for every revision, one directory that names its pages.

const (
	// unshownFor is how long a content is kept that is not shown: of a window that went away before it
	// was published, nobody would look for it. Flip lifts the limit.
	unshownFor = 24 * time.Hour

	// viewCallBytes is how many bytes of fields one call of WriteView carries, unless a single field is
	// longer.
	viewCallBytes = 1 << 20

	// ledgerAttempts bounds how often a script is called anew because the ledger has come to name other
	// contents since.
	ledgerAttempts = 8
)

// View names the content of a revision in Redis: the whole revision that its pages stand under, and
// the attempt that wrote that. The zero View is none.
type View struct {
	Whole   int
	Attempt string // random; the same for nobody else who writes the revision
}

// ViewField is a page, a directory or, in the plain hash, a row. The store interprets neither name nor value, but for the names
// of directories; "attempt" is its own.
type ViewField struct {
	Name  string
	Value []byte
}

// DirectoryField is the name of the field that holds the directory of a revision. A revision is not
// shown with a content that does not have it.
func DirectoryField(rev int) string { return "dir:" + strconv.Itoa(rev) }

// latestViews is a function for scripts whose KEYS[1] is a ledger: the whole revisions that the
// current revision and the one before stand under, each once.
const latestViews = `
local function latest_views(current)
	local views = redis.call('HMGET', KEYS[1], 'view:' .. current, 'view:' .. (tonumber(current) - 1))
	local found = {}
	if views[1] then found[1] = views[1] end
	if views[2] and views[2] ~= views[1] then found[#found + 1] = views[2] end
	return found
end
`

// runWithViews executes a script that touches contents which only the ledger names. Keys must be
// declared, so the script refuses with {statusOtherViews, whole revisions} unless ARGV[1] is what it
// finds there, and it is called again with the keys of those behind the others.
func (s *Store) runWithViews(ctx context.Context, id WindowID, script *redis.Script, keys []string,
	args ...any) ([]any, error) {
	var wholes string
	for range ledgerAttempts {
		all := slices.Clone(keys)
		if wholes != "" {
			for whole := range strings.SplitSeq(wholes, ",") {
				all = append(all, id.key("v:"+whole))
			}
		}
		reply, err := s.run(ctx, script, all, append([]any{wholes}, args...)...)
		if err != nil || reply[0] != int64(statusOtherViews) {
			return reply, err
		}
		wholes = replyString(reply, 1)
	}
	return nil, errViewsChange
}

var errViewsChange = errors.New("the views of the ledger change faster than they can be followed; try again")

// writeViewScript adds fields to a content. Answers 1, or 0 if the content is another attempt's, or
// the revision or a later one is shown.
//
// KEYS[1] ledger
// KEYS[2] content
// ARGV[1] attempt
// ARGV[2] revision
// ARGV[3] edition
// ARGV[4] whole revision
// ARGV[5] 1 to take the content over from other attempts, else 0
// ARGV[6] ms to keep a whole revision unless it is shown
// ARGV[7...] name, value, ...
var writeViewScript = newScript("write_view", `
local shown = redis.call('HMGET', KEYS[1], 'current', 'edition')
if shown[1] then
	local edition = tonumber(shown[2] or '1')
	if edition > tonumber(ARGV[3]) then return 0 end
	if edition == tonumber(ARGV[3]) and tonumber(shown[1]) >= tonumber(ARGV[2]) then return 0 end
end
if redis.call('HGET', KEYS[2], 'attempt') ~= ARGV[1] then
	if ARGV[5] == '0' then return 0 end
	-- An earlier edition may show a content under this name: nobody may read the new one as that.
	for _, rev in ipairs(shown[1] and {shown[1], tonumber(shown[1]) - 1} or {}) do
		if redis.call('HGET', KEYS[1], 'view:' .. rev) == ARGV[4] then redis.call('HDEL', KEYS[1], 'view:' .. rev) end
	end
	redis.call('UNLINK', KEYS[2])
	redis.call('HSET', KEYS[2], 'attempt', ARGV[1])
end
for i = 7, #ARGV, @step@ do redis.call('HSET', KEYS[2], unpack(ARGV, i, math.min(i + @step@ - 1, #ARGV))) end
if ARGV[2] == ARGV[4] then redis.call('PEXPIRE', KEYS[2], ARGV[6]) end
return 1
`)

// WriteView adds fields to the content of a revision that is not shown yet: to a whole revision of
// its own, or what it changes to the one that an earlier revision stands under. Fields of any number
// are sent in calls of about 1 MiB. They count for nobody until Flip shows the revision; a whole
// revision that is not shown is kept for a day after the last call. What is written for a revision
// under one name must be the same whoever writes it.
//
// begin discards what an earlier attempt at view.Whole left and takes the content over, which is for
// a whole revision's first call; repeating it discards nothing. ErrSuperseded: another attempt has
// taken it over since, it is gone, or v or a later version is shown.
func (s *Store) WriteView(ctx context.Context, id WindowID, v Version, view View, begin bool,
	fields []ViewField) error {
	fail := func(err error) error { return fmt.Errorf("write revision %d of %s: %w", v.Revision, id, err) }
	if view.Whole < 1 || view.Attempt == "" {
		return fail(errors.New("a view needs a whole revision and an attempt"))
	}
	if begin && v.Revision != view.Whole {
		return fail(fmt.Errorf("only a whole revision begins a content, and this one stands under revision %d", view.Whole))
	}
	keys := []string{id.ledgerKey(), id.viewKey(view.Whole)}
	for first := true; first || len(fields) > 0; first = false {
		n := fieldsOfCall(fields, viewCallBytes)
		args := []any{view.Attempt, v.Revision, v.Edition, view.Whole, begin && first, unshownFor.Milliseconds()}
		reply, err := s.run(ctx, writeViewScript, keys, appendFields(args, fields[:n])...)
		if err != nil {
			return fail(err)
		}
		if reply[0] != int64(1) {
			return fail(ErrSuperseded)
		}
		fields = fields[n:]
	}
	return nil
}

// fieldsOfCall returns how many of the fields go into one call of at most limit bytes.
func fieldsOfCall(fields []ViewField, limit int) int {
	size := 0
	for i := range fields {
		size += len(fields[i].Name) + len(fields[i].Value)
		if size > limit && i > 0 {
			return i
		}
	}
	return len(fields)
}

func appendFields(args []any, fields []ViewField) []any {
	args = slices.Grow(args, 2*len(fields))
	for i := range fields {
		args = append(args, fields[i].Name, fields[i].Value)
	}
	return args
}

// discardViewScript unlinks a content of the attempt that is not shown, and the rows staged for it.
// Answers how many contents it unlinked.
//
// KEYS[1] ledger
// KEYS[2] content
// KEYS[3] staged rows
// ARGV[1] attempt
// ARGV[2] whole revision
var discardViewScript = newScript("discard_view", latestViews+`
if redis.call('HGET', KEYS[3], 'token') == ARGV[1] then redis.call('UNLINK', KEYS[3]) end
if redis.call('HGET', KEYS[2], 'attempt') ~= ARGV[1] then return 0 end
local current = redis.call('HGET', KEYS[1], 'current')
for _, whole in ipairs(current and latest_views(current) or {}) do
	if whole == ARGV[2] then return 0 end
end
return redis.call('UNLINK', KEYS[2])
`)

// DiscardView unlinks a content that is not shown, and the rows that were staged with its attempt as
// their token. What another attempt has written stays, and so does what is shown. Without it they
// expire after a day.
func (s *Store) DiscardView(ctx context.Context, id WindowID, view View) error {
	keys := []string{id.ledgerKey(), id.viewKey(view.Whole), id.stagedRowsKey(view.Whole)}
	if _, err := s.run(ctx, discardViewScript, keys, view.Attempt, view.Whole); err != nil {
		return fmt.Errorf("discard revision %d of %s: %w", view.Whole, id, err)
	}
	return nil
}
