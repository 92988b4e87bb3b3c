package stuck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
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

// journal cuts the workers off from Redis, and returns when commits are in the journal.
func (s *scene) journal() {
	s.t.Helper()
	s.redis.Point("")
	(&scenario{kind: contract.ConditionDegraded, says: "journal: "}).stands(s)
	s.feed(60)
	read := s.worker.sum("millrace_lane_records_total")
	s.feed(60)
	rig.Eventually(s.t, "the lanes go on into the journal", patience, func() bool {
		return s.worker.sum("millrace_lane_records_total") >= read+60
	})
}

// leaveJournal kills the worker while commits are in its journal, and lets another one with a disk of its own take over.
func (s *scene) leaveJournal() {
	s.t.Helper()
	s.journal()
	s.worker.Kill()
	s.redis.Point(s.rdb.Addr)
	s.Ready(s.startWorker("worker-2", "--wal", s.t.TempDir(), "--breaker-open", "2s").Process)
	s.well()
}

// needSpare starts a worker without a WAL: it serves workflows, and cannot run a pipeline that wants a journal.
func (s *scene) needSpare() {
	s.t.Helper()
	if s.spare == nil {
		s.spare = s.startWorker("worker-spare")
		s.Ready(s.spare.Process)
	}
}

// again starts a worker on the disk of the one that was killed.
func (s *scene) again() {
	s.t.Helper()
	s.worker = s.startWorker("worker-1-again", "--wal", walDir, "--breaker-open", "2s")
	s.Ready(s.worker.Process)
}

// damageJournal changes a bit in the middle of what the journal holds behind its header.
func (s *scene) damageJournal() {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.wal, "*.seg"))
	require.NoError(s.t, err)
	var name string
	var fullest []byte
	for _, file := range files { // one is prepared, and holds nothing yet
		text, err := os.ReadFile(file)
		require.NoError(s.t, err)
		if text = bytes.TrimRight(text, "\x00"); len(text) > len(fullest) {
			name, fullest = file, text
		}
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(s.t, err)
	defer f.Close()
	middle := len(fullest) * 3 / 4
	_, err = f.WriteAt([]byte{fullest[middle] ^ 1}, int64(middle))
	require.NoError(s.t, err)
}

// recovering reports whether a recovery has begun that has not ended.
func (s *scene) recovering() bool {
	var all []struct {
		Open   bool                   `json:"open"`
		Status contract.RecoverStatus `json:"status"`
	}
	err := json.Unmarshal([]byte(s.CLI("recover", "ls", s.Spec.Name, "--json").Out), &all)
	return err == nil && len(all) > 0 && all[0].Open && all[0].Status.State == contract.StateRecovering
}

// fill cuts the workers off from Redis and sends events with long keys of their own, a few hundred bytes each, until the journal
// takes no more.
func (s *scene) fill(atOnce int) {
	s.t.Helper()
	s.redis.Point("")
	(&scenario{kind: contract.ConditionDegraded, says: "journal: "}).stands(s)
	rig.Eventually(s.t, "the journal is full", patience, func() bool {
		for n := range s.Parts {
			lines := make([][]byte, atOnce)
			for i := range lines {
				s.keys++
				lines[i] = fmt.Appendf(nil, `{"k":"%s%d","t":%d,"v":1}`, strings.Repeat("k", 200), s.keys, noon+int64(s.fed)*1000)
			}
			s.Send(n, lines...)
		}
		now, _ := s.check()
		return has(now.Conditions, contract.ConditionHeld)
	})
}

// mount gives the WAL a file system of a size. Only root may.
func (s *scene) mount(size string) {
	s.t.Helper()
	if err := syscall.Mount("tmpfs", s.wal, "tmpfs", 0, "size="+size); err != nil {
		s.t.Skipf("no file system of its own for the WAL: %v", err)
	}
	s.t.Cleanup(func() { require.NoError(s.t, syscall.Unmount(s.wal, syscall.MNT_DETACH)) })
}

// resize makes the WAL's file system larger or smaller.
func (s *scene) resize(size string) {
	s.t.Helper()
	require.NoError(s.t, syscall.Mount("tmpfs", s.wal, "tmpfs", syscall.MS_REMOUNT, "size="+size))
}

// goingCommands are for a pipeline whose workflow is well. The drain may come to its end.
var goingCommands = []try{
	pause("", 0, 4), resume("", 0, 4), scale("", 0, 4), remove(stillOpen, 1), drain("", 0, 4),
}

// fullCommands are for a pipeline that is held because its journal is full and Redis is away.
var fullCommands = []try{
	drain("lanes (cannot|could not) be read|Redis", 4), pause("Redis", 4), resume("Redis", 4), scale("Redis", 4),
	remove("Redis|stop it first", 1, 130), stop("Redis", 0, 4),
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
		name: "no worker that answers", kind: contract.ConditionUnanswered,
		setup: setup{cutOff: true},
		bring: func(s *scene) { s.temporal.Point("") },
		leave: func(s *scene) { s.temporal.Point(rig.TemporalAddr(s.t)) },
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
	{
		name: "a journal that is damaged", kind: contract.ConditionJournalAsks,
		setup: journalling(),
		bring: func(s *scene) {
			s.needSpare()
			disk := s.disk()
			s.journal()
			s.endAgain(contract.ReplicaID(s.Spec.Name, 0)) // so that the lanes do not take the journal up before it is replayed
			s.worker.Kill()
			s.damageJournal()
			s.redis.Point(s.rdb.Addr)
			s.again()
			s.running([]string{"wal", "replay", s.Spec.Name, "--disk", disk})
		},
		leave: func(s *scene) {
			s.Must("wal", "decide", s.Spec.Name, contract.ChoiceQuarantine, "--disk", s.disk())
		},
	},
	{
		name: "a journal at its limit", kind: contract.ConditionHeld,
		setup: setup{
			change: func(s *spec.Spec) { s.Lane.Overflow, s.Lane.ChunkFields = spec.OverflowJournal, 50 },
			worker: []string{"--wal", walDir, "--wal-soft-limit", "256KiB", "--wal-hard-limit", "256KiB", "--breaker-open", "2s"},
		},
		says:     "WAL|journal",
		bring:    func(s *scene) { s.fill(50) },
		leave:    func(s *scene) { s.redis.Point(s.rdb.Addr) },
		commands: fullCommands,
	},
	{
		name: "a full disk under the journal", kind: contract.ConditionHeld,
		setup: setup{ // segments of 384 KiB: there is room for two, and the limit is far
			disk: "1m", change: overflow, worker: []string{"--wal", walDir, "--wal-hard-limit", "1536KiB", "--breaker-open", "2s"},
		},
		says:  "the journal is at its hard limit, out of space or failed",
		bring: func(s *scene) { s.fill(600) },
		leave: func(s *scene) {
			s.resize("64m")
			(&scenario{kind: contract.ConditionDegraded, says: "journal: |throttled: "}).stands(s)
			s.redis.Point(s.rdb.Addr)
		},
	},
	{
		name: "a recovery whose process is gone", kind: contract.ConditionHostGone,
		setup: journalling(),
		bring: func(s *scene) {
			s.needSpare()
			s.worker.Kill()
			s.feed(60) // for a drain to wait for
			s.redis.Set(rig.Weather{Delay: 300 * time.Millisecond})
			s.again()
			rig.Eventually(s.t, "the lanes are being recovered", patience, s.recovering)
			s.worker.Kill()
			s.redis.Set(rig.Weather{})
		},
		leave: func(s *scene) { s.again() },
		commands: []try{ // commands that wait for lanes wait one after the other
			drain("not drained|is not drained", 4), scale("", 4), remove(stillOpen, 1), stop("", 0, 4),
		},
	},
	{
		name: "lanes that move too often", kind: contract.ConditionStorm,
		setup: setup{worker: []string{"--storm-changes", "3", "--storm-span", "40s"}},
		says:  "changes of assignment, recoveries are held back",
		bring: func(s *scene) {
			replicas := 2
			rig.Eventually(s.t, "a storm", patience, func() bool {
				before := s.Owners()
				s.Must("scale", s.Spec.Name, fmt.Sprint(replicas))
				replicas = 3 - replicas
				rig.Eventually(s.t, "a lane has moved", patience, func() bool { return !slices.Equal(before, s.Owners()) })
				now, _ := s.check()
				return has(now.Conditions, contract.ConditionStorm)
			})
		},
		leave:    func(s *scene) { s.lives(); s.Must("scale", s.Spec.Name, "1") },
		commands: goingCommands,
	},
	{
		name: "a lane that waits for memory", kind: contract.ConditionLaneBlocked,
		setup: setup{change: func(s *spec.Spec) {
			s.Lane.MemoryLimit, s.Lane.FetchBytes, s.Lane.FetchBatches = 4<<20, 16<<10, 1
			seldomIdle(s)
		}},
		says: "memory limit",
		bring: func(s *scene) {
			s.behind = s.fed
			s.fed += 9_000
			lines := events(s.behind, s.fed)
			for i := range lines {
				lines[i] = fmt.Appendf(nil, `{"k":"%s%d","t":%d,"v":1}`, strings.Repeat("k", 1_000), i, noon+int64(s.behind+i)*1000)
			}
			s.Send(1, lines...)
		},
		leave:    func(s *scene) { s.Send(0, events(s.behind, s.fed)...) },
		commands: goingCommands,
	},
}
