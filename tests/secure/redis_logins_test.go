package secure

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"millrace/tests/rig"
)

// redisAdmin is the user of the test itself, of replicas and of sentinels.
const redisAdmin = "admin"

// workerCommands are all that a worker's user may call, and workerKeys the keys it may touch: what docs/security.md says.
var (
	workerCommands = strings.Fields(`ping client|setname info scan multi exec memory|usage
		eval evalsha eval_ro evalsha_ro time
		get set exists unlink persist pexpire pttl rename
		hget hset hmget hgetall hkeys hlen hdel hincrby hscan
		zadd zcard zrange zrangebyscore zrem zremrangebyrank zscore`)
	clusterCommands  = strings.Fields(`cluster|slots command asking`)
	sentinelCommands = strings.Fields(`ping client|setname sentinel|get-master-addr-by-name sentinel|sentinels sentinel|replicas subscribe`)
	workerKeys       = "~mr:*"
)

// redisUsers are the lines of a configuration without a default user, with the test's own, and with one for Millrace that may call
// these commands.
func redisUsers(password, admin string, commands ...string) []string {
	return []string{
		"user default off",
		fmt.Sprintf("user %s on >%s ~* &* +@all", redisAdmin, admin),
		fmt.Sprintf("user %s on >%s resetchannels %s -@all +%s", principal, password, workerKeys, strings.Join(commands, " +")),
		"masteruser " + redisAdmin, "masterauth " + admin,
	}
}

// sentinelGroup is a primary with a replica, and three Sentinels that watch them. All of them demand a login.
type sentinelGroup struct {
	primary, replica *node
	sentinels        []*node
}

// sentinelMaster is what the Sentinels call the primary.
const sentinelMaster = "lanes"

func startSentinels(t *testing.T, login redis.Options, l lock, password, sentinelPassword, admin string) *sentinelGroup {
	t.Helper()
	users := redisUsers(password, admin, workerCommands...)
	g := &sentinelGroup{primary: startNode(t, "primary", login, l, users...)}
	host, port := g.primary.hostPort()
	g.replica = startNode(t, "replica", login, l, append(users, "replicaof "+host+" "+port)...)
	for i := range 3 {
		lines := []string{
			"user default off",
			fmt.Sprintf("user %s on >%s ~* &* +@all", redisAdmin, admin),
			fmt.Sprintf("user %s on >%s resetchannels &+switch-master &+replica-reconf-done -@all +%s",
				principal, sentinelPassword, strings.Join(sentinelCommands, " +")),
			"sentinel sentinel-user " + redisAdmin, "sentinel sentinel-pass " + admin,
			fmt.Sprintf("sentinel monitor %s %s %s 2", sentinelMaster, host, port),
			fmt.Sprintf("sentinel auth-user %s %s", sentinelMaster, redisAdmin),
			fmt.Sprintf("sentinel auth-pass %s %s", sentinelMaster, admin),
			fmt.Sprintf("sentinel down-after-milliseconds %s 2000", sentinelMaster),
			fmt.Sprintf("sentinel failover-timeout %s 10000", sentinelMaster),
		}
		g.sentinels = append(g.sentinels, startSentinel(t, fmt.Sprintf("sentinel-%d", i), login, l, lines...))
	}
	rig.Eventually(t, "the replica follows, and the Sentinels know it and each other", rig.Patience, func() bool {
		for _, s := range g.sentinels {
			if !strings.Contains(s.info("sentinel", "master0"), "slaves=1,sentinels=3") {
				return false
			}
		}
		return g.replica.info("replication", "master_link_status") == "up"
	})
	return g
}

// addrs are the addresses of the Sentinels.
func (g *sentinelGroup) addrs() string {
	var all []string
	for _, s := range g.sentinels {
		all = append(all, s.addr)
	}
	return strings.Join(all, ",")
}
