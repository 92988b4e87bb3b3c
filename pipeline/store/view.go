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
// change little add what they change to the same hash, and the ledger says under which whole revision
// each of the latest two stands. The fields are "attempt", who wrote the whole revision, and those of
// the caller's choosing: pages and, for every revision, one directory that names its pages.
//
// Contents are written only by whoever shows a revision that is published: there is one of a number,
// so all of them write the same. Before that a revision is a draft (see draft.go).

const (
	// unshownFor is how long a draft is kept: of a window that went away before it was published,
	// nobody would look for it. Flip makes it a content, without a limit.
	unshownFor = 24 * time.Hour

	// viewCallBytes is how many bytes of fields one call carries, unless a single field is longer.
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

	// Change is the attempt whose draft holds what the revision changes to the whole one; "" of a whole
	// revision, and of one that was published without such a draft. It is "" in what is read from Redis.
	Change string
}

// Same reports whether both name the same content.
func (v View) Same(other View) bool { return v.Whole == other.Whole && v.Attempt == other.Attempt }

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

// runWithViews executes a script that touches contents which only the ledger names, or drafts which
// only their list names. Keys must be declared, so the script refuses with {statusOtherViews, names}
// unless ARGV[1] is what it finds there, and it is called again with the keys of those behind the
// others: one of a content, whose name is its whole revision, and two of a draft, pages and rows.
func (s *Store) runWithViews(ctx context.Context, id WindowID, script *redis.Script, keys []string,
	args ...any) ([]any, error) {
	return s.runWithNames(ctx, id, "", script, keys, args...)
}

// runWithNames is runWithViews for a caller who guesses what the script finds: a right guess saves a call.
func (s *Store) runWithNames(ctx context.Context, id WindowID, names string, script *redis.Script, keys []string,
	args ...any) ([]any, error) {
	for range ledgerAttempts {
		all := slices.Clone(keys)
		if names != "" {
			for name := range strings.SplitSeq(names, ",") {
				all = append(all, id.draftKey(name))
				if strings.Contains(name, ":") {
					all = append(all, id.stagedRowsKey(name))
				}
			}
		}
		reply, err := s.run(ctx, script, all, append([]any{names}, args...)...)
		if err != nil || reply[0] != int64(statusOtherViews) {
			return reply, err
		}
		names = replyString(reply, 1)
	}
	return nil, errViewsChange
}

var errViewsChange = errors.New("the views of the ledger change faster than they can be followed; try again")

// writeViewScript adds fields to a content. Answers 1, or 0 if the content is another attempt's, or
// the revision or a later one is shown, or the content does not have the fields of the call before.
//
// KEYS[1] ledger
// KEYS[2] content
// ARGV[1] attempt
// ARGV[2] revision
// ARGV[3] edition
// ARGV[4] last field of the call before, empty for none
// ARGV[5...] name, value, ...
var writeViewScript = newScript("write_view", isShown+`
if is_shown(ARGV[2], ARGV[3]) or redis.call('HGET', KEYS[2], 'attempt') ~= ARGV[1] then return 0 end
if ARGV[4] ~= '' and not redis.call('HGET', KEYS[2], ARGV[4]) then return 0 end
for i = 5, #ARGV, @step@ do redis.call('HSET', KEYS[2], unpack(ARGV, i, math.min(i + @step@ - 1, #ARGV))) end
return 1
`)

// WriteView adds what a published revision changes to the content that it stands under, before Flip
// shows it: for fields that are too many for that call. They are sent in calls of about 1 MiB.
// ErrSuperseded: the content is another attempt's or gone, or Redis has lost some of the fields, or v
// or a later version is shown.
func (s *Store) WriteView(ctx context.Context, id WindowID, v Version, view View, fields []ViewField) error {
	keys := []string{id.ledgerKey(), id.viewKey(view.Whole)}
	before := "" // a server that fails over forgets the latest calls: with this field it has those before
	for len(fields) > 0 {
		n := fieldsOfCall(fields, viewCallBytes)
		args := appendFields([]any{view.Attempt, v.Revision, v.Edition, before}, fields[:n])
		reply, err := s.run(ctx, writeViewScript, keys, args...)
		if err == nil && reply[0] != int64(1) {
			err = ErrSuperseded
		}
		if err != nil {
			return fmt.Errorf("write what revision %d of %s changes: %w", v.Revision, id, err)
		}
		before, fields = fields[n-1].Name, fields[n:]
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
