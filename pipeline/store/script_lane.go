package store

import (
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The scripts below hold the whole of the lane protocol. Each answers with a number on success or with
// {status, detail} when it changed nothing.

var scriptConstants = strings.NewReplacer(
	"@step@", strconv.Itoa(unpackStep),
	"@applied@", strconv.Itoa(statusApplied),
	"@repeated@", strconv.Itoa(statusRepeated),
	"@fenced@", strconv.Itoa(statusFenced),
	"@lost@", strconv.Itoa(statusLost),
	"@nometa@", strconv.Itoa(statusNoMeta),
	"@notsealed@", strconv.Itoa(statusNotSealed),
	"@format@", strconv.Itoa(statusFormat),
	"@stateid@", strconv.Itoa(statusStateID),
	"@expires@", strconv.Itoa(statusExpires),
	"@removed@", strconv.Itoa(statusRemoved),
	"@partial@", strconv.Itoa(statusPartial),
	"@otherviews@", strconv.Itoa(statusOtherViews),
	"@draftgone@", strconv.Itoa(statusDraftGone),
	"@drafts@", strconv.Itoa(draftsAtOnce),
	"@kept@", strconv.Itoa(draftsKept),
	"@unbalanced@", strconv.Itoa(metaUnbalanced),
	"@whole@", strconv.Itoa(metaWhole),
	"@spread@", strconv.Itoa(SpreadHashes),
	"@fields@", strconv.Itoa(FieldFormat),
	"@pages@", strconv.Itoa(PageFormat),
)

// What stands at the end of a call.
const (
	metaNone       = iota
	metaUnbalanced // a meta without a balance
	metaBalanced   // a meta
	metaWhole      // a meta whose folds replace all that are there
)

// The field dropped counts only under the owner that stands in dropped_under: a version of this program that does not keep
// it takes a lane over without moving dropped_under along, and leaves a balance that is not known.

// acquireScript makes ARGV[4] the owner if the owner still is ARGV[3], and creates the meta when there is none and none
// was expected. A repeated call with the same new token succeeds. A lane that a removal owns is nobody's any more.
//
// KEYS[1] meta
// KEYS[2] slices
// KEYS[3] folds
// ARGV[1] newest format
// ARGV[2] state id
// ARGV[3] owner that was read, "" when there was no meta
// ARGV[4] new owner
// ARGV[5] format of a new meta
// ARGV[6...] field, value, ... of a new meta
// Answers the meta as field, value, ...
var acquireScript = newScript("acquire", `
local m = redis.call('HMGET', KEYS[1], 'owner', 'format', 'state', 'dropped_under')
if not m[1] then
	if ARGV[3] ~= '' then return {@fenced@, ''} end
	redis.call('HSET', KEYS[1], 'format', ARGV[5], 'state', ARGV[2], 'owner', ARGV[4], 'dropped_under', ARGV[4], unpack(ARGV, 6))
	return redis.call('HGETALL', KEYS[1])
end
if string.sub(m[1], 1, 8) == 'removed:' then return {@removed@, m[1]} end
local format = tonumber(m[2] or '0')
if not format or format < 1 or format > tonumber(ARGV[1]) then return {@format@, m[2] or '0'} end
if m[3] ~= ARGV[2] then return {@stateid@, m[3] or ''} end
for i = 1, #KEYS do
	if redis.call('PTTL', KEYS[i]) >= 0 then return {@expires@, KEYS[i]} end
end
if m[1] ~= ARGV[4] then
	if m[1] ~= ARGV[3] then return {@fenced@, m[1]} end
	redis.call('HSET', KEYS[1], 'owner', ARGV[4])
	if m[4] == m[1] then redis.call('HSET', KEYS[1], 'dropped_under', ARGV[4]) end
end
return redis.call('HGETALL', KEYS[1])
`)

// applyScript applies one call of a lane's chain, moving the cursor as its last write. A lane of which an owner has begun the first
// commit in pages, and not ended it, turns back: the pages go, which nobody has ever read.
//
// KEYS[1] meta
// KEYS[2] slices
// KEYS[3] folds
// KEYS[4...] entry buckets: all of each dropped slice, then one per write
// ARGV[1] owner
// ARGV[2] cursor before
// ARGV[3] cursor after
// ARGV[4] number of dropped slices
// ARGV[5] buckets per slice
// ARGV[6] number of writes
// ARGV[7] number of values in folds
// ARGV[8] slices that must be registered before the call, 0 for any number
// ARGV[9] what stands at the end: see metaNone and the others
// then for each dropped slice: slice, deadline ("" drops unconditionally)
// then for each write: slice ("" if registered by the write before), slice end, number of values, key, entry, ...
// then folds: slice, stat, ...
// then meta: field, value, ... up to the end
var applyScript = named("apply", redis.NewScript(applySource))

// applySource is kept beside its script because a pipeline cannot fall back from the hash to the source by itself.
var applySource = scriptConstants.Replace(`
local head = redis.call('HMGET', KEYS[1], 'owner', 'cursor', 'watermark', 'sealed', 'format', 'state', 'done')
if not head[1] or not head[2] then return {@nometa@, ''} end
if head[1] ~= ARGV[1] then return {@fenced@, head[1]} end
if head[2] ~= ARGV[2] then
	local hs, hc = string.match(head[2], '^(%d+):(%d+)$')
	if not hs then return {@lost@, head[2]} end
	local ns, nc = string.match(ARGV[3], '^(%d+):(%d+)$')
	hs, hc, ns, nc = tonumber(hs), tonumber(hc), tonumber(ns), tonumber(nc)
	if hs > ns or (hs == ns and hc >= nc) then return @repeated@ end
	return {@lost@, head[2]}
end
local drops, per = tonumber(ARGV[4]), tonumber(ARGV[5])
local writes, folds = tonumber(ARGV[6]), tonumber(ARGV[7])
local must, kind = tonumber(ARGV[8]), tonumber(ARGV[9])
if must > 0 then
	local slices, stats = redis.call('ZCARD', KEYS[2]), redis.call('HLEN', KEYS[3])
	if slices ~= must or stats ~= must then return {@partial@, slices .. ' slices and ' .. stats .. ' folds of ' .. must} end
end
local a, k = 10, 4
if drops > 0 then
	local sealed = math.max(tonumber(head[3]), tonumber(head[4]))
	for i = a, a + 2 * drops - 1, 2 do
		if ARGV[i+1] ~= '' and sealed < tonumber(ARGV[i+1]) then return {@notsealed@, ARGV[i]} end
	end
end
if head[5] == '@pages@' and not head[7] then
	local base = string.match(KEYS[1], '^(.*:)meta$') .. 'p:' .. head[6] .. ':'
	for _, slice in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
		local names = {base .. slice}
		for n = 1, @spread@ do names[n + 1] = base .. slice .. ':' .. n end
		redis.call('UNLINK', unpack(names))
	end
	redis.call('HSET', KEYS[1], 'format', '@fields@')
end
for _ = 1, drops do
	for i = k, k + per - 1, @step@ do
		redis.call('UNLINK', unpack(KEYS, i, math.min(i + @step@, k + per) - 1))
	end
	local stat = redis.call('HGET', KEYS[3], ARGV[a])
	local held = stat and string.match(stat, '^%-?%d+,%-?%d+,(%d+)')
	if held and held ~= '0' then redis.call('HINCRBY', KEYS[1], 'dropped', held) end
	redis.call('ZREM', KEYS[2], ARGV[a])
	redis.call('HDEL', KEYS[3], ARGV[a])
	a, k = a + 2, k + per
end
for _ = 1, writes do
	if ARGV[a] ~= '' and redis.call('ZADD', KEYS[2], ARGV[a+1], ARGV[a]) == 1 then
		local base = string.match(KEYS[k], '^(.*:)%d+$')
		for b = 0, per - 1 do redis.call('UNLINK', base .. b) end
	end
	local first = a + 3
	a = first + tonumber(ARGV[a+2])
	for i = first, a - 1, @step@ do
		redis.call('HSET', KEYS[k], unpack(ARGV, i, math.min(i + @step@, a) - 1))
	end
	k = k + 1
end
if kind == @whole@ then redis.call('UNLINK', KEYS[3]) end
for i = a, a + folds - 1, @step@ do
	redis.call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + @step@, a + folds) - 1))
end
if kind == @unbalanced@ then redis.call('HDEL', KEYS[1], 'dropped_under') end
if kind > @unbalanced@ then redis.call('HSET', KEYS[1], 'dropped_under', ARGV[1]) end
redis.call('HSET', KEYS[1], 'cursor', ARGV[3], unpack(ARGV, a + folds))
return @applied@
`)

// viewScript reads a lane's meta, slices and folds at one instant.
//
// KEYS[1] meta
// KEYS[2] slices
// KEYS[3] folds
var viewScript = newScript("view", `
return {redis.call('HGETALL', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1), redis.call('HGETALL', KEYS[3])}
`)

// raiseScript sets a field to a number if it is missing or lower, and answers all requests to the lane. A lane that has
// another owner than the given one is asked for nothing.
//
// KEYS[1] ctl
// KEYS[2] meta
// ARGV[1] field
// ARGV[2] value, ms
// ARGV[3] owner, empty for a lane that nobody has begun
var raiseScript = newScript("raise", `
local owner = redis.call('HGET', KEYS[2], 'owner') or ''
if owner ~= ARGV[3] then return {@fenced@, owner} end
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old or tonumber(old) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return redis.call('HMGET', KEYS[1], 'seal_before', 'drop_before', 'rewrite')
`)

// askScript leaves a request to the lane's owner, if it still is the owner.
//
// KEYS[1] ctl
// KEYS[2] meta
// ARGV[1] owner
// ARGV[2] request
var askScript = newScript("ask", `
if redis.call('HGET', KEYS[2], 'owner') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'rewrite', ARGV[2])
return 1
`)
