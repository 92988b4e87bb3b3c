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

// stageRowsScript adds rows to a hash that is not shown yet. Answers 1, or 0 if the hash is another
// writer's, or a later revision is shown.
//
// KEYS[1] ledger
// KEYS[2] staged rows
// ARGV[1] token
// ARGV[2] revision
// ARGV[3] edition
// ARGV[4] 1 to take the hash over from other writers, else 0
// ARGV[5] 1 if these are the last rows, else 0
// ARGV[6] ms to keep the hash unless it is shown
// ARGV[7...] key, values, ...
var stageRowsScript = newScript("stage_rows", `
local shown = redis.call('HMGET', KEYS[1], 'current', 'edition')
if shown[1] then
	local edition = tonumber(shown[2] or '1')
	if edition > tonumber(ARGV[3]) then return 0 end
	if edition == tonumber(ARGV[3]) and tonumber(shown[1]) > tonumber(ARGV[2]) then return 0 end
end
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then
	if ARGV[4] == '0' then return 0 end
	redis.call('UNLINK', KEYS[2])
	redis.call('HSET', KEYS[2], 'token', ARGV[1])
end
for i = 7, #ARGV, @step@ do redis.call('HSET', KEYS[2], unpack(ARGV, i, math.min(i + @step@ - 1, #ARGV))) end
if ARGV[5] == '1' then redis.call('HSET', KEYS[2], 'revision', ARGV[2]) end
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return 1
`)

// StageRows adds rows to a plain hash that Flip lets take the place of the one that is shown. token
// is random, and the same for nobody else: a hash is complete only when one writer has written all
// of it. begin discards what another one has left, which is for the first call; end completes the
// hash. Rows of any number are sent in calls of about 256 KiB. A hash that is not shown is kept for
// a day after the last call. ErrSuperseded: another writer has taken the hash over since, it is
// gone, or a later version is shown.
func (s *Store) StageRows(ctx context.Context, id WindowID, v Version, token string, begin, end bool, rows []ViewField) error {
	keys := []string{id.ledgerKey(), id.stagedRowsKey(v.Revision)}
	for first := true; first || len(rows) > 0; first = false {
		n := fieldsOfCall(rows, rowsCallBytes)
		args := []any{token, v.Revision, v.Edition, begin && first, end && n == len(rows), unshownFor.Milliseconds()}
		reply, err := s.run(ctx, stageRowsScript, keys, appendFields(args, rows[:n])...)
		if err == nil && reply[0] != int64(1) {
			err = ErrSuperseded
		}
		if err != nil {
			return fmt.Errorf("write the rows of revision %d of %s: %w", v.Revision, id, err)
		}
		rows = rows[n:]
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
