package activities

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// fakeRemains notes what is done to it.
type fakeRemains struct {
	done    []string
	members func() []contract.GroupMember
	leases  []contract.LeaseHolder
	shadows []string // ids of replays
	gone    bool     // the group
	fail    error
	own     *spec.Spec
	others  []Other

	schedule fakeSchedule
}

// fakeSchedule is the schedule that compacts a pipeline.
type fakeSchedule struct {
	exists    bool
	running   []string // ids of runs
	stubborn  bool     // they do not end
	cancelled []string
}

func (f *fakeSchedule) Exists(context.Context, string) (bool, error) { return f.exists, nil }
func (f *fakeSchedule) Delete(context.Context, string) (bool, error) {
	existed := f.exists
	f.exists = false
	return existed, nil
}
func (f *fakeSchedule) Running(context.Context, string) ([]string, error) {
	return slices.Clone(f.running), nil
}
func (f *fakeSchedule) Cancel(_ context.Context, id string) error {
	f.cancelled = append(f.cancelled, id)
	if !f.stubborn {
		f.running = slices.DeleteFunc(f.running, func(other string) bool { return other == id })
	}
	return nil
}

func (f *fakeRemains) act(what string, progress func(int64)) error {
	f.done = append(f.done, what)
	progress(3)
	return f.fail
}

func (f *fakeRemains) Count(context.Context, string, func(int64)) ([]contract.KeyCount, LaneCount, error) {
	return []contract.KeyCount{{Kind: "meta", Keys: 4, Bytes: 40}}, LaneCount{Lanes: 4, Fenced: 3, Slices: 6, Events: 70}, f.fail
}

func (f *fakeRemains) Group(context.Context, string) (string, []contract.GroupMember, bool, error) {
	if f.members == nil {
		return "g", nil, !f.gone, nil
	}
	return "g", f.members(), !f.gone, nil
}

func (f *fakeRemains) Leases(context.Context, string) ([]contract.LeaseHolder, error) {
	return f.leases, nil
}

func (f *fakeRemains) Topics(_ context.Context, _ string, own *spec.Spec, others []Other, _ func(int64)) ([]contract.TopicRemains, error) {
	f.own, f.others = own, others
	return []contract.TopicRemains{{Topic: "orders.ledger", Role: contract.RoleLedger, Delete: true}}, nil
}

func (f *fakeRemains) DeleteGroup(context.Context, string) error {
	return f.act("group", func(int64) {})
}
func (f *fakeRemains) Fence(_ context.Context, _, token string, _ []string, progress func(int64)) error {
	return f.act("fence "+token, progress)
}
func (f *fakeRemains) EndLedger(_ context.Context, _ string, _ bool, progress func(int64)) error {
	return f.act("ledger", progress)
}
func (f *fakeRemains) DeleteKeys(_ context.Context, _ string, progress func(int64)) error {
	return f.act("keys", progress)
}
func (f *fakeRemains) Sweep(_ context.Context, _, _ string, progress func(int64)) error {
	return f.act("sweep", progress)
}
func (f *fakeRemains) DeleteTopic(_ context.Context, topic string) error {
	return f.act("topic "+topic, func(int64) {})
}

func (f *fakeRemains) Shadows(context.Context, string) ([]string, error) { return f.shadows, nil }

type fakeSpecs struct {
	own     *spec.Spec
	others  []Other
	removed bool
}

func (f fakeSpecs) Spec(context.Context, string) (*spec.Spec, error) { return f.own, nil }
func (f fakeSpecs) Removed(context.Context, string) (bool, error)    { return f.removed, nil }
func (f fakeSpecs) Others(context.Context, string) ([]Other, error)  { return f.others, nil }

// removingEnv runs the activities of Remove against fakes. The pipeline's workflows are closed.
func removingEnv(t *testing.T, f *fakeRemains, specs Specs) (*testsuite.TestActivityEnvironment, *Removing, *fakeTemporal) {
	hub := &fakeTemporal{closed: map[string]bool{
		"pipeline:orders": true, "close:orders": true, "replay:orders:fix-1": true,
	}}
	a := NewRemoving(f, specs, &f.schedule, hub, hub)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return env, a, hub
}

func TestRemovalTouchesNothingOfAPipelineThatIsOpen(t *testing.T) {
	for _, open := range []string{"pipeline:orders", "close:orders", "replay:orders:fix-1"} {
		f := &fakeRemains{shadows: []string{"fix-1"}}
		env, a, hub := removingEnv(t, f, fakeSpecs{})
		hub.closed[open] = false
		for _, run := range []struct{ activity, in any }{
			{a.DeleteGroup, contract.RemoveTarget{Pipeline: "orders"}},
			{a.FenceLanes, contract.FenceLanesInput{Pipeline: "orders", Token: "removed:x"}},
			{a.EndLedger, contract.EndLedgerInput{Pipeline: "orders", Rows: true}},
			{a.DeleteKeys, contract.DeleteKeysInput{Pipeline: "orders"}},
			{a.DeleteKeys, contract.DeleteKeysInput{Pipeline: "orders", Metas: true}},
			{a.DeleteTopics, contract.DeleteTopicsInput{Pipeline: "orders", Topics: []string{"x"}}},
		} {
			_, err := env.ExecuteActivity(run.activity, run.in)
			require.ErrorContains(t, err, "workflow "+open+" is open")
		}
		require.Empty(t, f.done)
	}
}

func TestRemovalSteps(t *testing.T) {
	f := &fakeRemains{}
	env, a, _ := removingEnv(t, f, fakeSpecs{})
	count := func(activity, in any) int64 {
		t.Helper()
		value, err := env.ExecuteActivity(activity, in)
		require.NoError(t, err)
		var done contract.Removed
		require.NoError(t, value.Get(&done))
		return done.Count
	}
	require.EqualValues(t, 1, count(a.DeleteGroup, contract.RemoveTarget{Pipeline: "orders"}))
	f.gone = true
	require.EqualValues(t, 0, count(a.DeleteGroup, contract.RemoveTarget{Pipeline: "orders"}), "it is gone already")
	require.EqualValues(t, 3, count(a.FenceLanes, contract.FenceLanesInput{Pipeline: "orders", Token: "removed:x"}))
	require.EqualValues(t, 3, count(a.EndLedger, contract.EndLedgerInput{Pipeline: "orders"}))
	require.EqualValues(t, 3, count(a.DeleteKeys, contract.DeleteKeysInput{Pipeline: "orders"}))
	require.EqualValues(t, 3, count(a.DeleteKeys, contract.DeleteKeysInput{Pipeline: "orders", Metas: true}))
	require.EqualValues(t, 2, count(a.DeleteTopics, contract.DeleteTopicsInput{Pipeline: "orders", Topics: []string{"a", "b"}}))
	require.Equal(t, []string{"group", "fence removed:x", "ledger", "keys", "sweep", "topic a", "topic b"}, f.done)
	f.fail = errors.New("redis is away")
	_, err := env.ExecuteActivity(a.FenceLanes, contract.FenceLanesInput{Pipeline: "orders", Token: "removed:x"})
	require.ErrorContains(t, err, "redis is away")
}

func TestSurveyRemains(t *testing.T) {
	survey := func(f *fakeRemains, specs Specs, in contract.RemoveTarget) contract.Remains {
		env, a, _ := removingEnv(t, f, specs)
		in.Pipeline = "orders"
		value, err := env.ExecuteActivity(a.SurveyRemains, in)
		require.NoError(t, err)
		var out contract.Remains
		require.NoError(t, value.Get(&out))
		require.Empty(t, f.done)
		return out
	}
	other := Other{Spec: &spec.Spec{Name: "other"}}
	f := &fakeRemains{leases: []contract.LeaseHolder{{Replica: 0, Worker: "w"}}}
	out := survey(f, fakeSpecs{own: orders(t), others: []Other{other}}, contract.RemoveTarget{Topics: true})
	require.Equal(t, []string{"orders"}, out.Sources)
	require.Equal(t, 4, out.Lanes)
	require.Equal(t, 3, out.Fenced)
	require.False(t, out.Holders.Free())
	require.True(t, out.Topics[0].Delete)
	require.Equal(t, []Other{other}, f.others)
	require.Empty(t, out.Notes)

	out = survey(&fakeRemains{}, fakeSpecs{own: orders(t), others: nil}, contract.RemoveTarget{})
	require.False(t, out.Topics[0].Delete)
	require.Equal(t, "topics were not asked for", out.Topics[0].Why)

	f = &fakeRemains{}
	out = survey(f, fakeSpecs{}, contract.RemoveTarget{})
	require.Contains(t, out.Notes[0], "--spec FILE")
	out = survey(f, fakeSpecs{}, contract.RemoveTarget{Spec: []byte(specJSON)})
	require.Empty(t, out.Notes)
	require.Equal(t, "orders", f.own.Name)
}

func TestAwaitReleased(t *testing.T) {
	looks := 0
	f := &fakeRemains{members: func() []contract.GroupMember {
		if looks++; looks < 2 {
			return []contract.GroupMember{{ID: "m"}}
		}
		return nil
	}}
	env, a, hub := removingEnv(t, f, fakeSpecs{})
	wait := func(until time.Time) contract.Holders {
		value, err := env.ExecuteActivity(a.AwaitReleased, contract.AwaitReleasedInput{Pipeline: "orders", Until: until})
		require.NoError(t, err)
		var left contract.Holders
		require.NoError(t, value.Get(&left))
		return left
	}
	require.True(t, wait(time.Now().Add(time.Minute)).Free())
	require.Equal(t, 2, looks)
	f.leases = []contract.LeaseHolder{{Replica: 2, Worker: "w"}}
	require.Equal(t, "worker w holds replica 2", wait(time.Now().Add(-time.Second)).String())
	hub.closed["pipeline:orders"] = false
	require.Equal(t, []string{"pipeline:orders"}, wait(time.Now().Add(time.Hour)).Workflows, "it does not wait for that")
}

// A worker that was frozen starts what Temporal has given up long ago, and writes nothing.
func TestControlWritesNothingForAnAttemptThatIsOver(t *testing.T) {
	f, hub := &fakeServers{}, &fakeTemporal{}
	hub.set(serviceerror.NewNotFound("x"))
	a := NewControl(f, f, nil, newFakeRedis(), hub, hub, nil)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	for _, run := range []struct{ activity, in any }{
		{a.EnsureTopics, contract.SpecInput{Spec: []byte(specJSON)}},
		{a.WriteDesired, contract.WriteDesiredInput{Pipeline: "orders", Change: contract.DesiredChange{RequestID: "r"}}},
		{a.BeginLanes, contract.BeginLanesInput{Spec: []byte(specJSON), ID: "r"}},
		{a.Reconcile, contract.ReconcileInput{Pipeline: "orders", Desired: &contract.Desired{Generation: 9}, RequestID: "r"}},
	} {
		_, err := env.ExecuteActivity(run.activity, run.in)
		require.ErrorContains(t, err, errOver.Error())
	}
	require.Empty(t, f.done)
}

// fakeServers is what Control writes to.
type fakeServers struct{ done []string }

func (f *fakeServers) CheckStore(context.Context, *spec.Spec, *contract.Begin) error { return nil }
func (f *fakeServers) LocateBegin(context.Context, *spec.Spec, contract.Begin) (contract.Begun, error) {
	return contract.Begun{}, nil
}
func (f *fakeServers) BeginLanes(context.Context, *spec.Spec, contract.BeginLanesInput) error {
	f.done = append(f.done, "begin")
	return nil
}
func (f *fakeServers) EnsureTopics(context.Context, *spec.Spec) (contract.Topics, error) {
	f.done = append(f.done, "topics")
	return contract.Topics{}, nil
}
func (f *fakeServers) RemoveMember(context.Context, string, int) error { return nil }
func (f *fakeServers) Change(context.Context, string, contract.DesiredChange) (int64, error) {
	f.done = append(f.done, "change")
	return 1, nil
}
func (f *fakeServers) Read(context.Context, string) (contract.Desired, error) {
	return contract.Desired{}, nil
}
