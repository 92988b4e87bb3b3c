package workflows

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

// ruin is what a stopped pipeline has left, as the activities see it.
type ruin struct {
	remains contract.Remains
	release func(n int) contract.Holders // of the n-th wait
	fail    map[string]error
	calls   []string
	deleted []string // topics
	inputs  map[string]any
	waits   int
	block   string // this activity waits for its cancellation
	blocked func()
}

func newRuin() *ruin {
	return &ruin{
		remains: contract.Remains{
			Lanes: 2, Keys: []contract.KeyCount{{Kind: "meta", Keys: 2, Bytes: 400}}, Group: "millrace.orders", Grouped: true,
			Sources: []string{"orders"},
			Topics: []contract.TopicRemains{
				{Topic: "orders.ledger", Role: contract.RoleLedger, Delete: true},
				{Topic: "shared", Role: contract.RoleResults, Why: "pipeline b writes it"},
			},
		},
		fail: make(map[string]error), inputs: make(map[string]any),
	}
}

func (r *ruin) did(ctx context.Context, name string, input any) error {
	r.calls = append(r.calls, name)
	r.inputs[name] = input
	if r.block == name {
		r.blocked()
		<-ctx.Done()
		return ctx.Err()
	}
	return r.fail[name]
}

func removeEnv(r *ruin) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowRemove, contract.RemoveID("orders"), Remove)
	register(env, contract.ActivitySurveyRemains, func(ctx context.Context, in contract.RemoveTarget) (*contract.Remains, error) {
		return &r.remains, r.did(ctx, contract.ActivitySurveyRemains, in)
	})
	register(env, contract.ActivityAwaitReleased, func(ctx context.Context, in contract.AwaitReleasedInput) (*contract.Holders, error) {
		r.waits++
		var h contract.Holders
		if r.release != nil {
			h = r.release(r.waits)
		}
		return &h, r.did(ctx, contract.ActivityAwaitReleased, in)
	})
	step := func(ctx context.Context, name string, in any) (*contract.Removed, error) {
		return &contract.Removed{Count: 7}, r.did(ctx, name, in)
	}
	register(env, contract.ActivityDeleteSchedule, func(ctx context.Context, in contract.RemoveTarget) (*contract.Removed, error) {
		return step(ctx, contract.ActivityDeleteSchedule, in)
	})
	register(env, contract.ActivityDeleteGroup, func(ctx context.Context, in contract.RemoveTarget) (*contract.Removed, error) {
		return step(ctx, contract.ActivityDeleteGroup, in)
	})
	register(env, contract.ActivityFenceLanes, func(ctx context.Context, in contract.FenceLanesInput) (*contract.Removed, error) {
		return step(ctx, contract.ActivityFenceLanes, in)
	})
	register(env, contract.ActivityEndLedger, func(ctx context.Context, in contract.EndLedgerInput) (*contract.Removed, error) {
		return step(ctx, contract.ActivityEndLedger, in)
	})
	register(env, contract.ActivityDeleteKeys, func(ctx context.Context, in contract.DeleteKeysInput) (*contract.Removed, error) {
		return step(ctx, contract.ActivityDeleteKeys+map[bool]string{true: " with metas"}[in.Metas], in)
	})
	register(env, contract.ActivityDeleteTopics, func(ctx context.Context, in contract.DeleteTopicsInput) (*contract.Removed, error) {
		r.deleted = in.Topics
		return step(ctx, contract.ActivityDeleteTopics, in)
	})
	return env
}

func startRemove(env *testsuite.TestWorkflowEnvironment, in contract.RemoveInput) {
	in.Pipeline = "orders"
	env.ExecuteWorkflow(contract.WorkflowRemove, in)
}

func TestRemoveGoesInOrder(t *testing.T) {
	r := newRuin()
	env := removeEnv(r)
	graceSeen := contract.RemoveStatus{}
	env.RegisterDelayedCallback(func() { graceSeen = statusOf[contract.RemoveStatus](t, env) }, 5*time.Minute)
	startRemove(env, contract.RemoveInput{Topics: true, Approved: true})
	result := resultOf[contract.RemoveResult](t, env)
	require.Equal(t, contract.OutcomeRemoved, result.Outcome)
	require.Contains(t, result.Note, "journals")
	require.Equal(t, []string{
		contract.ActivitySurveyRemains, contract.ActivityAwaitReleased, contract.ActivityDeleteSchedule, contract.ActivityDeleteGroup,
		contract.ActivityFenceLanes, contract.ActivityEndLedger, contract.ActivityDeleteKeys, contract.ActivityAwaitReleased,
		contract.ActivityDeleteGroup,
		contract.ActivityDeleteTopics, contract.ActivityDeleteKeys + " with metas",
	}, r.calls)
	require.Equal(t, []string{"orders.ledger"}, r.deleted, "a topic that another pipeline names stays")
	require.Equal(t, contract.EndLedgerInput{Pipeline: "orders"}, r.inputs[contract.ActivityEndLedger], "the ledger goes as a whole")
	fence := r.inputs[contract.ActivityFenceLanes].(contract.FenceLanesInput)
	require.Equal(t, []string{"orders"}, fence.Sources)
	require.Contains(t, fence.Token, "removed:")
	require.Equal(t, contract.StateGrace, graceSeen.State)
	require.NotNil(t, graceSeen.Until)
	require.Equal(t, contract.OrphanGrace, result.Ended.Sub(result.Began).Round(time.Minute))
	require.Len(t, result.Steps, 8)
}

func TestRemoveWithoutTopicsGivesTheRowsUp(t *testing.T) {
	r := newRuin()
	env := removeEnv(r)
	startRemove(env, contract.RemoveInput{Approved: true, GraceSeconds: 15})
	result := resultOf[contract.RemoveResult](t, env)
	require.NotContains(t, r.calls, contract.ActivityDeleteTopics)
	require.Equal(t, contract.EndLedgerInput{Pipeline: "orders", Rows: true}, r.inputs[contract.ActivityEndLedger])
	require.Less(t, result.Ended.Sub(result.Began), time.Minute)
}

func TestRemoveAsks(t *testing.T) {
	r := newRuin()
	env := removeEnv(r)
	var asking contract.RemoveStatus
	env.RegisterDelayedCallback(func() {
		asking = statusOf[contract.RemoveStatus](t, env)
		require.Equal(t, []string{contract.ActivitySurveyRemains}, r.calls)
	}, time.Minute)
	unknown := ask[contract.ApproveReceipt](env, 2*time.Minute, contract.UpdateApprove, "u0", map[string]any{"force": true})
	yes := ask[contract.ApproveReceipt](env, 3*time.Minute, contract.UpdateApprove, "u1", contract.ApproveRequest{Reason: "done with it"})
	late := ask[contract.ApproveReceipt](env, 4*time.Minute, contract.UpdateApprove, "u2", contract.ApproveRequest{})
	startRemove(env, contract.RemoveInput{Topics: true, GraceSeconds: 60})
	require.Equal(t, contract.OutcomeRemoved, resultOf[contract.RemoveResult](t, env).Outcome)
	require.Equal(t, contract.StateAsking, asking.State)
	require.Contains(t, asking.Note, "millrace rm orders --topics --grace 1m,")
	require.Equal(t, &contract.RemoveInput{Pipeline: "orders", Topics: true, GraceSeconds: 60}, asking.Input)
	require.Equal(t, 2, asking.Remains.Lanes)
	require.ErrorContains(t, unknown.rejected, `unknown field "force"`)
	require.NoError(t, yes.err)
	require.Equal(t, "done with it", yes.got.Reason)
	require.ErrorContains(t, late.rejected, "nothing waits for an approval")
}

func TestRemoveThatNobodyApprovesDeletesNothing(t *testing.T) {
	for name, in := range map[string]contract.RemoveInput{"in time": {}, "dry run": {DryRun: true, Approved: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRuin()
			env := removeEnv(r)
			startRemove(env, in)
			result := resultOf[contract.RemoveResult](t, env)
			require.NotEqual(t, contract.OutcomeRemoved, result.Outcome)
			require.Equal(t, []string{contract.ActivitySurveyRemains}, r.calls)
			require.Equal(t, r.remains, result.Remains)
		})
	}
}

// A name that nobody has given to a pipeline is not waited for.
func TestRemoveOfNothing(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		in         contract.RemoveInput
		topics     []contract.TopicRemains
	}{
		{"nothing", "no topic of its own; either it never ran here, or it was removed", contract.RemoveInput{Approved: true}, nil},
		{"nothing to look at", "nothing of pipeline orders is here: no key in Redis, no consumer group millrace.orders",
			contract.RemoveInput{DryRun: true}, nil},
		{"topics that stay", "topics that stay: orders.ledger (topics were not asked for), shared (pipeline b writes it)",
			contract.RemoveInput{},
			[]contract.TopicRemains{
				{Topic: "orders.ledger", Role: contract.RoleLedger, Ended: true, Why: "topics were not asked for"},
				{Topic: "shared", Role: contract.RoleResults, Why: "pipeline b writes it"},
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRuin()
			r.remains = contract.Remains{Group: "millrace.orders", Topics: tt.topics}
			env := removeEnv(r)
			startRemove(env, tt.in)
			result := resultOf[contract.RemoveResult](t, env)
			require.Equal(t, contract.OutcomeNothing, result.Outcome)
			require.Contains(t, result.Note, tt.says)
			require.Equal(t, []string{contract.ActivitySurveyRemains}, r.calls)
			require.Zero(t, result.Ended.Sub(result.Began))
		})
	}
	r := newRuin() // the rows of a ledger that stays are given up, also when Redis and Kafka have forgotten everything else
	r.remains = contract.Remains{Group: "millrace.orders", Topics: []contract.TopicRemains{{Topic: "orders.ledger",
		Role: contract.RoleLedger}}}
	env := removeEnv(r)
	startRemove(env, contract.RemoveInput{Approved: true})
	require.Equal(t, contract.OutcomeRemoved, resultOf[contract.RemoveResult](t, env).Outcome)
	require.Contains(t, r.calls, contract.ActivityEndLedger)
}

func TestRemoveNamesWhoStillHoldsIt(t *testing.T) {
	member := contract.Holders{Members: []contract.GroupMember{{ID: "orders-0-x", ClientID: "millrace", Host: "/10.0.0.7"}}}
	lease := contract.Holders{Leases: []contract.LeaseHolder{{Replica: 1, Worker: "w2"}}}
	open := contract.Holders{Workflows: []string{"pipeline:orders"}}
	for name, c := range map[string]struct {
		survey contract.Holders
		wait   int
		held   contract.Holders
		says   []string
	}{
		"a running pipeline": {survey: open, says: []string{"workflow pipeline:orders is open", "millrace stop orders"}},
		"an open replay": {survey: contract.Holders{Workflows: []string{"replay:orders:fix-1"}},
			says: []string{"workflow replay:orders:fix-1 is open", "millrace replay cancel orders fix-1"}},
		"a member":                         {wait: 1, held: member, says: []string{"orders-0-x", "client millrace", "host /10.0.0.7"}},
		"a lease":                          {wait: 1, held: lease, says: []string{"worker w2 holds replica 1"}},
		"a pipeline that is started again": {wait: 1, held: open, says: []string{"workflow pipeline:orders is open"}},
		"a member after the grace":         {wait: 2, held: member, says: []string{"orders-0-x"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuin()
			r.remains.Holders = c.survey
			r.release = func(n int) contract.Holders {
				if n == c.wait {
					return c.held
				}
				return contract.Holders{}
			}
			env := removeEnv(r)
			startRemove(env, contract.RemoveInput{Approved: true, Topics: true, GraceSeconds: 15})
			err := env.GetWorkflowError()
			var refused *temporal.ApplicationError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, contract.ErrorRefused, refused.Type())
			for _, text := range c.says {
				require.Contains(t, refused.Message(), text)
			}
			require.NotContains(t, r.calls, contract.ActivityDeleteTopics)
			require.NotContains(t, r.calls, contract.ActivityDeleteKeys+" with metas", "the lanes stay fenced")
		})
	}
}

// Cancelled in every state a removal ends, cancelled, and does not go on.
func TestRemoveCancelled(t *testing.T) {
	for _, at := range []string{
		contract.ActivitySurveyRemains, "asking", contract.ActivityAwaitReleased, contract.ActivityDeleteGroup, contract.ActivityFenceLanes,
		contract.ActivityEndLedger, contract.ActivityDeleteKeys, "grace", contract.ActivityDeleteTopics,
		contract.ActivityDeleteKeys + " with metas",
	} {
		t.Run(at, func(t *testing.T) {
			r := newRuin()
			env := removeEnv(r)
			in := contract.RemoveInput{Topics: true, Approved: at != "asking"}
			switch at {
			case "asking", "grace":
				env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
			default:
				r.block, r.blocked = at, env.CancelWorkflow
			}
			startRemove(env, in)
			require.True(t, env.IsWorkflowCompleted())
			var cancelled *temporal.CanceledError
			require.True(t, errors.As(env.GetWorkflowError(), &cancelled), fmt.Sprint(env.GetWorkflowError()))
			if r.block != "" {
				require.Equal(t, at, r.calls[len(r.calls)-1])
			}
		})
	}
}

func TestRemoveRefusesInput(t *testing.T) {
	for says, in := range map[string]map[string]any{
		"pipeline is missing":   {},
		`unknown field "topic"`: {"pipeline": "orders", "topic": true},
		"grace_seconds is -1":   {"pipeline": "orders", "grace_seconds": -1},
		`remove: grace_seconds is "1m"; want whole seconds, 1 to 86400`: {"pipeline": "orders", "grace_seconds": "1m"},
		`remove: pipeline: "Bad/Name" is not a name`:                    {"pipeline": "Bad/Name"},
		`workflow id is "remove:orders"`:                                {"pipeline": "other"},
		"the spec describes pipeline":                                   {"pipeline": "orders", "spec": map[string]any{}},
	} {
		t.Run(says, func(t *testing.T) {
			env := removeEnv(newRuin())
			env.ExecuteWorkflow(contract.WorkflowRemove, in)
			var refused *temporal.ApplicationError
			require.ErrorAs(t, env.GetWorkflowError(), &refused)
			require.True(t, refused.NonRetryable())
			if says != "the spec describes pipeline" {
				require.Contains(t, refused.Message(), says)
			}
		})
	}
}
