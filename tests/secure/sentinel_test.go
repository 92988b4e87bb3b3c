package secure

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/credential"
	"millrace/pipeline/store"
	"millrace/tests/rig"
)

// A primary that Sentinels watch is killed under load, after it has acknowledged commits that its replica never received. The worker
// follows the Sentinels to the replica, notices what is missing, and writes it again. Everything is behind TLS and logins.
func TestSentinelFailsOver(t *testing.T) {
	needServers(t)
	t.Parallel()
	yaml, lines := rig.Flights(t, 30_000)
	lines = lines[:30_000]
	ca, secrets := newAuthority(t, "authority"), &planted{}
	password, sentinelPassword, admin := secrets.plant("redis"), secrets.plant("sentinel"), secrets.plant("admin")
	login := redis.Options{Username: redisAdmin, Password: admin, TLSConfig: ca.clientTLS()}
	g := startSentinels(t, login, lock{as: ca.issue("redis"), ca: ca.File}, password, sentinelPassword, admin)
	at := store.DefaultConfig()
	at.Addrs, at.MasterName = strings.Split(g.addrs(), ","), sentinelMaster
	at.TLS = credential.TLS{Enable: true, CAFile: ca.File}
	at.Username, at.Password = redisAdmin, credential.Text(admin)
	at.SentinelUsername, at.SentinelPassword = redisAdmin, credential.Text(admin)
	w := rig.NewWorld(t, rig.Servers{Store: &at, Env: []string{
		"MILLRACE_REDIS_SENTINEL_MASTER=" + sentinelMaster, "MILLRACE_REDIS_SENTINEL_USER=" + principal,
		"MILLRACE_REDIS_SENTINEL_PASSWORD=" + sentinelPassword, "MILLRACE_REDIS_CA=" + ca.File,
		"MILLRACE_REDIS_USER=" + principal, "MILLRACE_REDIS_PASSWORD=" + password,
	}})
	p := w.Pipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/20)
	p.Reach(total / 5)
	g.primary.cutReplicas()
	p.Commits(3)
	require.True(t, feed.Going(), "the feed is over before the primary is killed")
	g.primary.Kill()
	killed := time.Now()
	rig.Eventually(t, "the replica is the primary", rig.Patience, func() bool { return g.replica.info("replication", "role") == "master" })
	promoted := time.Now()
	rig.Eventually(t, "all lanes are served", 20*time.Second, func() bool { return p.Committed() >= 0 })
	p.Reach(p.Committed() + total/20)
	t.Logf("the replica takes over %.1f s after the kill, and lanes commit %.1f s later", promoted.Sub(killed).Seconds(),
		time.Since(promoted).Seconds())
	feed.Finish()
	p.Drain()
	p.RequireExact()
	lost := worker.SaidOf("forgot acknowledged writes")
	require.Positive(t, lost, "the replica had everything, so that nothing was tried")
	t.Logf("exact; %d lanes were written again, as Redis had forgotten writes that it had acknowledged", lost)
	secrets.requireNoneIn(t, "what the worker said", worker.Said())
}
