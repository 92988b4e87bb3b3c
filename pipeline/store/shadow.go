package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// What a shadow keeps beside its lanes stands under one hash tag, so that every script that writes there can look at the
// guard in the same step: only the guard's owner writes. Nobody but BeginShadow makes a guard or a lane of a shadow, so
// after its end a worker that was frozen finds neither and writes nothing.

// ShadowID names a shadow of a pipeline.
type ShadowID struct {
	Pipeline string
	ID       string
}

// Namespace is the pipeline of the shadow's lanes.
func (id ShadowID) Namespace() string { return id.Pipeline + "@" + id.ID }

// String is the namespace.
func (id ShadowID) String() string { return id.Namespace() }

var (
	// ErrNoShadow means that there is no such shadow: it was never begun, or it was ended.
	ErrNoShadow = errors.New("there is no such shadow")
	// ErrShadowEnds means that the shadow is being ended. Nobody may own it any more.
	ErrShadowEnds = errors.New("the shadow is being ended")
)

// ShadowGuard is what the guard of a shadow says.
type ShadowGuard struct {
	Owner    Token
	Begun    int64  // ms, which incarnation it is
	Rate     int64  // records a second, 0 leaves it open
	Plan     string // checksum of the plan
	Checksum string // of all headers, "" before every window was compared
}

// beginShadowScript makes a guard with the plan, unless there is one.
//
// KEYS[1] guard
// KEYS[2] plan
// ARGV[1] begun, ms
// ARGV[2] rate
// ARGV[3] checksum of the plan
// ARGV[4] plan
// Answers the guard as field, value, ...
var beginShadowScript = newScript("begin_shadow", `
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('HSET', KEYS[1], 'owner', '', 'begun', ARGV[1], 'rate', ARGV[2], 'plan', ARGV[3], 'checksum', '')
	redis.call('SET', KEYS[2], ARGV[4])
end
return redis.call('HGETALL', KEYS[1])
`)

// takeShadowScript makes ARGV[2] the owner of a guard if the owner still is ARGV[1].
//
// KEYS[1] guard
// ARGV[1] owner that was read
// ARGV[2] new owner
// Answers the guard as field, value, ..., or {status, owner}
var takeShadowScript = newScript("take_shadow", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner then return {@nometa@, ''} end
if string.sub(owner, 1, 8) == 'removed:' then return {@removed@, owner} end
if owner ~= ARGV[1] and owner ~= ARGV[2] then return {@fenced@, owner} end
redis.call('HSET', KEYS[1], 'owner', ARGV[2])
return redis.call('HGETALL', KEYS[1])
`)

// writeShadowScript writes fields of a hash of a shadow if ARGV[1] owns the guard.
//
// KEYS[1] guard
// KEYS[2] hash
// ARGV[1] owner
// ARGV[2] 1 to begin with an empty hash
// ARGV[3...] field, value, ...
// Answers 1, or {status, owner}
var writeShadowScript = newScript("write_shadow", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner then return {@nometa@, ''} end
if owner ~= ARGV[1] then return {string.sub(owner, 1, 8) == 'removed:' and @removed@ or @fenced@, owner} end
if ARGV[2] == '1' then redis.call('UNLINK', KEYS[2]) end
for i = 3, #ARGV, @step@ do
	redis.call('HSET', KEYS[2], unpack(ARGV, i, math.min(i + @step@, #ARGV + 1) - 1))
end
return @applied@
`)

// rateShadowScript sets the rate of a shadow that is not being ended, whoever owns it.
//
// KEYS[1] guard
// ARGV[1] rate
var rateShadowScript = newScript("rate_shadow", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner then return {@nometa@, ''} end
if string.sub(owner, 1, 8) == 'removed:' then return {@removed@, owner} end
redis.call('HSET', KEYS[1], 'rate', ARGV[1])
return @applied@
`)

// fenceShadowScript makes an end the owner of a guard, whoever owned it. A guard that is not there is not made.
//
// KEYS[1] guard
// ARGV[1] token
var fenceShadowScript = newScript("fence_shadow", `
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and string.sub(owner, 1, 8) ~= 'removed:' then redis.call('HSET', KEYS[1], 'owner', ARGV[1]) end
return @applied@
`)

// BeginShadow makes a shadow's guard with its plan. A shadow that exists keeps the plan it was begun with.
func (s *Store) BeginShadow(ctx context.Context, id ShadowID, begun, rate int64, plan []byte, checksum string) (ShadowGuard, error) {
	reply, err := s.run(ctx, beginShadowScript, []string{id.guardKey(), id.planKey()}, begun, rate, checksum, plan)
	if err != nil {
		return ShadowGuard{}, fmt.Errorf("begin shadow %s: %w", id, err)
	}
	g, err := parseShadowGuard(replyHash(reply))
	if err == nil && g.Owner.Removed() {
		err = ErrShadowEnds
	}
	if err != nil {
		return g, fmt.Errorf("begin shadow %s: %w", id, err)
	}
	return g, nil
}

// ReadShadow returns the guard, ErrNoShadow when there is none.
func (s *Store) ReadShadow(ctx context.Context, id ShadowID) (ShadowGuard, error) {
	hash, err := s.client.HGetAll(ctx, id.guardKey()).Result()
	if err == nil && len(hash) == 0 {
		err = ErrNoShadow
	}
	if err != nil {
		return ShadowGuard{}, fmt.Errorf("shadow %s: %w", id, err)
	}
	g, err := parseShadowGuard(hash)
	if err != nil {
		return g, fmt.Errorf("shadow %s: %w", id, err)
	}
	return g, nil
}

// ReadShadowPlan returns the plan that the shadow was begun with, ErrNoShadow when there is none.
func (s *Store) ReadShadowPlan(ctx context.Context, id ShadowID) ([]byte, error) {
	plan, err := s.client.Get(ctx, id.planKey()).Bytes()
	if errors.Is(err, redis.Nil) {
		err = ErrNoShadow
	}
	if err != nil {
		return nil, fmt.Errorf("plan of shadow %s: %w", id, err)
	}
	return plan, nil
}

// TakeShadow makes next the owner of a shadow whose owner was read as before. Errors: ErrNoShadow, ErrShadowEnds, and
// ErrFenced when somebody else has taken it meanwhile.
func (s *Store) TakeShadow(ctx context.Context, id ShadowID, before, next Token) (ShadowGuard, error) {
	reply, err := s.run(ctx, takeShadowScript, []string{id.guardKey()}, string(before), string(next))
	if err == nil {
		err = shadowRefusal(reply)
	}
	if err != nil {
		return ShadowGuard{}, fmt.Errorf("take shadow %s: %w", id, err)
	}
	g, err := parseShadowGuard(replyHash(reply))
	if err != nil {
		return g, fmt.Errorf("take shadow %s: %w", id, err)
	}
	return g, nil
}

// SetShadowRate bounds how many records a second a shadow reads; 0 leaves it open.
func (s *Store) SetShadowRate(ctx context.Context, id ShadowID, perSecond int64) error {
	reply, err := s.run(ctx, rateShadowScript, []string{id.guardKey()}, perSecond)
	if err == nil {
		err = shadowRefusal(reply)
	}
	if err != nil {
		return fmt.Errorf("rate of shadow %s: %w", id, err)
	}
	return nil
}

// FenceShadow takes a shadow's guard away from whoever owns it for good.
func (s *Store) FenceShadow(ctx context.Context, id ShadowID, token Token) error {
	if !token.Removed() {
		return fmt.Errorf("fence shadow %s: token %q is not one of a removal", id, token)
	}
	if _, err := s.run(ctx, fenceShadowScript, []string{id.guardKey()}, string(token)); err != nil {
		return fmt.Errorf("fence shadow %s: %w", id, err)
	}
	return nil
}

// ShadowPage is one page of a window's difference.
type ShadowPage struct {
	Number int
	Bytes  []byte
}

// WriteShadowPages keeps pages of the difference of a window, named by window and start. With reset, those that are there
// go first.
func (s *Store) WriteShadowPages(ctx context.Context, id ShadowID, owner Token, window string, reset bool, pages []ShadowPage) error {
	args := []any{string(owner), bit(reset)}
	for _, p := range pages {
		args = append(args, p.Number, p.Bytes)
	}
	return s.writeShadow(ctx, id, id.pagesKey(window), args)
}

// WriteShadowHeader keeps what was found out about a window. Its pages are there.
func (s *Store) WriteShadowHeader(ctx context.Context, id ShadowID, owner Token, window string, header []byte) error {
	return s.writeShadow(ctx, id, id.headersKey(), []any{string(owner), bit(false), window, header})
}

// FinishShadow keeps the checksum of all headers: every window was compared.
func (s *Store) FinishShadow(ctx context.Context, id ShadowID, owner Token, checksum string) error {
	return s.writeShadow(ctx, id, id.guardKey(), []any{string(owner), bit(false), "checksum", checksum})
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func (s *Store) writeShadow(ctx context.Context, id ShadowID, key string, args []any) error {
	reply, err := s.run(ctx, writeShadowScript, []string{id.guardKey(), key}, args...)
	if err == nil {
		err = shadowRefusal(reply)
	}
	if err != nil {
		return fmt.Errorf("write for shadow %s: %w", id, err)
	}
	return nil
}

// shadowRefusal is the error that a reply of a guarded script stands for.
func shadowRefusal(reply []any) error {
	status, ok := reply[0].(int64)
	if !ok {
		return nil
	}
	switch status {
	case statusNoMeta:
		return ErrNoShadow
	case statusRemoved:
		return ErrShadowEnds
	case statusFenced:
		return ErrFenced
	}
	return nil
}

func parseShadowGuard(hash map[string]string) (g ShadowGuard, err error) {
	g = ShadowGuard{Owner: Token(hash["owner"]), Plan: hash["plan"], Checksum: hash["checksum"]}
	for field, to := range map[string]*int64{"begun": &g.Begun, "rate": &g.Rate} {
		if *to, err = strconv.ParseInt(hash[field], 10, 64); err != nil {
			return g, fmt.Errorf("%w: %s of a shadow's guard is %q", ErrCorrupt, field, hash[field])
		}
	}
	return g, nil
}

// ShadowHeaders returns the header of every window that was compared, by window and start.
func (s *Store) ShadowHeaders(ctx context.Context, id ShadowID) (map[string][]byte, error) {
	headers := make(map[string][]byte)
	for cursor := uint64(0); ; {
		list, next, err := s.client.HScan(ctx, id.headersKey(), cursor, "", scanCount).Result()
		if err != nil {
			return nil, fmt.Errorf("headers of shadow %s: %w", id, err)
		}
		for i := 0; i+1 < len(list); i += 2 {
			headers[list[i]] = []byte(list[i+1])
		}
		if cursor = next; cursor == 0 {
			return headers, nil
		}
	}
}

// ShadowHeader returns the header of one window, nil before it was compared.
func (s *Store) ShadowHeader(ctx context.Context, id ShadowID, window string) ([]byte, error) {
	header, err := s.client.HGet(ctx, id.headersKey(), window).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("header of %s in shadow %s: %w", window, id, err)
	}
	return header, nil
}

// ShadowPage returns one page of a window's difference, nil when there is none of that number.
func (s *Store) ShadowPage(ctx context.Context, id ShadowID, window string, number int) ([]byte, error) {
	page, err := s.client.HGet(ctx, id.pagesKey(window), strconv.Itoa(number)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("page %d of %s in shadow %s: %w", number, window, id, err)
	}
	return page, nil
}

// RegisterShadow notes in the pipeline's registry that a shadow may have keys, since begun (ms).
func (s *Store) RegisterShadow(ctx context.Context, id ShadowID, begun int64) error {
	if err := s.client.HSet(ctx, shadowsKey(id.Pipeline), id.ID, begun).Err(); err != nil {
		return fmt.Errorf("register shadow %s: %w", id, err)
	}
	return nil
}

// ShadowEntry is what a pipeline's registry says of a shadow.
type ShadowEntry struct {
	ID    string
	Begun int64 // ms
	Ended int64 // ms, 0 for one that was not ended
}

// Shadows lists the shadows of a pipeline that may have keys, and those that were ended not long ago, by id.
func (s *Store) Shadows(ctx context.Context, pipeline string) ([]ShadowEntry, error) {
	hash, err := s.client.HGetAll(ctx, shadowsKey(pipeline)).Result()
	if err != nil {
		return nil, fmt.Errorf("shadows of %s: %w", pipeline, err)
	}
	entries := make([]ShadowEntry, 0, len(hash))
	for _, name := range slices.Sorted(maps.Keys(hash)) {
		n, err := strconv.ParseInt(hash[name], 10, 64)
		switch {
		case err != nil:
			return nil, fmt.Errorf("shadows of %s: %w: %s is %q", pipeline, ErrCorrupt, name, hash[name])
		case n < 0:
			entries = append(entries, ShadowEntry{ID: name, Ended: -n})
		default:
			entries = append(entries, ShadowEntry{ID: name, Begun: n})
		}
	}
	return entries, nil
}

// unregisterScript marks a shadow as ended, and forgets those that were ended long ago.
//
// KEYS[1] registry
// ARGV[1] id
// ARGV[2] now, ms
// ARGV[3] what was ended before is forgotten, ms
var unregisterScript = newScript("unregister", `
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry and string.sub(entry, 1, 1) ~= '-' then redis.call('HSET', KEYS[1], ARGV[1], '-' .. ARGV[2]) end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
	local n = tonumber(all[i+1])
	if n < 0 and -n < tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
return 1
`)

// keepEnded is for how long, in ms, a registry remembers a shadow that was ended: a worker that was frozen while it made
// the shadow's keys may leave some behind, and they are looked for as long as this.
const keepEnded = 24 * 60 * 60 * 1000

// UnregisterShadow notes that a shadow was ended at now (ms).
func (s *Store) UnregisterShadow(ctx context.Context, id ShadowID, now int64) error {
	_, err := s.run(ctx, unregisterScript, []string{shadowsKey(id.Pipeline)}, id.ID, now, now-keepEnded)
	if err != nil {
		return fmt.Errorf("unregister shadow %s: %w", id, err)
	}
	return nil
}
