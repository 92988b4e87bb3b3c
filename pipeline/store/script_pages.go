package store

import "github.com/redis/go-redis/v9"

// applyPagesScript applies one call of PageFormat in a lane's chain, moving the cursor as its last
// write. A call that is a lane's first of that format makes it one; whatever pages stand under the
// names of its slices then were left by a state that is gone.
//
// KEYS[1] meta
// KEYS[2] slices
// KEYS[3] folds
// KEYS[4...] hashes of pages: one per deletion, then one per page
// ARGV[1] owner
// ARGV[2] cursor before
// ARGV[3] cursor after
// ARGV[4] slices that must be registered before the call, 0 for any number
// ARGV[5] what stands at the end: see metaNone and the others
// ARGV[6] format
// ARGV[7] what the names of page keys begin with
// ARGV[8] what the names of entry keys of FieldFormat begin with
// ARGV[9] buckets per slice in FieldFormat
// ARGV[10] number of dropped slices
// ARGV[11] number of slices whose fields go
// ARGV[12] number of deletions
// ARGV[13] number of pages
// ARGV[14] number of values in folds
// then for each dropped slice: slice, deadline ("" drops unconditionally)
// then the slices whose fields go
// then for each deletion: number of names, name, ...
// then for each page: slice ("" if registered by the page before), slice end, name, value
// then folds: slice, stat, ...
// then meta: field, value, ... up to the end
var applyPagesScript = named("apply_pages", redis.NewScript(applyPagesSource))

var applyPagesSource = scriptConstants.Replace(`
local head = redis.call('HMGET', KEYS[1], 'owner', 'cursor', 'watermark', 'sealed', 'format')
if not head[1] or not head[2] then return {@nometa@, ''} end
if head[1] ~= ARGV[1] then return {@fenced@, head[1]} end
local ns, nc = string.match(ARGV[3], '^(%d+):(%d+)$')
if head[2] ~= ARGV[2] then
	local hs, hc = string.match(head[2], '^(%d+):(%d+)$')
	if not hs then return {@lost@, head[2]} end
	hs, hc = tonumber(hs), tonumber(hc)
	if hs > tonumber(ns) or (hs == tonumber(ns) and hc >= tonumber(nc)) then return @repeated@ end
	return {@lost@, head[2]}
end
local must, kind = tonumber(ARGV[4]), tonumber(ARGV[5])
if must > 0 then
	local slices, stats = redis.call('ZCARD', KEYS[2]), redis.call('HLEN', KEYS[3])
	if slices ~= must or stats ~= must then return {@partial@, slices .. ' slices and ' .. stats .. ' folds of ' .. must} end
end
local drops, unfields, deletions = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local pages, folds = tonumber(ARGV[13]), tonumber(ARGV[14])
local a, k = 15, 4
if drops > 0 then
	local sealed = math.max(tonumber(head[3]), tonumber(head[4]))
	for i = a, a + 2 * drops - 1, 2 do
		if ARGV[i+1] ~= '' and sealed < tonumber(ARGV[i+1]) then return {@notsealed@, ARGV[i]} end
	end
end
local buckets = tonumber(ARGV[9])
local suffixes, names = {}, {}
local function fill(from, base, first, last)
	for n = first, last do
		local suffix = suffixes[n]
		if not suffix then
			suffix = ':' .. n
			suffixes[n] = suffix
		end
		names[from + n - first] = base .. suffix
	end
end
local function unlink_pages(slice)
	names[1] = ARGV[7] .. slice
	fill(2, names[1], 1, @spread@)
	redis.call('UNLINK', unpack(names, 1, 1 + @spread@))
end
local function unlink_fields(slice)
	local base = ARGV[8] .. slice
	for b = 0, buckets - 1, @step@ do
		local last = math.min(b + @step@, buckets) - 1
		fill(1, base, b, last)
		redis.call('UNLINK', unpack(names, 1, last - b + 1))
	end
end
if head[5] ~= ARGV[6] then
	for _, slice in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do unlink_pages(slice) end
	redis.call('HSET', KEYS[1], 'format', ARGV[6])
end
for _ = 1, drops do
	local slice = ARGV[a]
	unlink_pages(slice)
	unlink_fields(slice)
	local stat = redis.call('HGET', KEYS[3], slice)
	local held = stat and string.match(stat, '^%-?%d+,%-?%d+,(%d+)')
	if held and held ~= '0' then redis.call('HINCRBY', KEYS[1], 'dropped', held) end
	redis.call('ZREM', KEYS[2], slice)
	redis.call('HDEL', KEYS[3], slice)
	a = a + 2
end
for _ = 1, unfields do
	unlink_fields(ARGV[a])
	a = a + 1
end
for _ = 1, deletions do
	local n = tonumber(ARGV[a])
	for i = a + 1, a + n, @step@ do
		redis.call('HDEL', KEYS[k], unpack(ARGV, i, math.min(i + @step@ - 1, a + n)))
	end
	a, k = a + 1 + n, k + 1
end
for _ = 1, pages do
	if ARGV[a] ~= '' and redis.call('ZADD', KEYS[2], ARGV[a+1], ARGV[a]) == 1 then
		unlink_pages(ARGV[a])
		unlink_fields(ARGV[a])
	end
	redis.call('HSET', KEYS[k], ARGV[a+2], ARGV[a+3])
	a, k = a + 4, k + 1
end
if kind == @whole@ then redis.call('UNLINK', KEYS[3]) end
for i = a, a + folds - 1, @step@ do
	redis.call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + @step@, a + folds) - 1))
end
if kind > @unbalanced@ then redis.call('HSET', KEYS[1], 'dropped_under', ARGV[1], 'done', ns) end
redis.call('HSET', KEYS[1], 'cursor', ARGV[3], unpack(ARGV, a + folds))
return @applied@
`)
