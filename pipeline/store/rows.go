package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// The rows of a window may also stand in a plain hash, for programs that know nothing of pages: a
// field for each key, which is a JSON object, with the values of its row. Three more fields cannot
// be taken for a key. "revision" is the revision that all the rows are of, "attempt" says who wrote
// the content that they are from, and "token" stands only in a hash that is not shown yet.

// rowsCallBytes is how many bytes of rows one call carries, unless a single row is longer: a hash of
// many small fields costs the server more than a few pages of the same length.
const rowsCallBytes = 256 << 10

// rowsFields is how many fields of a shown hash are no rows.
const rowsFields = 2

// Rows says what the plain hash of a window is to show with a revision.
type Rows struct {
	// Staged is the token of a hash that StageRows has completed; "" for none.
	Staged string

	// Without that, Changed and Gone lead from the rows of revision Base to those of the new one. Base
	// is 0 when nothing does.
	Base    int
	Changed []ViewField // rows that are new or have other values, by key
	Gone    []string    // keys that have left the window
}

// stageRowsScript adds rows to a hash that is not shown yet. Answers 1, or 0 if a later revision is
// shown, or draftgone if the hash does not have all rows of the calls before.
//
// KEYS[1] ledger
// KEYS[2] list of drafts
// KEYS[3] staged rows
// KEYS[4...] pages and rows of the drafts of ARGV[1]
// ARGV[1] other drafts that are listed
// ARGV[2] name
// ARGV[3] token
// ARGV[4] revision
// ARGV[5] edition
// ARGV[6] rows that were written before, 0 to begin the hash
// ARGV[7] 1 if these are the last rows, else 0
// ARGV[8] ms to keep the hash unless it is shown
// ARGV[9...] key, values, ...
var stageRowsScript = newScript("stage_rows", isShown+beginDraft+`
if is_shown(tonumber(ARGV[4]) + 1, ARGV[5]) then return 0 end
local written, found = tonumber(ARGV[6]), redis.call('HLEN', KEYS[3])
if written > 0 and found <= written then return @draftgone@ end
if found == 0 then
	local other = begin_draft(ARGV[2], ARGV[8])
	if other then return other end
	redis.call('HSET', KEYS[3], 'token', ARGV[3])
end
for i = 9, #ARGV, @step@ do redis.call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + @step@ - 1, #ARGV))) end
if ARGV[7] == '1' then redis.call('HSET', KEYS[3], 'revision', ARGV[4]) end
redis.call('PEXPIRE', KEYS[3], ARGV[8])
return 1
`)

// StageRows adds rows to a plain hash that Flip lets take the place of the one that is shown. token
// is random, and the same for nobody else: nobody else writes the hash. It may be the attempt of a
// draft. written is how many rows the calls before have written, no two of one key; 0 begins the hash,
// and end completes it. Rows of any number are sent in calls of about 256 KiB. A hash that is not shown
// is kept for a day after the last call. ErrSuperseded: a later version is shown. ErrDraftGone: Redis
// has lost some of the hash.
func (s *Store) StageRows(ctx context.Context, id WindowID, v Version, token string, written int, end bool, rows []ViewField) error {
	name := draftName(v, token)
	keys := []string{id.ledgerKey(), id.draftsKey(), id.stagedRowsKey(name)}
	for first := true; first || len(rows) > 0; first = false {
		n := fieldsOfCall(rows, rowsCallBytes)
		args := []any{name, token, v.Revision, v.Edition, written, end && n == len(rows), unshownFor.Milliseconds()}
		reply, err := s.runWithViews(ctx, id, stageRowsScript, keys, appendFields(args, rows[:n])...)
		if err == nil {
			err = draftRefusal(reply)
		}
		if err != nil {
			return fmt.Errorf("write the rows of revision %d of %s: %w", v.Revision, id, err)
		}
		rows, written = rows[n:], written+n
	}
	return nil
}

// RowsRead is what the plain hash of a window holds at one instant.
type RowsRead struct {
	Revision int      // 0 when there is no hash
	Rows     int64    // in all
	Values   []string // of the keys that were asked for, "" for one that is not there
}

// ReadRows reads the rows of some keys from the plain hash of a window. They are few: all come in one
// answer.
func (s *Store) ReadRows(ctx context.Context, id WindowID, keys []string) (RowsRead, error) {
	var values *redis.SliceCmd
	var fields *redis.IntCmd
	_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		values = p.HMGet(ctx, id.rowsKey(), append([]string{"revision"}, keys...)...)
		fields = p.HLen(ctx, id.rowsKey())
		return nil
	})
	if err != nil {
		return RowsRead{}, fmt.Errorf("read the rows of %s: %w", id, err)
	}
	found := values.Val()
	if found[0] == nil {
		return RowsRead{Values: make([]string, len(keys))}, nil
	}
	revision, err := replyInt(found, 0)
	if err != nil {
		return RowsRead{}, fmt.Errorf("read the rows of %s: %w", id, err)
	}
	read := RowsRead{Revision: int(revision), Rows: fields.Val() - rowsFields, Values: make([]string, len(keys))}
	for i := range keys {
		read.Values[i] = replyString(found, 1+i)
	}
	return read, nil
}
