package workflows

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// tellsItsEnd requires that the pipeline was told something, and in the end that it is over.
func tellsItsEnd(t *testing.T, told []contract.ChildReport) {
	t.Helper()
	require.NotEmpty(t, told)
	require.Equal(t, contract.ChildEnded, told[len(told)-1].State, "%v", toldOf(told))
}

// outsiderEnd is a way in which a workflow beside the children ends, after the pipeline was told that it waits or is degraded.
type outsiderEnd struct {
	name  string
	begin func() (env *testsuite.TestWorkflowEnvironment, start func(), told *[]contract.ChildReport)
	ended func(error) bool // nil: without an error
}

func TestEveryEndIsToldToThePipeline(t *testing.T) {
	for _, c := range slices.Concat(recoveryEnds(), degradeEnds(), replayEnds(), shadowingEnds()) {
		t.Run(c.name, func(t *testing.T) {
			env, start, told := c.begin()
			start()
			require.True(t, env.IsWorkflowCompleted())
			err := env.GetWorkflowError()
			require.Equal(t, c.ended == nil, err == nil, "%v", err)
			require.True(t, c.ended == nil || c.ended(err), "%v", err)
			tellsItsEnd(t, *told)
		})
	}
}

func cancelAt(env *testsuite.TestWorkflowEnvironment, at time.Duration) {
	env.RegisterDelayedCallback(env.CancelWorkflow, at)
}

func typed(kind string) func(error) bool {
	return func(err error) bool { return isType(err, kind) }
}

func recoveryEnds() []outsiderEnd {
	end := func(name string, h *hostScript, ended func(error) bool, prepare func(env *testsuite.TestWorkflowEnvironment)) outsiderEnd {
		return outsiderEnd{"recovery " + name, func() (*testsuite.TestWorkflowEnvironment, func(), *[]contract.ChildReport) {
			env := recoverEnv(h)
			prepare(env)
			return env, func() { startRecovery(env, contract.RecoverInput{}) }, h.told
		}, ended}
	}
	decide := func(choice string, all bool) func(env *testsuite.TestWorkflowEnvironment) {
		return func(env *testsuite.TestWorkflowEnvironment) {
			req := contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: choice}
			if all {
				req = contract.DecideRequest{All: true, Choice: choice}
			}
			ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d", req)
		}
	}
	gone := func() bool { return true }
	moved := []contract.LaneOwner{{Topic: "orders", Token: "5:bb", Epoch: 5}, {Topic: "orders", Partition: 1, Token: "5:bb", Epoch: 5}}
	overtaken := &hostScript{incident: gapOf()}
	staleWhen := new(bool)
	return []outsiderEnd{
		end("decided", &hostScript{incident: gapOf()}, nil, decide("skip", false)),
		end("given up", &hostScript{gone: gone}, nil, decide(report.ChoiceGiveUp, true)),
		end("superseded", overtaken, nil, func(env *testsuite.TestWorkflowEnvironment) {
			env.RegisterDelayedCallback(func() { overtaken.owners = moved }, time.Minute)
		}),
		end("stale after the process was away", &hostScript{gone: func() bool { return !*staleWhen }, fail: func(string) error {
			return temporal.NewNonRetryableApplicationError("another batch", contract.ErrorStale, nil)
		}}, nil, func(env *testsuite.TestWorkflowEnvironment) {
			env.RegisterDelayedCallback(func() { *staleWhen = true }, time.Minute)
		}),
		end("cancelled while it asks", &hostScript{incident: gapOf()}, temporal.IsCanceledError,
			func(env *testsuite.TestWorkflowEnvironment) { cancelAt(env, time.Minute) }),
		end("cancelled while the process is away", &hostScript{gone: gone}, temporal.IsCanceledError,
			func(env *testsuite.TestWorkflowEnvironment) { cancelAt(env, time.Minute) }),
	}
}

func degradeEnds() []outsiderEnd {
	end := func(name string, ended func(error) bool, prepare func(env *testsuite.TestWorkflowEnvironment), looks ...look) outsiderEnd {
		return outsiderEnd{"degradation " + name, func() (*testsuite.TestWorkflowEnvironment, func(), *[]contract.ChildReport) {
			s := &levelScript{looks: map[int][]look{0: looks}}
			env := degradeEnv(s)
			if prepare != nil {
				prepare(env)
			}
			return env, func() { startDegrade(env, 0) }, s.told
		}, ended}
	}
	left := moves(time.Second, 1, report.LevelNormal, report.LevelJournal)
	return []outsiderEnd{
		end("back at normal", nil, nil, left, moves(time.Minute, 2, report.LevelJournal, report.LevelNormal)),
		end("worker gone", nil, nil, left, look{after: time.Second, err: nobodyPolls}),
		end("moved", nil, nil, left, look{after: time.Second, result: contract.WatchLevelResult{Outcome: contract.OutcomeMoved}}),
		end("cancelled", temporal.IsCanceledError, func(env *testsuite.TestWorkflowEnvironment) { cancelAt(env, time.Minute) }, left),
	}
}

func replayEnds() []outsiderEnd {
	end := func(name string, ended func(error) bool, d *disk, in contract.ReplayWALInput,
		prepare func(env *testsuite.TestWorkflowEnvironment),
	) outsiderEnd {
		return outsiderEnd{"replay " + name, func() (*testsuite.TestWorkflowEnvironment, func(), *[]contract.ChildReport) {
			env := replayEnv(d)
			if prepare != nil {
				prepare(env)
			}
			return env, func() { startReplay(env, in) }, d.told
		}, ended}
	}
	one := func() []report.WALChain { return []report.WALChain{chainOf(0, "01")} }
	corrupt := func() *disk {
		settle := func(ref report.ChainRef, in contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange) {
			if len(in.Quarantine) > 0 {
				return report.SettledChain{Outcome: report.ChainDrained}, nil
			}
			return report.SettledChain{}, corruptAt(ref)
		}
		return &disk{chains: one(), settle: settle}
	}
	decide := func(choice string) func(env *testsuite.TestWorkflowEnvironment) {
		return func(env *testsuite.TestWorkflowEnvironment) {
			ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d", contract.WALDecideRequest{Choice: choice})
		}
	}
	gone := func() bool { return true }
	return []outsiderEnd{
		end("quarantined", nil, corrupt(), contract.ReplayWALInput{}, decide(contract.ChoiceQuarantine)),
		end("aborted", nil, corrupt(), contract.ReplayWALInput{}, decide(contract.ChoiceAbort)),
		end("disk gone for good", typed(contract.ErrorWALGone), &disk{chains: one(), gone: gone}, contract.ReplayWALInput{}, nil),
		end("cancelled while it asks", temporal.IsCanceledError, corrupt(), contract.ReplayWALInput{},
			func(env *testsuite.TestWorkflowEnvironment) { cancelAt(env, time.Minute) }),
		end("cancelled while the disk is gone", temporal.IsCanceledError, &disk{gone: gone}, contract.ReplayWALInput{},
			func(env *testsuite.TestWorkflowEnvironment) { cancelAt(env, time.Minute) }),
		end("failed in a later run", typed(contract.ErrorPermanent), &disk{chains: one()},
			contract.ReplayWALInput{State: &contract.ReplayWALState{Runs: 1}}, func(env *testsuite.TestWorkflowEnvironment) {
				env.OnActivity(contract.ActivityListChains, anything, anything).Return(nil, permanent("no such disk"))
			}),
		end("done in a later run", nil, &disk{chains: one()}, contract.ReplayWALInput{State: &contract.ReplayWALState{Runs: 1}}, nil),
		end("refused by Redis", typed(contract.ErrorPermanent),
			&disk{chains: one()}, contract.ReplayWALInput{State: &contract.ReplayWALState{Runs: 1}},
			func(env *testsuite.TestWorkflowEnvironment) {
				env.OnActivity(contract.ActivityReplaySegment, anything, anything).Return(nil, permanent("Redis holds a newer format"))
			}),
	}
}

func shadowingEnds() []outsiderEnd {
	end := func(name string, ended func(error) bool, p *past, prepare func(env *testsuite.TestWorkflowEnvironment)) outsiderEnd {
		return outsiderEnd{"replay from Kafka " + name, func() (*testsuite.TestWorkflowEnvironment, func(), *[]contract.ChildReport) {
			env := pastEnv(p)
			prepare(env)
			return env, func() { startPast(env, contract.ReplayInput{}) }, p.told
		}, ended}
	}
	approve := func(env *testsuite.TestWorkflowEnvironment) {
		ask[contract.ReplayReceipt](env, time.Minute, contract.UpdateApprove, "u1", approvalOf("c0ffee"))
	}
	broken := newPast().differs()
	broken.answer = contract.CarriedOut{Problem: "the diff is gone"}
	return []outsiderEnd{
		end("approved", nil, newPast().differs(), approve),
		end("not carried out", typed(contract.ErrorRefused), broken, approve),
		end("rejected by silence", nil, newPast().differs(), func(*testsuite.TestWorkflowEnvironment) {}),
		end("cancelled while it asks", temporal.IsCanceledError, newPast().differs(),
			func(env *testsuite.TestWorkflowEnvironment) { cancelAt(env, time.Minute) }),
	}
}
