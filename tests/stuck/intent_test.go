package stuck

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

// makeSource makes the source topic.
func (s *scene) makeSource() {
	s.t.Helper()
	_, err := s.Cluster.EnsureTopic(context.Background(), source.TopicSpec{Name: s.Topic(), Partitions: s.Parts})
	require.NoError(s.t, err)
	for n := range s.Parts {
		s.Fed = append(s.Fed, oracle.Lane{Topic: s.Topic(), Partition: n})
	}
}

// intentScenarios are what an operator wants, and removals.
var intentScenarios = []scenario{
	{
		name: "paused", kind: contract.ConditionPaused, quick: true,
		bring: func(s *scene) { s.Must("pause", s.Spec.Name, "--reason", "maintenance") },
		leave: func(s *scene) { s.lives(); s.CLI("resume", s.Spec.Name) },
		commands: []try{
			pause("", 0), scale("", 0), drain("a paused pipeline reads nothing", 1), remove(stillOpen, 1), stop("", 0),
		},
	},
	{
		name: "stopped", kind: contract.ConditionStopped, quick: true,
		bring:    func(s *scene) { s.Must("stop", s.Spec.Name) },
		leave:    func(s *scene) { s.lives() },
		noPage:   true, // a query of a closed workflow: its page says how it ended
		commands: closedCommands,
	},
	{
		name: "starting without Redis", kind: contract.ConditionStarting, idle: true, quick: true,
		bring: func(s *scene) {
			s.redis.Point("")
			s.running([]string{"start", s.File})
		},
		leave:  func(s *scene) { s.redis.Point(s.rdb.Addr) },
		verify: 1,
	},
	{
		name: "stopping without Redis", kind: contract.ConditionHeld, also: []string{contract.ConditionStopping},
		bring: func(s *scene) {
			s.redis.Point("")
			(&scenario{kind: contract.ConditionHeld}).stands(s)
			s.running([]string{"stop", s.Spec.Name})
		},
		leave: func(s *scene) { s.redis.Point(s.rdb.Addr) },
		end:   "stopped",
	},
	{
		name: "draining without Redis", kind: contract.ConditionHeld, also: []string{contract.ConditionDraining},
		bring: func(s *scene) {
			s.redis.Point("")
			(&scenario{kind: contract.ConditionHeld}).stands(s)
			s.running([]string{"stop", s.Spec.Name, "--drain", "--timeout", "2m"})
		},
		leave: func(s *scene) { s.redis.Point(s.rdb.Addr) },
		end:   "stopped",
	},
	{
		name: "a level held by an operator", kind: contract.ConditionOverride,
		setup: journalling(),
		bring: func(s *scene) {
			s.Must("degrade", "hold", s.Spec.Name, "--dependency", "redis", "--reason", "the nightly backup")
		},
		leave: func(s *scene) { s.Must("degrade", "auto", s.Spec.Name, "--dependency", "redis") },
	},
	{
		name: "commits held in the journal by an operator", kind: contract.ConditionClosingSuspended, quick: true,
		setup: journalling(),
		bring: func(s *scene) {
			s.Must("degrade", "open", s.Spec.Name, "--dependency", "redis", "--reason", "maintenance")
		},
		leave: func(s *scene) { s.Must("degrade", "auto", s.Spec.Name, "--dependency", "redis") },
	},
	{
		name: "a removal that was interrupted", kind: contract.ConditionFenced,
		bring: func(s *scene) {
			s.Must("stop", s.Spec.Name)
			s.running([]string{"rm", s.Spec.Name, "--yes", "--grace", "1h"})
			rig.Eventually(s.t, "the lanes are fenced", patience, func() bool {
				now, _ := s.check()
				return has(now.Conditions, contract.ConditionFenced)
			})
			require.NoError(s.t, s.Client.CancelWorkflow(context.Background(), contract.RemoveID(s.Spec.Name), ""))
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = s.Client.GetWorkflow(ctx, contract.RemoveID(s.Spec.Name), "").Get(ctx, nil) // it was cancelled
		},
		leave:    func(s *scene) { s.Must("rm", s.Spec.Name, "--yes", "--grace", "1s") },
		end:      "stopped",
		commands: closedCommands,
	},
}
