package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// fakeRecoveries is a hot path that recovers.
type fakeRecoveries struct {
	err     error
	lanes   int
	decided []contract.DecideIncidentInput
	block   bool
}

func (f *fakeRecoveries) RecoverStep(ctx context.Context, in contract.RecoverStepInput) (report.StepReport, error) {
	if f.block {
		<-ctx.Done()
		return report.StepReport{}, ctx.Err()
	}
	r := report.StepReport{Step: in.Step, By: report.ByInline}
	for n := range f.lanes {
		r.Lanes = append(r.Lanes, report.RecoveredLane{Topic: "orders", Partition: int32(n), State: report.LaneRunning})
	}
	if f.lanes > 0 {
		r.Lanes[f.lanes-1].Incident = &report.Incident{Kind: "gap"}
	}
	return r, f.err
}

func (f *fakeRecoveries) Lane(string, int, int64, report.LaneRef) (report.RecoveredLane, bool) {
	return report.RecoveredLane{Topic: "orders", Partition: 1, State: report.LaneRunning}, true
}

func (f *fakeRecoveries) Decide(_ context.Context, in contract.DecideIncidentInput) error {
	f.decided = append(f.decided, in)
	return f.err
}

func activityEnv(activity any) *testsuite.TestActivityEnvironment {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	return env
}

// fakeTokens are owners in Redis, and the leases of replicas there.
type fakeTokens struct {
	owners []contract.LaneOwner
	held   map[int]bool
	away   error // of leases
}

func (f *fakeTokens) Owners(context.Context, string, []report.LaneRef) ([]contract.LaneOwner, error) {
	return slices.Clone(f.owners), nil
}

func (f *fakeTokens) Runs(_ context.Context, _ string, replica int) (bool, error) {
	return f.held[replica], f.away
}

// A lane that Redis does not know is gone only when nothing wants its pipeline any more.
func TestLaneOwners(t *testing.T) {
	hub := new(fakeTemporal)
	tokens := &fakeTokens{owners: []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}, {Topic: "orders", Partition: 1}}}
	a := NewOwnership(tokens, hub)
	look := func() []contract.LaneOwner {
		value, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders"})
		require.NoError(t, err)
		var got contract.LaneOwners
		require.NoError(t, value.Get(&got))
		return got.Lanes
	}
	require.Equal(t, []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}, {Topic: "orders", Partition: 1}}, look())
	hub.setClosed("pipeline:orders")
	require.Equal(t, []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}, {Topic: "orders", Partition: 1, Gone: true}}, look())
	hub.setAway(errors.New("Temporal is away"))
	_, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders"})
	require.ErrorContains(t, err, "Temporal is away")
}

// A pipeline's workflow may be closed while its hot path goes on: only then does the lane's incident still wait for somebody.
func TestLaneOwnersOfAStoppedPipeline(t *testing.T) {
	hub := new(fakeTemporal)
	tokens := &fakeTokens{owners: []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}}, held: map[int]bool{2: true}}
	a := NewOwnership(tokens, hub)
	stopped := func(replica *int) bool {
		value, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders", Replica: replica})
		require.NoError(t, err)
		var got contract.LaneOwners
		require.NoError(t, value.Get(&got))
		return got.Lanes[0].Stopped
	}
	runs, ended := 2, 0
	require.False(t, stopped(&ended), "the pipeline is open")
	hub.setClosed("pipeline:orders")
	require.False(t, stopped(&runs), "its hot path still runs")
	require.True(t, stopped(&ended))
	require.False(t, stopped(nil), "who asked does not say whose lanes they are")
	tokens.away = errUnavailable
	_, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders", Replica: &ended})
	require.ErrorContains(t, err, "does anybody run replica 0 of orders")
}

func TestRecoverStep(t *testing.T) {
	f := &fakeRecoveries{lanes: contract.MaxRecoveryLanes + 20}
	a := NewRecovery(f, new(fakeTemporal))
	value, err := activityEnv(a).ExecuteActivity(a.RecoverStep, contract.RecoverStepInput{Step: report.StepVerify})
	require.NoError(t, err)
	var told report.StepReport
	require.NoError(t, value.Get(&told))
	require.Equal(t, report.ByInline, told.By, "who came first is told, not who asks")
	require.Len(t, told.Lanes, contract.MaxRecoveryLanes)
	require.Equal(t, 20, told.More)
	require.NotNil(t, told.Lanes[0].Incident, "the one with an incident is not left out")

	f.err = fmt.Errorf("batch 3: %w", ErrStale)
	_, err = activityEnv(a).ExecuteActivity(a.RecoverStep, contract.RecoverStepInput{Step: report.StepVerify})
	requireType(t, err, contract.ErrorStale)
	require.ErrorContains(t, err, "step verify of batch 0")
	f.err = errUnavailable
	_, err = activityEnv(a).ExecuteActivity(a.RecoverStep, contract.RecoverStepInput{})
	require.ErrorContains(t, err, "connection refused")
}

// An attempt that Temporal has given up touches nothing.
func TestHostActivitiesBeatFirst(t *testing.T) {
	gone := new(fakeTemporal)
	gone.set(serviceerror.NewNotFound("no such attempt"))
	f, levels, journal := new(fakeRecoveries), new(fakeLevels), new(fakeJournal)
	recovery, degrading, replaying := NewRecovery(f, gone), NewDegrading(levels, journal, gone), NewReplaying(journal, "w", gone)
	for name, c := range map[string]struct{ role, fn, in any }{
		"RecoverStep":     {recovery, recovery.RecoverStep, contract.RecoverStepInput{}},
		"DecideIncident":  {recovery, recovery.DecideIncident, contract.DecideIncidentInput{}},
		"WatchLevel":      {degrading, degrading.WatchLevel, contract.WatchLevelInput{}},
		"OverrideLevel":   {degrading, degrading.OverrideLevel, contract.OverrideLevelInput{}},
		"OrderLevels":     {degrading, degrading.OrderLevels, contract.OrderLevelsInput{}},
		"JournalAccounts": {degrading, degrading.JournalAccounts, contract.JournalAccountsInput{}},
		"ListChains":      {replaying, replaying.ListChains, contract.ListChainsInput{}},
		"ReplaySegment":   {replaying, replaying.ReplaySegment, contract.ReplaySegmentInput{Chains: make([]report.ChainRef, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := activityEnv(c.role).ExecuteActivity(c.fn, c.in)
			requireType(t, err, contract.ErrorAttemptOver)
		})
	}
	require.Empty(t, f.decided)
	require.Zero(t, levels.asked)
	require.Empty(t, levels.ordered)
	require.Zero(t, journal.calls)
}

func TestDecideIncident(t *testing.T) {
	f := new(fakeRecoveries)
	a := NewRecovery(f, new(fakeTemporal))
	in := contract.DecideIncidentInput{Topic: "orders", Partition: 1, Choice: "skip"}
	value, err := activityEnv(a).ExecuteActivity(a.DecideIncident, in)
	require.NoError(t, err)
	var decided contract.DecidedIncident
	require.NoError(t, value.Get(&decided))
	require.Equal(t, report.LaneRunning, decided.Lane.State)
	require.Equal(t, []contract.DecideIncidentInput{in}, f.decided)
	f.err = ErrStale
	_, err = activityEnv(a).ExecuteActivity(a.DecideIncident, in)
	requireType(t, err, contract.ErrorStale)
}
