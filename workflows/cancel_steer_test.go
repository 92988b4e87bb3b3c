package workflows

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func nothingFollows(*testing.T) {}

func recoverySituations() []situation {
	in := func(h *hostScript, activity string) beginning {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := recoverEnv(h)
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startRecovery(env, contract.RecoverInput{}) }, nothingFollows
		}
	}
	gone := func() bool { return true }
	deciding := func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		env, run, after := in(&hostScript{incident: gapOf()}, contract.ActivityDecideIncident)(t)
		ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d", contract.DecideRequest{
			Topic: "orders", Partition: partitionOf(1), Choice: "skip",
		})
		return env, run, after
	}
	return []situation{
		{state: contract.StateRecovering, at: time.Minute, begin: in(new(hostScript), contract.ActivityRecoverStep)},
		{state: contract.StateRecovering, name: "between tries", at: 15 * time.Second,
			begin: in(&hostScript{fail: func(string) error { return errors.New("no answer") }}, "")},
		{state: contract.StateHostGone, at: 15 * time.Second, begin: in(&hostScript{gone: gone}, "")},
		{state: contract.StateDeciding, at: time.Minute, begin: in(&hostScript{incident: gapOf()}, "")},
		{state: contract.StateDeciding, name: "looks at owners", at: 6 * time.Minute,
			begin: in(&hostScript{incident: gapOf()}, contract.ActivityLaneOwners)},
		{state: contract.StateDeciding, name: "carries a decision out", at: 61 * time.Second, begin: deciding},
		{state: contract.StateDone, ended: true, begin: in(new(hostScript), "")},
	}
}

func degradeSituations() []situation {
	in := func(s *levelScript, activity string, prepare func(env *testsuite.TestWorkflowEnvironment)) beginning {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := degradeEnv(s)
			if activity != "" {
				busy(env, activity)
			}
			if prepare != nil {
				prepare(env)
			}
			return env, func() { startDegrade(env, 0) }, nothingFollows
		}
	}
	hold := func(env *testsuite.TestWorkflowEnvironment) {
		ask[contract.LevelReceipt](env, time.Minute, contract.UpdateHold, "h", contract.LevelRequest{})
	}
	normal := func() *levelScript {
		return &levelScript{looks: map[int][]look{0: {
			moves(10*time.Second, 1, report.LevelNormal, report.LevelJournal),
			moves(10*time.Second, 2, report.LevelJournal, report.LevelNormal),
		}}}
	}
	lost := &levelScript{looks: map[int][]look{0: {
		{after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat},
		{after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat}, {after: time.Second, err: noHeartbeat},
	}}}
	return []situation{
		{state: contract.StateDegraded, at: 2 * time.Minute, begin: in(new(levelScript), "", nil)},
		{state: contract.StateDegraded, name: "the watch is lost", at: 12 * time.Second, begin: in(lost, "", nil)},
		{state: contract.StateDegraded, name: "carries an override out", at: 61 * time.Second,
			begin: in(new(levelScript), contract.ActivityOverrideLevel, hold)},
		{state: contract.StateSettling, at: 40 * time.Second, begin: in(normal(), "", nil)},
		{state: contract.StateSettling, name: "asks for the books", at: 25 * time.Second,
			begin: in(normal(), contract.ActivityJournalAccounts, nil)},
		{state: contract.StateDone, ended: true, begin: in(normal(), "", nil)},
	}
}

func replaySituations() []situation {
	in := func(d *disk, activity string) beginning {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := replayEnv(d)
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startReplay(env, contract.ReplayWALInput{}) }, nothingFollows
		}
	}
	live := chainOf(0, "s1")
	live.Live = true
	corrupt := func(report.ChainRef, contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange) {
		return report.SettledChain{}, &report.CorruptRange{ChainRef: chainOf(0, "s1").ChainRef, Segment: "s1", From: 1, To: 2}
	}
	one := func() []report.WALChain { return []report.WALChain{chainOf(0, "s1")} }
	return []situation{
		{state: contract.StateReplaying, name: "lists", at: time.Minute, begin: in(&disk{chains: one()}, contract.ActivityListChains)},
		{state: contract.StateReplaying, name: "settles", at: time.Minute, begin: in(&disk{chains: one()}, contract.ActivityReplaySegment)},
		{state: contract.StateHostGone, at: time.Minute, begin: in(&disk{chains: one(), gone: func() bool { return true }}, "")},
		{state: contract.StateDeciding, at: time.Minute, begin: in(&disk{chains: one(), settle: corrupt}, "")},
		{state: contract.StateWaiting, at: time.Minute, begin: in(&disk{chains: []report.WALChain{live}}, "")},
		{state: contract.StateDone, ended: true, begin: in(&disk{chains: one()}, "")},
	}
}

func removeSituations() []situation {
	in := func(activity string, approved bool) beginning {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			r := newRuin()
			env := removeEnv(r)
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startRemove(env, contract.RemoveInput{Topics: true, Approved: approved, GraceSeconds: 600}) },
				func(t *testing.T) {
					if activity == contract.ActivitySurveyRemains || !approved {
						require.NotContains(t, r.calls, contract.ActivityFenceLanes, "nothing was touched")
					}
				}
		}
	}
	all := []situation{
		{state: contract.StateSurveying, at: 30 * time.Second, begin: in(contract.ActivitySurveyRemains, true)},
		{state: contract.StateAsking, at: time.Minute, begin: in("", false)},
		{state: contract.StateReleasing, at: time.Minute, begin: in(contract.ActivityAwaitReleased, true)},
		{state: contract.StateGrace, at: time.Minute, begin: in("", true)},
		{state: contract.StateDone, ended: true, begin: in("", true)},
	}
	for _, step := range []string{contract.ActivityDeleteSchedule, contract.ActivityDeleteGroup, contract.ActivityFenceLanes,
		contract.ActivityEndLedger,
		contract.ActivityDeleteKeys} {
		all = append(all, situation{state: contract.StateRemoving, name: fmt.Sprintf("in %s", step), at: time.Minute,
			begin: in(step, true)})
	}
	return all
}
