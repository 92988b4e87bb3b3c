package model

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	lua "github.com/yuin/gopher-lua"
)

// errInjected is what a caller gets for a call that was made to fail: it says nothing about what the server did.
var errInjected = errors.New("injected fault")

// errCrashed is what a crashed actor gets for every call: none of them has an effect.
var errCrashed = errors.New("crashed")

// serverError is an error answer of Redis.
type serverError string

func (e serverError) Error() string { return string(e) }

// RedisError makes it one in the eyes of go-redis.
func (serverError) RedisError() {}

// server is a Redis in memory that runs real scripts and remembers, per hash tag, how to take every call back: what
// survives a fail-over is a prefix of a tag's calls.
type server struct {
	tags    map[string]*tag
	cur     *tag // of the call that runs now
	lua     *lua.LState
	sources map[string]*lua.FunctionProto // by hash, all ever seen
	cached  map[string]bool               // hashes that the server knows now
	now     func() int64                  // ms
	unknown string                        // a command the store uses and the model lacks
	before  func(now int64)               // each command
	mirror  func(args []string, reply any, err error)
}

// tag is everything under one hash tag.
type tag struct {
	name   string
	hashes map[string]map[string]string
	zsets  map[string]map[string]string // member -> score
	ends   map[string]int64             // ms: when a key expires
	calls  [][]func()                   // what takes each write call back, oldest first
	undo   []func()                     // of the call that runs now
	marks  []mark                       // commits whose meta was applied, oldest first
	lost   int                          // times calls were taken back
}

// mark is a commit whose meta was the tag's call of that number.
type mark struct {
	*commitInfo
	call int
}

// rulings is the history of seals that the stored state was decided with.
func (t *tag) rulings() []*ruling {
	if n := len(t.marks); n > 0 {
		return t.marks[n-1].rulings
	}
	return nil
}

// losesRuling reports whether taking back one more call would lose a ruling that decides anything.
func (t *tag) losesRuling() bool {
	n := len(t.marks)
	if n == 0 || t.marks[n-1].call != len(t.calls) {
		return false
	}
	before := 0
	if n > 1 {
		before = len(t.marks[n-2].rulings)
	}
	return effective(t.marks[n-1].rulings[min(before, len(t.marks[n-1].rulings)):])
}

func effective(rulings []*ruling) bool {
	return slices.ContainsFunc(rulings, func(s *ruling) bool { return s.effective })
}

func newServer() (*server, error) {
	s := &server{sources: map[string]*lua.FunctionProto{}}
	s.now = func() int64 { return 0 }
	s.reset()
	s.lua = lua.NewState()
	module := s.lua.NewTable()
	module.RawSetString("call", s.lua.NewFunction(s.luaCall))
	s.lua.SetGlobal("redis", module)
	return s, nil
}

// reset empties the server and makes it forget its scripts.
func (s *server) reset() {
	s.tags = map[string]*tag{}
	s.cached = map[string]bool{}
}

func (s *server) tag(name string) *tag {
	t := s.tags[name]
	if t == nil {
		t = &tag{name: name, hashes: map[string]map[string]string{}, zsets: map[string]map[string]string{}, ends: map[string]int64{}}
		s.tags[name] = t
	}
	return t
}

// rewind takes the last n calls of a tag back.
func (t *tag) rewind(n int) {
	for range n {
		last := len(t.calls) - 1
		for _, undo := range slices.Backward(t.calls[last]) {
			undo()
		}
		t.calls = t.calls[:last]
	}
	t.lost++
}

// names lists the tags in order.
func (s *server) names() []string { return slices.Sorted(maps.Keys(s.tags)) }

// do executes one command.
func (s *server) do(args []string) (reply any, err error) {
	s.cur = s.tag(hashTag(args))
	if s.before != nil {
		s.before(s.now())
	}
	s.expire()
	reply, err = s.run(args)
	if len(s.cur.undo) > 0 {
		s.cur.calls = append(s.cur.calls, s.cur.undo)
		s.cur.undo = nil
	}
	if s.mirror != nil {
		s.mirror(args, reply, err)
	}
	return reply, err
}

func (s *server) run(args []string) (any, error) {
	switch args[0] {
	case "eval", "eval_ro":
		sum := sha1.Sum([]byte(args[1]))
		hash := hex.EncodeToString(sum[:])
		if s.sources[hash] == nil {
			proto, err := compile(args[1])
			if err != nil {
				return nil, err
			}
			s.sources[hash] = proto
		}
		s.cached[hash] = true
		return s.eval(hash, args)
	case "evalsha", "evalsha_ro":
		if !s.cached[args[1]] {
			return nil, serverError("NOSCRIPT No matching script. Please use EVAL.")
		}
		return s.eval(args[1], args)
	}
	return s.command(args)
}

// command executes one of the plain commands the store uses. A missing value is nil, a list []any.
func (s *server) command(args []string) (any, error) {
	t, key := s.cur, args[1]
	switch args[0] {
	case "hget":
		return orNil(t.hashes[key], args[2]), nil
	case "hmget":
		values := make([]any, 0, len(args)-2)
		for _, f := range args[2:] {
			values = append(values, orNil(t.hashes[key], f))
		}
		return values, nil
	case "hgetall", "hscan":
		list := make([]any, 0, 2*len(t.hashes[key]))
		for _, f := range slices.Sorted(maps.Keys(t.hashes[key])) {
			list = append(list, f, t.hashes[key][f])
		}
		if args[0] == "hscan" {
			return []any{"0", list}, nil
		}
		return list, nil
	case "memory": // usage
		n := 0
		for field, value := range t.hashes[args[2]] {
			n += len(field) + len(value)
		}
		return int64(n), nil
	case "exists":
		return int64(min(1, len(t.hashes[key])+len(t.zsets[key]))), nil
	case "set":
		set(t, t.hashes, key, "", args[2])
		return "OK", nil
	case "get": // a string is a hash with one field that has no name
		return orNil(t.hashes[key], ""), nil
	case "scan":
		return []any{"0", s.scan(args[3])}, nil
	case "hkeys":
		list := []any{}
		for _, f := range slices.Sorted(maps.Keys(t.hashes[key])) {
			list = append(list, f)
		}
		return list, nil
	case "hlen":
		return int64(len(t.hashes[key])), nil
	case "hset":
		added := 0
		for i := 2; i+1 < len(args); i += 2 {
			added += set(t, t.hashes, key, args[i], args[i+1])
		}
		return int64(added), nil
	case "hincrby":
		n := strconv.FormatInt(max(0, atoi(t.hashes[key][args[2]]))+atoi(args[3]), 10)
		set(t, t.hashes, key, args[2], n)
		return atoi(n), nil
	case "zcard":
		return int64(len(t.zsets[key])), nil
	case "zadd":
		return int64(set(t, t.zsets, key, args[3], args[2])), nil
	case "hdel":
		removed := 0
		for _, f := range args[2:] {
			removed += unset(t, t.hashes, key, f)
		}
		return int64(removed), nil
	case "zrem":
		return int64(unset(t, t.zsets, key, args[2])), nil
	case "zrange":
		return t.members(key, math.Inf(-1), math.Inf(1))
	case "zrangebyscore":
		from, to, err := bounds(args[2], args[3])
		if err != nil {
			return nil, err
		}
		return t.members(key, from, to)
	case "pttl":
		if len(t.hashes[key])+len(t.zsets[key]) == 0 {
			return int64(-2), nil
		}
		if at, ok := t.ends[key]; ok {
			return at - s.now(), nil
		}
		return int64(-1), nil
	case "pexpire":
		if len(t.hashes[key])+len(t.zsets[key]) == 0 {
			return int64(0), nil
		}
		t.live(key, s.now()+atoi(args[2]))
		return int64(1), nil
	case "persist":
		if _, ok := t.ends[key]; !ok {
			return int64(0), nil
		}
		t.persist(key)
		return int64(1), nil
	case "unlink":
		n := int64(0)
		for _, k := range args[1:] {
			n += t.unlink(k)
		}
		return n, nil
	case "rename":
		if t.hashes[key] == nil {
			return nil, serverError("ERR no such key")
		}
		t.rename(key, args[2])
		return "OK", nil
	}
	s.unknown = args[0]
	return nil, serverError("ERR unknown command '" + args[0] + "'")
}

// scan lists the keys that match a pattern of the store: what they begin with, a set of which the next byte is one, and *.
func (s *server) scan(pattern string) []any {
	prefix, rest, _ := strings.Cut(pattern, "[")
	next, _, _ := strings.Cut(rest, "]")
	var keys []string
	for _, t := range s.tags {
		for key := range t.hashes {
			if left, ok := strings.CutPrefix(key, prefix); ok && left != "" && strings.ContainsRune(next, rune(left[0])) {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	list := make([]any, len(keys))
	for i := range keys {
		list[i] = keys[i]
	}
	return list
}

// unlink deletes a key.
func (t *tag) unlink(key string) (n int64) {
	if old, ok := t.hashes[key]; ok {
		delete(t.hashes, key)
		t.undo = append(t.undo, func() { t.hashes[key] = old })
		n++
	}
	if old, ok := t.zsets[key]; ok {
		delete(t.zsets, key)
		t.undo = append(t.undo, func() { t.zsets[key] = old })
		n++
	}
	t.persist(key)
	return n
}

// rename gives a hash another key, with its time to live.
func (t *tag) rename(key, to string) {
	t.unlink(to)
	hash := t.hashes[key]
	end, ends := t.ends[key]
	t.persist(key)
	delete(t.hashes, key)
	t.hashes[to] = hash
	t.undo = append(t.undo, func() {
		delete(t.hashes, to)
		t.hashes[key] = hash
	})
	if ends {
		t.live(to, end)
	}
}

// persist takes a key's time to live away.
func (t *tag) persist(key string) {
	if at, ok := t.ends[key]; ok {
		delete(t.ends, key)
		t.undo = append(t.undo, func() { t.ends[key] = at })
	}
}

// live gives a key its time to live.
func (t *tag) live(key string, end int64) {
	old, had := t.ends[key]
	t.ends[key] = end
	t.undo = append(t.undo, func() {
		if t.ends[key] = old; !had {
			delete(t.ends, key)
		}
	})
}

// expire deletes the keys of the tag whose time is over.
func (s *server) expire() {
	for _, key := range slices.Sorted(maps.Keys(s.cur.ends)) {
		if s.cur.ends[key] <= s.now() {
			s.cur.unlink(key)
		}
	}
}

// bounds are the lowest and the highest score that a range asks for; one that is not a bound itself is a whole number.
func bounds(least, most string) (from, to float64, err error) {
	after, open := strings.CutPrefix(least, "(")
	if from, err = strconv.ParseFloat(after, 64); err == nil {
		to, err = strconv.ParseFloat(most, 64)
	}
	if err != nil {
		return 0, 0, serverError("ERR min or max is not a float")
	}
	if open {
		from++
	}
	return from, to, nil
}

// members lists the members of a sorted set with scores in a range, by score, then by member.
func (t *tag) members(key string, from, to float64) ([]any, error) {
	type scored struct {
		member string
		score  float64
	}
	var list []scored
	for m, text := range t.zsets[key] {
		score, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, serverError("ERR value is not a valid float")
		}
		if from <= score && score <= to {
			list = append(list, scored{m, score})
		}
	}
	slices.SortFunc(list, func(a, b scored) int {
		if a.score != b.score {
			return int(min(1, max(-1, a.score-b.score)))
		}
		return strings.Compare(a.member, b.member)
	})
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i].member
	}
	return out, nil
}

func set(t *tag, all map[string]map[string]string, key, field, value string) (added int) {
	h := all[key]
	if h == nil {
		h = map[string]string{}
		all[key] = h
		t.undo = append(t.undo, func() { delete(all, key) })
	}
	old, had := h[field]
	h[field] = value
	t.undo = append(t.undo, func() {
		if had {
			h[field] = old
		} else {
			delete(h, field)
		}
	})
	if had {
		return 0
	}
	return 1
}

func unset(t *tag, all map[string]map[string]string, key, field string) (removed int) {
	h := all[key]
	old, had := h[field]
	if !had {
		return 0
	}
	delete(h, field)
	if len(h) == 0 {
		delete(all, key)
		t.persist(key)
	}
	t.undo = append(t.undo, func() {
		h[field] = old
		all[key] = h
	})
	return 1
}

func orNil(h map[string]string, field string) any {
	if v, ok := h[field]; ok {
		return v
	}
	return nil
}

// hashTag returns what stands in braces in the first key of the command.
func hashTag(args []string) string {
	key := 1
	switch {
	case strings.HasPrefix(args[0], "eval"):
		key = 3
	case args[0] == "memory":
		key = 2
	}
	if key >= len(args) {
		return ""
	}
	_, rest, _ := strings.Cut(args[key], "{")
	name, _, _ := strings.Cut(rest, "}")
	return name
}

// answer gives a command its reply.
func answer(cmd redis.Cmder, reply any, err error) error {
	if err != nil {
		cmd.SetErr(err)
		return err
	}
	switch c := cmd.(type) {
	case *redis.Cmd:
		c.SetVal(reply)
	case *redis.IntCmd:
		c.SetVal(reply.(int64))
	case *redis.SliceCmd:
		c.SetVal(reply.([]any))
	case *redis.StringSliceCmd:
		list := reply.([]any)
		texts := make([]string, len(list))
		for i := range list {
			texts[i] = list[i].(string)
		}
		c.SetVal(texts)
	case *redis.StringCmd:
		text, ok := reply.(string)
		if !ok {
			cmd.SetErr(redis.Nil)
			return redis.Nil
		}
		c.SetVal(text)
	case *redis.ScanCmd:
		page := reply.([]any)[1].([]any)
		fields := make([]string, len(page))
		for i := range page {
			fields[i] = page[i].(string)
		}
		c.SetVal(fields, 0)
	case *redis.MapStringStringCmd:
		list := reply.([]any)
		m := make(map[string]string, len(list)/2)
		for i := 0; i+1 < len(list); i += 2 {
			m[list[i].(string)] = list[i+1].(string)
		}
		c.SetVal(m)
	default:
		return fmt.Errorf("the model's redis cannot answer a %T", cmd)
	}
	return nil
}

// argsOf copies the arguments: the store reuses their memory after the call.
func argsOf(cmd redis.Cmder) []string {
	in := cmd.Args()
	args := make([]string, len(in))
	for i, a := range in {
		switch v := a.(type) {
		case string:
			args[i] = v
		case *string:
			args[i] = strings.Clone(*v)
		case []byte:
			args[i] = string(v)
		case int64:
			args[i] = strconv.FormatInt(v, 10)
		case *int64:
			args[i] = strconv.FormatInt(*v, 10)
		default:
			args[i] = fmt.Sprint(v)
		}
	}
	args[0] = strings.ToLower(args[0])
	return args
}

// hook connects a go-redis client to the server; nothing ever reaches the network.
type hook struct{ lab *Lab }

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		reply, err, _ := h.lab.world.call(argsOf(cmd))
		return answer(cmd, reply, err)
	}
}

func (h hook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) (first error) {
		if n := len(cmds); cmds[0].Name() == "multi" && n > 2 {
			return h.lab.world.transaction(cmds[1 : n-1])
		}
		broken := false
		for _, cmd := range cmds {
			if broken {
				cmd.SetErr(errInjected)
				continue
			}
			reply, err, cut := h.lab.world.call(argsOf(cmd))
			broken = cut
			if err := answer(cmd, reply, err); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
}
