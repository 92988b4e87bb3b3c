package stuck

import (
	"context"
	"encoding/json"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/tests/rig"
)

// lives starts the pipeline unless it runs.
func (s *scene) lives() {
	s.t.Helper()
	if a := s.CLI("start", s.File); a.Code != 0 { // a lane that asks keeps a start from saying that the pipeline runs
		require.Regexp(s.t, "is running already|does not run|not read yet|parked until somebody decides", a.Err)
	}
}

// kafkaAdmin is for what an operator does to topics.
func (s *scene) kafkaAdmin() sarama.ClusterAdmin {
	s.t.Helper()
	admin, err := sarama.NewClusterAdmin(s.Kafka.Brokers, sarama.NewConfig())
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = admin.Close() })
	return admin
}

// cutOff deletes records that lane 1 has not read.
func (s *scene) cutOff() {
	s.t.Helper()
	m, found := s.Meta(1)
	require.True(s.t, found)
	require.NoError(s.t, s.kafkaAdmin().DeleteRecords(s.Topic(), map[int32]int64{1: m.Offset + 50}))
}

// makeAnew deletes the source topic and makes it again.
func (s *scene) makeAnew() {
	s.t.Helper()
	ctx := context.Background()
	require.NoError(s.t, s.kafkaAdmin().DeleteTopic(s.Topic()))
	s.Raw.PurgeTopicsFromClient(s.Topic())
	rig.Eventually(s.t, "the source topic is made again", patience, func() bool {
		_, err := s.Cluster.EnsureTopic(ctx, source.TopicSpec{Name: s.Topic(), Partitions: s.Parts})
		if err != nil {
			return false
		}
		for n := range s.Parts {
			tp := source.TopicPartition{Topic: s.Topic(), Partition: n}
			ends, err := s.Cluster.Ends(ctx, tp)
			if err != nil || ends[tp].End != 0 {
				return false
			}
		}
		return true
	})
}

// decide carries a choice to every lane that waits for one, until none does.
func (s *scene) decide(choice string) {
	s.t.Helper()
	decided := false
	rig.Eventually(s.t, "every incident is decided: "+choice, patience, func() bool {
		var all []struct {
			ID     string                 `json:"workflow_id"`
			Open   bool                   `json:"open"`
			Status contract.RecoverStatus `json:"status"`
		}
		out := s.CLI("recover", "ls", s.Spec.Name, "--json").Out
		if json.Unmarshal([]byte(out), &all) != nil {
			return false
		}
		asks := 0
		for _, r := range all {
			if r.Open && r.Status.State == contract.StateDeciding {
				asks++
				if s.CLI("recover", "decide", r.ID, "--all", choice).Code == 0 {
					decided = true
				}
			}
		}
		return decided && asks == 0
	})
}

// parkedCommands are for a pipeline with a lane that waits for a decision: nothing of it hangs.
var parkedCommands = []try{
	pause("", 0, 4), resume("", 0, 4), scale("", 0, 4), drain("not drained|is not drained", 4), remove(stillOpen, 1), stop("", 0),
}

// incidentScenarios are lanes that wait for a person.
var incidentScenarios = []scenario{
	{
		name: "records deleted under a running lane", kind: contract.ConditionLaneParked, quick: true,
		says: "gap",
		bring: func(s *scene) {
			s.Must("pause", s.Spec.Name)
			s.feed(1)
			s.feed(179)
			s.cutOff()
			s.Must("resume", s.Spec.Name)
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceSkip) },
		commands: parkedCommands,
	},
	{
		name: "records deleted while it was stopped", kind: contract.ConditionLaneParked,
		says: "gap",
		bring: func(s *scene) {
			s.Must("stop", s.Spec.Name)
			s.feed(180)
			s.cutOff()
			s.lives()
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceSkip) },
		commands: parkedCommands,
	},
	{
		name: "a source topic made again", kind: contract.ConditionLaneParked,
		says: "other-log",
		bring: func(s *scene) {
			s.Must("stop", s.Spec.Name)
			s.makeAnew()
			s.feed(180)
			s.lives()
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceRestart) },
		commands: parkedCommands,
	},
	{
		name: "a source topic made again under running lanes", kind: contract.ConditionLaneParked,
		says: "other-log",
		bring: func(s *scene) {
			s.makeAnew()
			s.feed(180)
		},
		leave: func(s *scene) { s.lives(); s.decide(report.ChoiceRestart) },
	},
	{
		name: "Redis emptied while it was stopped", kind: contract.ConditionLaneParked,
		says: "state-lost",
		bring: func(s *scene) {
			s.Must("stop", s.Spec.Name)
			require.NoError(s.t, s.rdb.Client().FlushAll(context.Background()).Err())
			s.lives()
		},
		leave:    func(s *scene) { s.lives(); s.decide(report.ChoiceRebuild) },
		commands: parkedCommands,
	},
}
