package stuck

import (
	"regexp"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/tests/rig"
)

// noWorkerSays is what every command says when nobody would hear it.
const noWorkerSays = "no worker polls task queue"

// disk is the id of the first worker's WAL directory.
func (s *scene) disk() string {
	s.t.Helper()
	found := regexp.MustCompile(`msg="WAL opened".* disk=(\S+)`).FindStringSubmatch(s.worker.Said())
	require.Len(s.t, found, 2)
	return found[1]
}

// leaveJournal kills the worker while commits are in its journal, and lets another one with a disk of its own take over.
func (s *scene) leaveJournal() {
	s.t.Helper()
	s.redis.Point("")
	(&scenario{kind: contract.ConditionDegraded, says: "journal: "}).stands(s)
	s.feed(60)
	read := s.worker.sum("millrace_lane_records_total")
	s.feed(60)
	rig.Eventually(s.t, "the lanes go on into the journal", patience, func() bool {
		return s.worker.sum("millrace_lane_records_total") >= read+60
	})
	s.worker.Kill()
	s.redis.Point(s.rdb.Addr)
	s.Ready(s.startWorker("worker-2", "--wal", s.t.TempDir(), "--breaker-open", "2s").Process)
	s.well()
}

// workerScenarios are pipelines that lack a worker, or whose lanes have no room.
var workerScenarios = []scenario{
	{
		name: "no worker", kind: contract.ConditionNoWorker, also: []string{contract.ConditionLaneUnowned},
		bring:    func(s *scene) { s.worker.Kill() },
		leave:    func(s *scene) { s.worker = s.startWorker("worker-2"); s.Ready(s.worker.Process) },
		noWorker: true,
		commands: []try{
			pause(noWorkerSays, 3), resume(noWorkerSays, 3), scale(noWorkerSays, 3), drain(noWorkerSays, 3),
			remove(noWorkerSays, 3), stop(noWorkerSays, 3),
		},
	},
	{
		name: "no worker with a WAL for a pipeline that wants one", kind: contract.ConditionSeeking, quick: true, idle: true,
		setup: setup{change: overflow},
		says:  "no WAL|--wal",
		bring: func(s *scene) { s.running([]string{"start", s.File}) },
		leave: func(s *scene) { s.Ready(s.startWorker("worker-2", "--wal", walDir).Process) },
	},
	{
		name: "commands without a capable worker", kind: contract.ConditionSeeking, idle: true,
		setup: setup{change: overflow},
		bring: func(s *scene) { s.running([]string{"start", s.File}) },
		leave: func(s *scene) { s.lives(); s.Ready(s.startWorker("worker-2", "--wal", walDir).Process) },
	},
	{
		name: "a journal whose worker is gone", kind: contract.ConditionJournalWaits,
		setup: journalling(),
		bring: func(s *scene) {
			s.leaveJournal()
			s.running([]string{"wal", "replay", s.Spec.Name, "--disk", s.disk()})
		},
		noWorker: true,
		leave:    func(s *scene) { s.Ready(s.startWorker("worker-1-again", "--wal", walDir).Process) },
	},
}
