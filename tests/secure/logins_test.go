package secure

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// limit is how long a worker may take to say what is wrong.
const limit = 10 * time.Second

// attempt is one try to log in.
type attempt struct {
	server, login, fault string
	env                  []string // what the operator has set
	says                 []string // all of this stands in the one line; nil: it works
}

// outcome is what came of it.
type outcome struct {
	attempt
	took time.Duration
	line string // "" when it worked
}

// stage is the servers that attempts are made on.
type stage struct {
	*rig.World
	secrets  *planted
	ca       *authority
	stranger *authority // nobody trusts it
	client   identity
	faults   map[string]identity // client certificates that are refused
	broker   *broker
	attempts []attempt
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{secrets: &planted{}, ca: newAuthority(t, "authority"), stranger: newAuthority(t, "stranger")}
	s.client = s.ca.issue(principal)
	s.faults = map[string]identity{"expired": s.ca.issueExpired(principal + "-expired"), "of another authority": s.stranger.issue(principal)}
	s.broker = startBroker(t, s.ca, map[string]string{
		"PLAIN": s.secrets.plant("kafka plain"), "SCRAM-SHA-256": s.secrets.plant("kafka scram 256"),
		"SCRAM-SHA-512": s.secrets.plant("kafka scram 512"),
	}, true)
	s.World = rig.NewWorld(t, rig.Servers{Kafka: s.broker.inside})
	return s
}

// add notes an attempt. Later variables win over earlier ones.
func (s *stage) add(server, login, fault string, says []string, env ...[]string) {
	s.attempts = append(s.attempts, attempt{server, login, fault, slices.Concat(env...), says})
}

// file writes a secret into a file and returns its path.
func (s *stage) file(secret string) string {
	path := filepath.Join(s.T.TempDir(), "secret")
	require.NoError(s.T, os.WriteFile(path, []byte(secret+"\n"), 0o600))
	return path
}

// What a line says of the faults that every server shares.
func untrusted(server, variable string) []string {
	return []string{"the certificate of " + server + " is signed by an authority that is not trusted", variable}
}

func speaksTLS(server, variable string) []string {
	return []string{server + " at ", "answers with TLS, and this program does not", variable}
}

func hasExpired(server string) []string {
	return []string{"the certificate of " + server + " has expired", "renew it there"}
}

func wantsCertificate(server string, variables ...string) []string {
	return append([]string{server + " wants a certificate of this program"}, variables...)
}

func refusesCertificate(server string, variables ...string) []string {
	return append([]string{server + " refuses the certificate of this program"}, variables...)
}

func (s *stage) kafkaAttempts() {
	b := s.broker
	at := func(addr string) []string {
		return []string{"MILLRACE_KAFKA_BROKERS=" + addr, "MILLRACE_KAFKA_CA=" + s.ca.File}
	}
	foreign := []string{"MILLRACE_KAFKA_CA=" + s.stranger.File}
	plain := []string{"MILLRACE_KAFKA_CA=", "MILLRACE_KAFKA_TLS=false"}
	show := func(id identity) []string {
		return []string{"MILLRACE_KAFKA_CERT=" + id.cert, "MILLRACE_KAFKA_KEY=" + id.key}
	}
	common := func(login, addr string, env []string) {
		s.add("Kafka", login, "right", nil, at(addr), env)
		s.add("Kafka", login, "wrong CA", untrusted("Kafka", "MILLRACE_KAFKA_CA"), at(addr), env, foreign)
		if login != "mutual TLS" {
			s.add("Kafka", login, "no TLS", speaksTLS("Kafka", "MILLRACE_KAFKA_TLS"), at(addr), env, plain)
		}
		s.add("Kafka", login, "server's expired", hasExpired("Kafka"), at(b.expired), env)
	}
	common("TLS", b.tls, nil)
	common("mutual TLS", b.mutual, show(s.client))
	s.add("Kafka", "mutual TLS", "no TLS", speaksTLS("Kafka", "MILLRACE_KAFKA_TLS"), at(b.mutual), plain)
	files := []string{"MILLRACE_KAFKA_CERT", "MILLRACE_KAFKA_KEY"}
	s.add("Kafka", "mutual TLS", "no certificate", wantsCertificate("Kafka", files...), at(b.mutual))
	s.add("Kafka", "mutual TLS", "own expired", append(refusesCertificate("Kafka", files...), "expired"), at(b.mutual), show(s.faults["expired"]))
	s.add("Kafka", "mutual TLS", "own of another CA", refusesCertificate("Kafka", files...), at(b.mutual), show(s.faults["of another authority"]))
	wrong := s.secrets.plant("kafka wrong password")
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		login := []string{
			"MILLRACE_KAFKA_SASL=" + mechanism, "MILLRACE_KAFKA_USER=" + principal, "MILLRACE_KAFKA_PASSWORD=" + b.passwords[mechanism],
		}
		common(mechanism, b.sasl, login)
		s.add("Kafka", mechanism, "wrong password", []string{
			"Kafka refuses the login", `user "millrace"`, "MILLRACE_KAFKA_USER", "MILLRACE_KAFKA_PASSWORD_FILE",
		}, at(b.sasl), login, []string{"MILLRACE_KAFKA_PASSWORD=" + wrong})
	}
	s.add("Kafka", "PLAIN", "no login", []string{"does it want a login?", "MILLRACE_KAFKA_SASL"}, at(b.sasl))
	bearer := func(name, text string) []string {
		return []string{"MILLRACE_KAFKA_SASL=OAUTHBEARER", "MILLRACE_KAFKA_TOKEN_FILE=" + s.file(s.secrets.add(name, text))}
	}
	hour := time.Now().Add(time.Hour)
	common("OAUTHBEARER", b.sasl, bearer("kafka token", token(s.T, b.signer, hour)))
	forger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(s.T, err)
	source := []string{"MILLRACE_KAFKA_TOKEN_FILE", "MILLRACE_KAFKA_TOKEN_COMMAND"}
	s.add("Kafka", "OAUTHBEARER", "wrong password", append([]string{"Kafka refuses the login: is the token still valid"}, source...),
		at(b.sasl), bearer("kafka forged token", token(s.T, forger, hour)))
	s.add("Kafka", "OAUTHBEARER", "own expired", append([]string{"there is no token for Kafka", "ended at"}, source...),
		at(b.sasl), bearer("kafka old token", token(s.T, b.signer, time.Now().Add(-time.Minute))))
}

func (s *stage) redisAttempts() {
	t := s.T
	server, old := s.ca.issue("redis"), s.ca.issueExpired("redis-expired")
	password, admin := s.secrets.plant("redis password"), s.secrets.plant("redis admin")
	pair := s.ca.serverTLS(s.client, false).Certificates
	login := redis.Options{Username: redisAdmin, Password: admin, TLSConfig: s.ca.clientTLS(pair...)}
	open := lock{as: server, ca: s.ca.File}
	mutual := lock{as: server, ca: s.ca.File, clients: true}
	users := redisUsers(password, admin, workerCommands...)
	single := startNode(t, "redis", login, open, users...)
	closed := startNode(t, "redis-mutual", login, mutual, users...)
	expired := startNode(t, "redis-expired", s.blind(login), lock{as: old, ca: s.ca.File}, users...)
	group := startSentinels(t, login, open, password, s.secrets.plant("sentinel password"), admin)
	cluster := startCluster(t, login, open, redisUsers(password, admin, slices.Concat(workerCommands, clusterCommands)...)...)

	base := []string{"MILLRACE_REDIS_CA=" + s.ca.File, "MILLRACE_REDIS_USER=" + principal, "MILLRACE_REDIS_PASSWORD=" + password}
	plain := []string{"MILLRACE_REDIS_CA=", "MILLRACE_REDIS_CERT=", "MILLRACE_REDIS_KEY=", "MILLRACE_REDIS_TLS=false"}
	show := func(id identity) []string {
		return []string{"MILLRACE_REDIS_CERT=" + id.cert, "MILLRACE_REDIS_KEY=" + id.key}
	}
	wrong := []string{"MILLRACE_REDIS_PASSWORD=" + s.secrets.plant("redis wrong password")}
	common := func(login, addrs string, env ...string) {
		at := []string{"MILLRACE_REDIS_ADDRS=" + addrs}
		s.add("Redis", login, "right", nil, at, base, env)
		s.add("Redis", login, "wrong password", []string{`Redis refuses user "millrace"`, "MILLRACE_REDIS_USER", "MILLRACE_REDIS_PASSWORD_FILE"},
			at, base, env, wrong)
		s.add("Redis", login, "wrong CA", untrusted("Redis", "MILLRACE_REDIS_CA"), at, base, env, []string{"MILLRACE_REDIS_CA=" + s.stranger.File})
		s.add("Redis", login, "no TLS", speaksTLS("Redis", "MILLRACE_REDIS_TLS"), at, base, env, plain)
		s.add("Redis", login, "server's expired", hasExpired("Redis"), base, env, []string{"MILLRACE_REDIS_ADDRS=" + expired.addr})
		s.add("Redis", login, "no login", []string{"Redis wants a login", "MILLRACE_REDIS_USER", "MILLRACE_REDIS_PASSWORD_FILE"},
			at, base, env, []string{"MILLRACE_REDIS_USER=", "MILLRACE_REDIS_PASSWORD="})
	}
	common("ACL user, TLS", single.addr)
	common("ACL user, mutual TLS", closed.addr, show(s.client)...)
	at, files := []string{"MILLRACE_REDIS_ADDRS=" + closed.addr}, []string{"MILLRACE_REDIS_CERT", "MILLRACE_REDIS_KEY"}
	s.add("Redis", "ACL user, mutual TLS", "no certificate", wantsCertificate("Redis", files...), at, base)
	s.add("Redis", "ACL user, mutual TLS", "own expired", append(refusesCertificate("Redis", files...), "expired"), at, base, show(s.faults["expired"]))
	s.add("Redis", "ACL user, mutual TLS", "own of another CA", refusesCertificate("Redis", files...), at, base, show(s.faults["of another authority"]))
	sentinel := []string{
		"MILLRACE_REDIS_SENTINEL_MASTER=" + sentinelMaster, "MILLRACE_REDIS_SENTINEL_USER=" + principal,
		"MILLRACE_REDIS_SENTINEL_PASSWORD=" + s.secrets.plant("sentinel password"),
	}
	common("Sentinel, TLS", group.addrs(), sentinel...)
	at = []string{"MILLRACE_REDIS_ADDRS=" + group.addrs()}
	s.add("Redis", "Sentinel, TLS", "wrong sentinel password", []string{"sentinel", "MILLRACE_REDIS_SENTINEL_USER", "MILLRACE_REDIS_SENTINEL_PASSWORD"},
		at, base, sentinel, []string{"MILLRACE_REDIS_SENTINEL_PASSWORD=" + s.secrets.plant("sentinel wrong password")})
	s.add("Redis", "Sentinel, TLS", "wrong master", []string{`the sentinels know no primary "lakes"`, "MILLRACE_REDIS_SENTINEL_MASTER"},
		at, base, sentinel, []string{"MILLRACE_REDIS_SENTINEL_MASTER=lakes"})
	common("Cluster, TLS", cluster.addrs(), "MILLRACE_REDIS_MODE=cluster")
}

// blind is how the test itself reaches a server whose certificate has expired.
func (s *stage) blind(login redis.Options) redis.Options {
	login.TLSConfig = login.TLSConfig.Clone()
	login.TLSConfig.InsecureSkipVerify = true
	return login
}

func (s *stage) temporalAttempts() {
	t := s.T
	target := rig.TemporalAddr(t)
	server := s.ca.issue("temporal")
	key := s.secrets.plant("temporal key")
	open := startGateway(t, target, s.ca.serverTLS(server, false), "")
	mutual := startGateway(t, target, s.ca.serverTLS(server, true), "")
	keyed := startGateway(t, target, s.ca.serverTLS(server, false), key)
	expired := startGateway(t, target, s.ca.serverTLS(s.ca.issueExpired("temporal-expired"), false), "")
	ca := "TEMPORAL_TLS_SERVER_CA_CERT_PATH="
	show := func(id identity) []string {
		return []string{"TEMPORAL_TLS_CLIENT_CERT_PATH=" + id.cert, "TEMPORAL_TLS_CLIENT_KEY_PATH=" + id.key}
	}
	common := func(login, addr string, env ...string) {
		at := []string{"TEMPORAL_ADDRESS=" + addr, ca + s.ca.File}
		s.add("Temporal", login, "right", nil, at, env)
		s.add("Temporal", login, "wrong CA", untrusted("Temporal", "TEMPORAL_TLS_SERVER_CA_CERT_PATH"), at, env, []string{ca + s.stranger.File})
		s.add("Temporal", login, "no TLS", speaksTLS("Temporal", "TEMPORAL_TLS"), []string{"TEMPORAL_ADDRESS=" + addr, "TEMPORAL_TLS=false"})
		s.add("Temporal", login, "server's expired", hasExpired("Temporal"), at, env, []string{"TEMPORAL_ADDRESS=" + expired})
	}
	common("TLS", open)
	common("mutual TLS", mutual, show(s.client)...)
	common("API key, TLS", keyed, "TEMPORAL_API_KEY="+key)
	files := []string{"TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_KEY_PATH"}
	at := []string{"TEMPORAL_ADDRESS=" + mutual, ca + s.ca.File}
	s.add("Temporal", "mutual TLS", "no certificate", wantsCertificate("Temporal", files...), at)
	s.add("Temporal", "mutual TLS", "own expired", append(refusesCertificate("Temporal", files...), "expired"), at, show(s.faults["expired"]))
	s.add("Temporal", "mutual TLS", "own of another CA", refusesCertificate("Temporal", files...), at, show(s.faults["of another authority"]))
	at = []string{"TEMPORAL_ADDRESS=" + keyed, ca + s.ca.File}
	refused := []string{"Temporal refuses the login", "TEMPORAL_API_KEY"}
	s.add("Temporal", "API key, TLS", "wrong password", refused, at, []string{"TEMPORAL_API_KEY=" + s.secrets.plant("temporal wrong key")})
	s.add("Temporal", "API key, TLS", "no login", refused, at)
}

// Every login, with what belongs to it and with everything that can be wrong: a worker works, or says in one line within 10 s which
// server it is, what is wrong, and where it is set.
func TestLogins(t *testing.T) {
	needServers(t)
	s := newStage(t)
	s.kafkaAttempts()
	s.redisAttempts()
	s.temporalAttempts()
	var mu sync.Mutex
	outcomes := make([]outcome, len(s.attempts))
	t.Run("each", func(t *testing.T) {
		for i, a := range s.attempts {
			t.Run(a.server+" "+a.login+" "+a.fault, func(t *testing.T) {
				t.Parallel()
				o := s.try(t, i, a)
				mu.Lock()
				defer mu.Unlock()
				outcomes[i] = o
			})
		}
	})
	if !t.Failed() {
		t.Log("\n" + table(outcomes))
	}
}

// try runs a worker with what the operator has set. Workers wait for a Temporal that does not let them in, and log why; whatever else
// does not let them in ends them.
func (s *stage) try(t *testing.T, n int, a attempt) outcome {
	program := s.WorkerProgram(fmt.Sprintf("worker-%d", n))
	program.Env = append(program.Env, a.env...)
	began := time.Now()
	w := rig.Spawn(t, program)
	works := func() bool { return w.SaidOf("polling Temporal") > 0 }
	rig.Eventually(t, "the worker works, or says why not", limit, func() bool {
		return works() || w.Ended() || len(complaints(w.Said())) > 0 && a.server == "Temporal"
	})
	o := outcome{attempt: a, took: time.Since(began)}
	w.Kill()
	lines := complaints(w.Said())
	s.secrets.requireNoneIn(t, "what the worker said", w.Said())
	if a.says == nil {
		require.True(t, works(), "%s", w.Tail(10))
		require.Empty(t, lines)
		return o
	}
	require.False(t, works())
	require.Len(t, lines, 1)
	o.line = lines[0]
	for _, text := range a.says {
		require.Contains(t, o.line, text)
	}
	return o
}

// complaints are the lines that an operator would look at: all but those of what goes well.
func complaints(said string) (lines []string) {
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		advice := strings.Contains(line, `msg="a setting of Redis serves lanes badly"`) // the server has its defaults
		if line != "" && !advice && !strings.Contains(line, " level=INFO ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// table shows outcomes as docs/security.md does.
func table(outcomes []outcome) string {
	var faults []string
	cells := make(map[string]string)
	var rows [][2]string
	var slowest time.Duration
	for _, o := range outcomes {
		if !slices.Contains(faults, o.fault) {
			faults = append(faults, o.fault)
		}
		row := [2]string{o.server, o.login}
		if !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
		cell := "works"
		if o.line != "" {
			cell = fmt.Sprintf("%.1f s", o.took.Seconds())
			slowest = max(slowest, o.took)
		}
		cells[o.server+o.login+o.fault] = cell
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| server | login | %s |\n|---|---|%s\n", strings.Join(faults, " | "), strings.Repeat("---|", len(faults)))
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s | %s |", row[0], row[1])
		for _, fault := range faults {
			fmt.Fprintf(&b, " %s |", cells[row[0]+row[1]+fault])
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d attempts; the slowest refusal took %.1f s\n\n", len(outcomes), slowest.Seconds())
	for _, o := range outcomes {
		if o.line != "" {
			fmt.Fprintf(&b, "%s, %s, %s: %s\n", o.server, o.login, o.fault, o.line)
		}
	}
	return b.String()
}
