package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// unpackStep is how many values a script hands to one redis.call. Lua's stack bounds it: Redis fails near 8,000 values
// and gopher-lua (miniredis) near 5,000.
const unpackStep = 1024

// Replies of the lane scripts other than the number of a plain success come as {status, detail}.
const (
	statusApplied   = 1
	statusRepeated  = 0
	statusFenced    = -1
	statusLost      = -2
	statusNoMeta    = -3
	statusNotSealed = -4
	statusFormat    = -5
	statusStateID   = -6
	statusExpires   = -7
	statusRemoved   = -8
	statusPartial   = -9

	// statusOtherViews is what scripts of windows answer to runWithViews.
	statusOtherViews = -10

	statusDraftGone = -11
)

// newScript returns a script whose @name@ marks are replaced by the constants above. name is what its metric calls it.
func newScript(name, src string) *redis.Script {
	return named(name, redis.NewScript(scriptConstants.Replace(src)))
}

// run executes script by its hash, by its source when the server does not know it, and returns the reply as an array.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]any, error) {
	return scriptReply(script.Run(ctx, s.client, keys, args...))
}

// query is run for scripts that only read.
func (s *Store) query(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]any, error) {
	return scriptReply(script.RunRO(ctx, s.client, keys, args...))
}

func scriptReply(cmd *redis.Cmd) ([]any, error) {
	reply, err := cmd.Result()
	if err != nil {
		return nil, err
	}
	if list, ok := reply.([]any); ok {
		return list, nil
	}
	return []any{reply}, nil
}

func replyInt(reply []any, i int) (int64, error) {
	if i >= len(reply) {
		return 0, fmt.Errorf("%w: reply has %d parts", ErrCorrupt, len(reply))
	}
	switch v := reply[i].(type) {
	case int64:
		return v, nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %q is not an integer", ErrCorrupt, v)
		}
		return n, nil
	default:
		return 0, fmt.Errorf("%w: reply part %d is %T", ErrCorrupt, i, v)
	}
}

// replyString returns part i, "" when it is absent or null.
func replyString(reply []any, i int) string {
	if i >= len(reply) {
		return ""
	}
	s, _ := reply[i].(string)
	return s
}

// replyList returns part i as an array of strings, nil when it is absent.
func replyList(reply []any, i int) []any {
	if i >= len(reply) {
		return nil
	}
	list, _ := reply[i].([]any)
	return list
}

// replyHash turns field, value, field, value, ... into a map.
func replyHash(list []any) map[string]string {
	hash := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		hash[replyString(list, i)] = replyString(list, i+1)
	}
	return hash
}
