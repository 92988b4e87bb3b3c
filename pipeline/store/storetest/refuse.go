package storetest

import (
	"strings"

	"github.com/alicebob/miniredis/v2"
	peer "github.com/alicebob/miniredis/v2/server"
)

// What a real server answers to a write, in the words of Redis 7.
const (
	ReadOnly = "READONLY You can't write against a read only replica."
	Full     = "OOM command not allowed when used memory > 'maxmemory'."
)

// RefuseWrites makes an in-process server answer every write, and every script that may write, with refusal; "" ends it. PING and
// reads are answered as ever.
func RefuseWrites(redis *miniredis.Miniredis, refusal string) {
	if refusal == "" {
		redis.Server().SetPreHook(nil)
		return
	}
	redis.Server().SetPreHook(func(c *peer.Peer, cmd string, _ ...string) bool {
		switch strings.ToUpper(cmd) {
		case "EVAL", "EVALSHA", "SET", "SETNX", "HSET", "HDEL", "ZADD", "DEL", "UNLINK":
			c.WriteError(refusal)
			return true
		}
		return false
	})
}
