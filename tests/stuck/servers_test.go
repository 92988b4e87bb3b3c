package stuck

import (
	"context"
	"net/http"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/tests/rig"
)

// configure is CONFIG SET on the scene's Redis.
func (s *scene) configure(name, value string) {
	s.t.Helper()
	require.NoError(s.t, s.rdb.Client().ConfigSet(context.Background(), name, value).Err())
}

// follow makes the scene's Redis a replica of nobody that answers, or a primary again.
func (s *scene) follow(args ...any) {
	s.t.Helper()
	require.NoError(s.t, s.rdb.Client().Do(context.Background(), append([]any{"REPLICAOF"}, args...)...).Err())
}

// walDir stands for a directory of the scene in the arguments of a worker.
const walDir = "WAL"

// journalling is a pipeline whose worker has a WAL and a breaker that probes again soon.
func journalling() setup {
	return setup{change: overflow, worker: []string{"--wal", walDir, "--breaker-open", "2s"}}
}

// serverScenarios are servers that are away, or that take no writes.
var serverScenarios = []scenario{
	{
		name: "Redis away with a journal", kind: contract.ConditionDegraded, quick: true,
		also:   []string{contract.ConditionRedisAway, contract.ConditionCommandsUnread},
		setup:  journalling(),
		says:   "journal: ",
		bring:  func(s *scene) { s.rdb.Kill() },
		leave:  func(s *scene) { s.rdb.Start() },
		verify: 3,
		commands: []try{
			drain("lanes (cannot|could not) be read|Redis", 4), pause("Redis", 4), resume("Redis", 4), scale("Redis", 4),
			remove("Redis|stop it first", 1, 130), stop("Redis", 0, 4),
		},
	},
	{
		name: "Redis away without a journal", kind: contract.ConditionHeld, quick: true,
		also:  []string{contract.ConditionCommandsUnread, contract.ConditionClosingFails},
		says:  "refused|EOF|reset",
		bring: func(s *scene) { s.redis.Point("") },
		leave: func(s *scene) { s.redis.Point(s.rdb.Addr) },
		commands: []try{
			drain("lanes (cannot|could not) be read|Redis", 4), pause("Redis", 4), resume("Redis", 4), scale("Redis", 4),
			remove("Redis|stop it first", 1, 130), stop("Redis", 0, 4),
		},
	},
	{
		name: "Redis is a read-only replica", kind: contract.ConditionHeld,
		says:  "READONLY: the server is a read-only replica",
		bring: func(s *scene) { s.follow("127.0.0.1", "1") },
		leave: func(s *scene) { s.follow("NO", "ONE") },
		commands: []try{
			drain("READONLY|not drained", 4), pause("READONLY", 4), resume("Redis|READONLY", 4), scale("Redis|READONLY", 4),
			remove("Redis|READONLY|stop it first", 1, 130), stop("Redis|READONLY", 0, 4),
		},
	},
	{
		name: "Redis is full", kind: contract.ConditionDegraded,
		setup: journalling(),
		says:  "OOM", verify: 1, // Redis refuses whole transactions then, those that only read among them
		verifySays: "redis refuses with OOM: .*; raise maxmemory",
		bring:      func(s *scene) { s.configure("maxmemory", "1mb") },
		leave:      func(s *scene) { s.configure("maxmemory", "0") },
		commands: []try{
			drain("OOM|not drained", 4), pause("OOM", 4), resume("Redis|OOM", 4), scale("Redis|OOM", 4),
			remove("Redis|OOM|stop it first", 1, 130), stop("Redis|OOM", 0, 4),
		},
	},
	{
		name: "Kafka away", kind: contract.ConditionEngineTrouble, also: []string{contract.ConditionKafkaAway, contract.ConditionDegraded},
		setup:  setup{ownKafka: true},
		says:   "no Kafka broker",
		verify: 3,
		bring:  func(s *scene) { s.kafka.Stop() },
		leave:  func(s *scene) { s.kafka.Restart(s.t) },
		commands: []try{
			drain("", 4), pause("", 0, 4), resume("", 0, 4), scale("", 0, 4), remove("Kafka|stop it first", 1, 130), stop("", 0, 4),
		},
	},
	{
		name: "Temporal away", kind: contract.ConditionTemporalAway, quick: true,
		setup: setup{ownTemporal: true},
		bring: func(s *scene) {
			s.extra = []string{"--spec", s.File}
			s.temporal.Point("")
			rig.Eventually(s.t, "the worker is not ready", patience, func() bool {
				ready, _ := s.worker.get("/readyz")
				return ready == http.StatusServiceUnavailable
			})
			before := s.Committed()
			s.feed(60)
			s.Reach(before + 60)
		},
		leave: func(s *scene) {
			s.temporal.Point(rig.TemporalAddr(s.t))
			s.extra = nil
		},
		commands: []try{
			pause("Temporal", 3), resume("Temporal", 3), scale("Temporal", 3), drain("Temporal", 3), remove("Temporal", 3),
			stop("Temporal", 3),
		},
	},
}
