package secure

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/credential"
	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/tests/rig"
)

const shopsYAML = `name: shops
source: {topics: [shops], format: json}
event: {key: [shop], time: {field: at, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: hourly, size: 1h}]
rollups: [{name: daily, from: hourly, calendar: day, timezone: Europe/Berlin}]
watermark: {out_of_orderness: 1m, idle_timeout: 1s}
allowed_lateness: 0s
lane: {overflow: journal, commit_interval: 200ms}
results: {kafka: {topic: shops.windows}, redis: {layout: rows}}
late: {kafka: {topic: shops.late}}
dead_letter: {kafka: {topic: shops.dead}}
`

// secured is a pipeline on servers that demand everything at once, run by somebody who may do no more than docs/security.md says.
type secured struct {
	*rig.Pipeline
	secrets *planted
	broker  *broker
	redis   *node
	plain   string // address of Temporal behind the gateway
	env     []string
	config  string // the configuration file
	wal     string
	admin   string // address of the workers' metrics
	outputs map[string]string
	workers []*rig.Process
	called  map[string]bool // commands of Redis
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{secrets: &planted{}, wal: t.TempDir(), outputs: make(map[string]string), called: make(map[string]bool)}
	ca := newAuthority(t, "authority")
	own := ca.issue(principal)
	passwords := map[string]string{
		"PLAIN": s.secrets.plant("kafka plain"), "SCRAM-SHA-256": s.secrets.plant("kafka scram 256"), "SCRAM-SHA-512": s.secrets.plant("kafka scram 512"),
	}
	s.broker = startBroker(t, ca, passwords, false)
	password, admin := s.secrets.plant("redis"), s.secrets.plant("redis admin")
	pair := ca.serverTLS(own, false).Certificates
	login := redis.Options{Username: redisAdmin, Password: admin, TLSConfig: ca.clientTLS(pair...)}
	s.redis = startNode(t, "redis", login, lock{as: ca.issue("redis"), ca: ca.File, clients: true}, redisUsers(password, admin, workerCommands...)...)
	s.plain = rig.TemporalAddr(t)
	key := s.secrets.plant("temporal key")
	gateway := startGateway(t, s.plain, ca.serverTLS(ca.issue("temporal"), true), key)
	file := func(secret string) string {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, []byte(secret), 0o600))
		return path
	}
	var codec [32]byte
	_, err := rand.Read(codec[:])
	require.NoError(t, err)
	private, err := os.ReadFile(own.key)
	require.NoError(t, err)
	s.secrets.add("client's key", strings.Split(string(private), "\n")[1])
	s.admin = fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t))
	s.config = filepath.Join(t.TempDir(), "millrace.yaml")
	require.NoError(t, os.WriteFile(s.config, fmt.Appendf(nil, `kafka:
  brokers: [%s]
  tls: {ca: %s}
  sasl: {mechanism: SCRAM-SHA-512, user: %s, password_file: %s}
redis:
  tls: {ca: %[2]s, cert: %[5]s, key: %[6]s}
  user: %[3]s
  password: %[7]s
temporal:
  tls: {ca: %[2]s, cert: %[5]s, key: %[6]s}
  codec: {keys: ["one=%[8]s"]}
admin: {token_file: %[9]s}
`, s.broker.sasl, ca.File, principal, file(passwords["SCRAM-SHA-512"]), own.cert, own.key, password,
		file(s.secrets.add("codec key", base64.StdEncoding.EncodeToString(codec[:]))), file(s.secrets.plant("admin token"))), 0o600))
	s.env = []string{
		"MILLRACE_CONFIG=" + s.config, "MILLRACE_KAFKA_BROKERS=", "TEMPORAL_ADDRESS=" + gateway, "TEMPORAL_API_KEY=" + key,
	}
	at := store.DefaultConfig()
	at.Addrs, at.Username, at.Password = []string{s.redis.addr}, redisAdmin, credential.Text(admin)
	at.TLS = credential.TLS{Enable: true, CAFile: ca.File, CertFile: own.cert, KeyFile: own.key}
	w := rig.NewWorld(t, rig.Servers{Kafka: s.broker.inside, Store: &at, Env: s.env})
	s.Pipeline = w.Pipeline(shopsYAML, 2)
	return s
}

// rules are all that the principal needs for the pipeline.
func (s *secured) rules() []rule {
	rules := []rule{
		{"TOPIC", s.Topic(), false, "READ"},
		{"TOPIC", s.Topic(), false, "WRITE"},
		{"GROUP", engine.Group(s.Spec.Name), false, "READ"},
		{"GROUP", engine.Group(s.Spec.Name), false, "DELETE"},
		{"TRANSACTIONAL_ID", engine.Group(s.Spec.Name) + ".close.", true, "WRITE"},
	}
	for _, topic := range []string{
		ledger.Topic(s.Spec.Name), s.Spec.Name + ".states", s.Spec.Results.Kafka.Topic, s.Spec.Late.Kafka.Topic, s.Spec.DeadLetter.Kafka.Topic,
	} {
		for _, may := range []string{"READ", "WRITE", "CREATE", "DELETE"} {
			rules = append(rules, rule{"TOPIC", topic, false, may})
		}
	}
	// Nobody but people reads what could not be read.
	return slices.DeleteFunc(rules, func(r rule) bool { return r.name == s.Spec.DeadLetter.Kafka.Topic && r.may == "READ" })
}

// work starts a worker that says all it can.
func (s *secured) work() *rig.Process {
	s.T.Helper()
	program := s.WorkerProgram(fmt.Sprintf("worker-%d", len(s.workers)+1))
	program.Args = append(program.Args, "--verbose", "--wal", s.wal, "--metrics", s.admin, "--breaker-open", "2s")
	one := rig.Spawn(s.T, program)
	s.workers = append(s.workers, one)
	s.Ready(one)
	return one
}

// run is Must, and remembers what the command said.
func (s *secured) run(args ...string) rig.Answer {
	s.T.Helper()
	a := s.Must(args...)
	s.outputs["millrace "+strings.Join(args, " ")] = a.Out + a.Err
	return a
}

// live has the pipeline do everything that pipelines do, from its start to its removal.
func (s *secured) live() {
	t, name := s.T, s.Spec.Name
	worker := s.work()
	s.run("start", s.File)
	from := time.Date(2001, 3, 18, 23, 0, 0, 0, time.UTC)
	var lines [][]byte
	for n := range 72 {
		lines = append(lines, fmt.Appendf(nil, `{"shop":"a","at":%d}`, from.Add(time.Duration(n/2)*time.Hour).UnixMilli()))
	}
	lines = append(lines, []byte("no JSON"), []byte("nor this"))
	end := from.AddDate(0, 0, 9).UnixMilli()
	lines = append(lines, fmt.Appendf(nil, `{"shop":"b","at":%d}`, end), fmt.Appendf(nil, `{"shop":"b","at":%d}`, end))
	s.Feed(lines)
	finals := func() (n int) {
		for _, row := range s.Ledger() {
			if row.Final {
				n++
			}
		}
		return n
	}
	rig.Eventually(t, "36 hours are final", rig.Patience, func() bool { return finals() == 36 })
	s.Send(0, fmt.Appendf(nil, `{"shop":"a","at":%d}`, from.Add(100*time.Minute).UnixMilli()))
	rig.Eventually(t, "an event is late", rig.Patience, func() bool {
		m, _ := s.Meta(0)
		return m.Counters.Late == 1
	})
	s.run("status", name)
	s.run("status", name, "--json")
	s.run("windows", "ls", name)
	s.run("verify", name, "--spec", s.File)
	s.run("compact", "run", name)
	span := []string{"--from", from.Add(time.Hour).Format(time.RFC3339), "--to", from.Add(2 * time.Hour).Format(time.RFC3339)}
	s.run(append([]string{"replay", name, "--from-late", "--id", "late"}, span...)...)
	var found contract.ReplayStatus
	require.NoError(t, json.Unmarshal([]byte(s.run("replay", "show", name, "late", "--json").Out), &found))
	s.run("replay", "approve", name, "late", found.Summary.Checksum)
	s.run("compact", "run", name)
	s.run("pause", name)
	s.run("resume", name)
	s.outage()
	worker.Kill()
	s.work()
	s.run("degrade", "status", name)
	s.run("flush", name)
	s.metrics()
	rig.Eventually(t, "everything agrees, and Temporal has been told that Redis is back", rig.Patience, func() bool {
		return s.CLI("verify", name).Code == 0
	})
	s.run("verify", name)
	s.run("stop", name, "--drain")
	s.histories()
	s.run("rm", name, "--topics", "--yes", "--grace", "1s")
}

// countCalls remembers which commands somebody has called since Redis was started, by themselves or in scripts.
func (s *secured) countCalls() {
	s.T.Helper()
	stats, err := s.redis.rdb.Info(context.Background(), "commandstats").Result()
	require.NoError(s.T, err)
	for line := range strings.Lines(stats) {
		if name, ok := strings.CutPrefix(line, "cmdstat_"); ok {
			name, _, _ = strings.Cut(name, ":")
			s.called[name] = true
		}
	}
}

// outage has Redis away for long enough that commits go to the write-ahead log, and errors into every place where they are told.
func (s *secured) outage() {
	s.countCalls()
	s.redis.Kill()
	s.Send(1, []byte(`{"shop":"c","at":985000000000}`))
	level := func(name string) bool {
		return s.workers[len(s.workers)-1].SaidOf(`msg="degradation level"`, "to="+name) > 0
	}
	rig.Eventually(s.T, "the worker has noticed", rig.Patience, func() bool { return level("journal") })
	a := s.CLI("status", s.Spec.Name)
	s.outputs["status while Redis is away"] = a.Out + a.Err
	s.redis.start("redis")
	rig.Eventually(s.T, "the worker is back", rig.Patience, func() bool { return level("normal") })
}

// Least rights: the pipeline lives its whole life with the documented rules, and every one of them was used. Planted secrets: none is
// in anything that was said anywhere meanwhile.
func TestSecuredLife(t *testing.T) {
	needLong(t)
	s := newSecured(t)
	s.broker.allow(s.rules()...)
	require.NoError(t, s.redis.rdb.Do(context.Background(), "ACL", "LOG", "RESET").Err())
	watch := watchArguments(s.secrets)
	s.live()
	s.outputs["worker config print"] = s.workerConfig("print")
	s.outputs["worker config check"] = s.workerConfig("check")
	for _, w := range s.workers {
		s.outputs["log of "+w.Name] = w.Said()
	}
	s.outputs["WAL"] = allFiles(t, s.wal)

	t.Run("rights at Kafka", func(t *testing.T) {
		a := s.broker.audited()
		for _, r := range s.rules() {
			requests := slices.Sorted(maps.Keys(a.used[r]))
			t.Logf("%-60s %s", strings.ReplaceAll(r.String(), s.Spec.Name, "NAME"), strings.Join(requests, " "))
			require.NotEmpty(t, requests, "%s was never used", r)
		}
		for _, denied := range slices.Sorted(maps.Keys(a.denied)) {
			t.Logf("denied, and done without: %s", strings.ReplaceAll(denied, s.Spec.Name, "NAME"))
		}
	})
	t.Run("rights at Redis", func(t *testing.T) {
		log, err := s.redis.rdb.Do(context.Background(), "ACL", "LOG").Slice()
		require.NoError(t, err)
		for _, entry := range log {
			if text := fmt.Sprint(entry); !strings.Contains(text, "config|get") { // which a start does without
				require.NotContains(t, text, principal)
			}
		}
		s.countCalls()
		t.Logf("called: %s", strings.Join(slices.Sorted(maps.Keys(s.called)), " "))
		for _, command := range workerCommands {
			require.True(t, s.called[command], "%s was never called", command)
		}
	})
	t.Run("no secret is told", func(t *testing.T) {
		leaks := watch.end()
		require.Empty(t, leaks, "arguments of processes hold secrets")
		bytes := 0
		for what, text := range s.outputs {
			bytes += len(text)
			s.secrets.requireNoneIn(t, what, text)
		}
		t.Logf("%d secrets in %d outputs of %d bytes, and in the arguments of %d processes: 0 found", len(s.secrets.byName), len(s.outputs),
			bytes, watch.seen)
	})
	t.Run("a secret that is told is found", func(t *testing.T) {
		leak := s.secrets.plant("temporal key")
		watch := watchArguments(s.secrets)
		program := s.WorkerProgram("leaky")
		program.Args = append(program.Args, "--name", leak, "--metrics", fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t)))
		w := rig.Spawn(t, program)
		rig.Eventually(t, "it has said so", rig.Patience, func() bool { return w.SaidOf(leak) > 0 })
		require.Equal(t, []string{"temporal key"}, s.secrets.in(w.Said()))
		require.NotEmpty(t, watch.end())
	})
}
