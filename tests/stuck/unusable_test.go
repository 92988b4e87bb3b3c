package stuck

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// overwrite is what somebody or bad memory writes into Redis over a field of what is durable about lane 1.
func (s *scene) overwrite(field, value string) {
	s.t.Helper()
	key := "mr:{" + s.Lane(1).String() + "}:meta"
	require.NoError(s.t, s.rdb.Client().HSet(context.Background(), key, field, value).Err())
}

// shorten takes the last byte off every page of lane 1 in Redis.
func (s *scene) shorten() {
	s.t.Helper()
	ctx, c := context.Background(), s.rdb.Client()
	spoilt := 0
	for _, key := range c.Keys(ctx, "mr:{"+s.Lane(1).String()+"}:p:*").Val() {
		for name, page := range c.HGetAll(ctx, key).Val() {
			require.NoError(s.t, c.HSet(ctx, key, name, page[:len(page)-1]).Err())
			spoilt++
		}
	}
	require.Positive(s.t, spoilt, "lane 1 holds no open slice")
}

// moveLanes kills the worker, does something to what it leaves, and lets another worker take the lanes over.
func (s *scene) moveLanes(meanwhile func()) {
	s.t.Helper()
	s.worker.Kill()
	meanwhile()
	s.worker = s.startWorker("worker-next")
	s.Ready(s.worker.Process)
}

// lastSegment is the file in which the scene's own broker keeps the end of partition 1.
func (s *scene) lastSegment() string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.kafka.Dir, "partitions", s.Topic()+"-1", "*.dat"))
	require.NoError(s.t, err)
	require.Len(s.t, files, 1, "segments of partition 1")
	return files[0]
}

// loseEnd is a crash of the broker's machine that costs the last batch of partition 1.
func (s *scene) loseEnd() {
	s.t.Helper()
	s.kafka.Stop()
	name := s.lastSegment()
	about, err := os.Stat(name)
	require.NoError(s.t, err)
	require.NoError(s.t, os.Truncate(name, about.Size()-1))
	s.kafka.Restart(s.t)
}

// flipEnd is a bad disk of the broker: it changes one bit of the last batch of partition 1.
func (s *scene) flipEnd() {
	s.t.Helper()
	name := s.lastSegment()
	text, err := os.ReadFile(name)
	require.NoError(s.t, err)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(s.t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{text[len(text)-1] ^ 1}, int64(len(text)-1))
	require.NoError(s.t, err)
}

// unusableScenarios are lanes whose state or log cannot be used as it is.
var unusableScenarios = []scenario{
	{
		name: "state of a newer release", kind: contract.ConditionLaneParked, says: report.IncidentFormat,
		bring:    func(s *scene) { s.moveLanes(func() { s.overwrite("format", "9") }) },
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceRebuild) },
		commands: parkedCommands,
	},
	{
		name: "state that somebody has overwritten", kind: contract.ConditionLaneParked, says: report.IncidentCorrupt,
		bring:    func(s *scene) { s.moveLanes(func() { s.overwrite("offset", "many") }) },
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceRebuild) },
		commands: parkedCommands,
	},
	{
		name: "entries that are too short", kind: contract.ConditionLaneParked, says: report.IncidentCorrupt,
		bring: func(s *scene) { s.moveLanes(s.shorten) },
		leave: func(s *scene) { s.lives(); s.decide(report.ChoiceRebuild) },
	},
	{
		name: "state of another spec", kind: contract.ConditionLaneParked, says: report.IncidentOtherSpec,
		bring:    func(s *scene) { s.moveLanes(func() { s.overwrite("state", strings.Repeat("f", 16)) }) },
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceRebuild) },
		commands: parkedCommands[:len(parkedCommands)-1],
	},
	{
		name: "a log that lost its end", kind: contract.ConditionLaneParked, says: report.IncidentTruncated,
		setup: setup{ownKafka: true},
		bring: func(s *scene) {
			s.feed(60)
			s.caughtUp()
			s.Must("stop", s.Spec.Name)
			s.loseEnd()
			s.lives()
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceRebuild) },
		commands: parkedCommands,
	},
	{
		name: "a batch that cannot be decoded", kind: contract.ConditionLaneParked, says: report.IncidentUndecoded,
		setup: setup{ownKafka: true},
		bring: func(s *scene) {
			s.Must("stop", s.Spec.Name)
			s.feed(60)
			s.feed(120)
			s.flipEnd()
			s.lives()
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceSkip) },
		commands: parkedCommands,
	},
	{
		name: "events that jump", kind: contract.ConditionLaneParked, says: report.IncidentJump,
		setup: setup{change: func(s *spec.Spec) { s.Event.MaxJump, s.Event.MaxJumpStreak = spec.Duration(24*time.Hour), 5 }},
		bring: func(s *scene) {
			s.fed += 1_000_000
			s.feed(180)
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceAccept) },
		commands: parkedCommands,
	},
}
