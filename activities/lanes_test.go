package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func TestAwaitAppliedReturnsWhenAllLanesFollow(t *testing.T) {
	f := &fakeState{states: func(look int) ([]contract.LaneState, error) {
		if look == 1 {
			return nil, errUnavailable
		}
		return []contract.LaneState{lane(0, 5, 7), lane(1, min(int64(look), 5), 8)}, nil
	}}
	env, c := controlEnv(t, f, new(fakeTemporal), newFakeRedis())
	value, err := env.ExecuteActivity(c.AwaitApplied, contract.AwaitAppliedInput{Spec: []byte(specJSON), Generation: 4,
		DeadlineSeconds: 30})
	require.NoError(t, err)
	var got contract.Applied
	require.NoError(t, value.Get(&got))
	require.Equal(t, 4, f.looks)
	require.Empty(t, got.Missing)
	require.Equal(t, report.LaneReceipt{Topic: "orders", Partition: 1, Offset: 8, Owner: "1:aa"}, got.Lanes[1])
}

func TestAwaitAppliedNamesTheMissingAtItsDeadline(t *testing.T) {
	f := &fakeState{states: func(int) ([]contract.LaneState, error) {
		return []contract.LaneState{lane(0, 5, 7), lane(1, 3, 8), {Topic: "orders", Partition: 2, Offset: -1}}, nil
	}}
	env, c := controlEnv(t, f, new(fakeTemporal), newFakeRedis())
	value, err := env.ExecuteActivity(c.AwaitApplied, contract.AwaitAppliedInput{Spec: []byte(specJSON), Generation: 5, DeadlineSeconds: 0})
	require.NoError(t, err)
	var got contract.Applied
	require.NoError(t, value.Get(&got))
	require.Len(t, got.Lanes, 1)
	require.Equal(t, "it follows generation 3 of 5", got.Missing[0].Reason)
	require.Equal(t, "no worker has acquired it", got.Missing[1].Reason)
}

func TestDrained(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	ends := []report.LaneEnd{{Topic: "orders", End: 10}, {Topic: "orders", Partition: 1, End: 20}, {Topic: "orders", Partition: 2},
		{Topic: "orders", Partition: 3, End: 1}}
	behind := lane(1, 1, 12)
	behind.UpdatedAt = now.Add(-9 * time.Second).UnixMilli()
	got := drained([]contract.LaneState{lane(0, 1, 10), behind}, ends, now)
	require.Len(t, got.Lanes, 2, "one at its end, one without records")
	require.Equal(t, "it has committed to offset 12 of 20; last commit 9s ago", got.Missing[0].Reason)
	require.EqualValues(t, 20, got.Missing[0].Want)
	require.Equal(t, "no worker has acquired it", got.Missing[1].Reason)
	parked := lane(0, 1, 3)
	parked.Trouble = "parked: gap 3..9"
	require.Equal(t, "parked: gap 3..9", drained([]contract.LaneState{parked}, ends[:1], now).Missing[0].Reason)
	for _, offset := range []int64{10, 25} { // a log that lost its end
		asks := lane(0, 1, offset)
		asks.Trouble, asks.Asks = "parked: truncated", true
		for _, end := range []int64{0, 10} {
			got := drained([]contract.LaneState{asks}, []report.LaneEnd{{Topic: "orders", End: end}}, now)
			require.Empty(t, got.Lanes)
			require.Equal(t, "parked: truncated", got.Missing[0].Reason)
			require.True(t, got.Missing[0].Asks)
		}
	}
}

// A lane whose decision has just been made still asks by the last heartbeat of its hot path: the drain does not take its word
// for it.
func TestAwaitDrainedWaitsForADecisionThatWasMade(t *testing.T) {
	hub := &fakeTemporal{hotPath: contract.EngineStatus{Pipeline: "orders", Lanes: []report.LaneStatus{
		{Topic: "orders", State: report.LaneParked, Reason: "gap: offsets 3 to 9 are gone", Choices: []string{"skip"}},
	}}}
	f := &fakeState{states: func(look int) ([]contract.LaneState, error) {
		if look == 2 {
			hub.mu.Lock()
			defer hub.mu.Unlock()
			hub.hotPath.Lanes[0].State = report.LaneRunning
		}
		return []contract.LaneState{lane(0, 1, 10)}, nil
	}}
	env, c := controlEnv(t, f, hub, newFakeRedis())
	env.SetTestTimeout(10 * time.Second)
	value, err := env.ExecuteActivity(c.AwaitDrained, contract.AwaitDrainedInput{
		Spec: []byte(specJSON), Ends: []report.LaneEnd{{Topic: "orders", End: 10}}, StallSeconds: 60, DeadlineSeconds: 3600, Replicas: 1,
	})
	require.NoError(t, err)
	var got contract.Applied
	require.NoError(t, value.Get(&got))
	require.Empty(t, got.Missing)
	require.Len(t, got.Lanes, 1)
}

// A lane that waits for a decision will not move before somebody makes it: the drain is given up soon, and says so.
func TestAwaitDrainedReportsAParkedLaneSoon(t *testing.T) {
	f := &fakeState{states: func(int) ([]contract.LaneState, error) {
		return []contract.LaneState{lane(0, 1, 10), lane(1, 1, 3)}, nil
	}}
	hub := &fakeTemporal{hotPath: contract.EngineStatus{Pipeline: "orders", Lanes: []report.LaneStatus{
		{Topic: "orders", Partition: 1, State: report.LaneParked, Reason: "gap: offsets 3 to 9 are gone", Choices: []string{"skip"}},
	}}}
	env, c := controlEnv(t, f, hub, newFakeRedis())
	env.SetTestTimeout(5 * time.Second)
	value, err := env.ExecuteActivity(c.AwaitDrained, contract.AwaitDrainedInput{
		Spec: []byte(specJSON), Ends: []report.LaneEnd{{Topic: "orders", End: 10}, {Topic: "orders", Partition: 1, End: 20}},
		StallSeconds: 60, DeadlineSeconds: 3600, Replicas: 1,
	})
	require.NoError(t, err)
	var got contract.Applied
	require.NoError(t, value.Get(&got))
	require.Len(t, got.Missing, 1)
	require.Equal(t, "parked: gap: offsets 3 to 9 are gone; it waits for a decision: millrace recover ls orders", got.Missing[0].Reason)
}

// A start is told at once that lanes are parked; any other command waits for the lanes that can still follow.
func TestAwaitAppliedDoesNotWaitForDecisions(t *testing.T) {
	parked := report.LaneStatus{Topic: "orders", Partition: 1, State: report.LaneParked, Reason: "state-lost",
		Choices: []string{"rebuild"}}
	hub := &fakeTemporal{hotPath: contract.EngineStatus{Pipeline: "orders", Lanes: []report.LaneStatus{parked}}}
	for _, c := range []struct {
		name   string
		others []contract.LaneState
		until  bool // one asks
		ends   bool // before the deadline
	}{
		{"a start, one lane parked and one on its way", []contract.LaneState{{Topic: "orders", Offset: -1}}, true, true},
		{"a command, one lane parked and one that follows", []contract.LaneState{lane(0, 5, 7)}, false, true},
		{"a command, one lane parked and one on its way", []contract.LaneState{{Topic: "orders", Offset: -1}}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeState{states: func(int) ([]contract.LaneState, error) { return append(c.others, lane(1, 3, 8)), nil }}
			env, control := controlEnv(t, f, hub, newFakeRedis())
			env.SetTestTimeout(20 * time.Second)
			began := time.Now()
			value, err := env.ExecuteActivity(control.AwaitApplied, contract.AwaitAppliedInput{
				Spec: []byte(specJSON), Generation: 5, DeadlineSeconds: 6, Replicas: 1, UntilOneAsks: c.until,
			})
			require.NoError(t, err)
			require.Equal(t, c.ends, time.Since(began) < 5*time.Second, "it took %s", time.Since(began))
			var got contract.Applied
			require.NoError(t, value.Get(&got))
			last := got.Missing[len(got.Missing)-1]
			require.True(t, last.Asks)
			require.Equal(t, "parked: state-lost; it waits for a decision: millrace recover ls orders", last.Reason)
		})
	}
}

// A lane that asks for a moment only, because its decision has been made already, is waited for.
func TestDecisionsThatHaveJustBeenMade(t *testing.T) {
	var w decisionWait
	at := time.UnixMilli(0)
	require.False(t, w.over(true, at))
	require.False(t, w.over(false, at.Add(askingSettles)))
	require.False(t, w.over(true, at.Add(askingSettles)))
	require.True(t, w.over(true, at.Add(2*askingSettles)))
}

// A lane adopts desired state with a commit that reaches Redis: while its commits do not, the receipt says why.
func TestAwaitAppliedNamesTheOutage(t *testing.T) {
	since := time.Date(2026, 3, 1, 12, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		level    report.Level
		override report.Override
		want     string
	}{
		{report.LevelNormal, "", "it follows generation 3 of 5"},
		{report.LevelJournal, "",
			"its commits go to the journal since 2026-03-01T12:04:05Z: Redis: refuses writes; it follows generation 3 of 5"},
		{report.LevelThrottled, "",
			"its commits go to the journal since 2026-03-01T12:04:05Z: Redis: refuses writes; it follows generation 3 of 5"},
		{report.LevelPaused, "", "it is held back since 2026-03-01T12:04:05Z: Redis: refuses writes; it follows generation 3 of 5"},
		{report.LevelJournal, "open",
			"its commits go to the journal by order (open) since 2026-03-01T12:04:05Z: Redis: refuses writes; " +
				"it follows generation 3 of 5"},
	} {
		hub := &fakeTemporal{hotPath: contract.EngineStatus{
			Pipeline: "orders", Lanes: []report.LaneStatus{{Topic: "orders", Partition: 1, State: report.LaneRunning}},
			Dependencies: []report.DependencyStatus{
				{Dependency: report.DependencyResults, Level: report.LevelPaused},
				{Dependency: report.DependencyRedis, Level: c.level, Since: since, Reason: "refuses writes", Override: c.override},
			},
		}}
		f := &fakeState{states: func(int) ([]contract.LaneState, error) {
			return []contract.LaneState{lane(0, 5, 7), lane(1, 3, 8)}, nil
		}}
		env, control := controlEnv(t, f, hub, newFakeRedis())
		value, err := env.ExecuteActivity(control.AwaitApplied, contract.AwaitAppliedInput{
			Spec: []byte(specJSON), Generation: 5, DeadlineSeconds: 0, Replicas: 1,
		})
		require.NoError(t, err)
		var got contract.Applied
		require.NoError(t, value.Get(&got))
		require.Equal(t, c.want, got.Missing[0].Reason)
	}
}

// Redis away in the middle of a drain is no reason to wait for the drain's whole timeout.
func TestAwaitDrainedGivesUpWhenItSeesNothing(t *testing.T) {
	f := &fakeState{states: func(int) ([]contract.LaneState, error) { return nil, errUnavailable }}
	env, c := controlEnv(t, f, new(fakeTemporal), newFakeRedis())
	env.SetTestTimeout(20 * time.Second)
	_, err := env.ExecuteActivity(c.AwaitDrained, contract.AwaitDrainedInput{
		Spec: []byte(specJSON), Ends: []report.LaneEnd{{Topic: "orders", End: 10}}, StallSeconds: 2, DeadlineSeconds: 3600,
	})
	require.ErrorContains(t, err, errUnavailable.Error())
	var failed *temporal.ApplicationError
	require.ErrorAs(t, err, &failed)
	require.True(t, failed.NonRetryable(), "another attempt would have no time")
}

// What is said while a command is waited for.
func TestAwaitBeatsSayWhereTheLanesStand(t *testing.T) {
	f := &fakeState{states: func(look int) ([]contract.LaneState, error) {
		if look < 10 {
			return []contract.LaneState{lane(0, 5, 7), lane(1, 3, 8)}, nil
		}
		return []contract.LaneState{lane(0, 5, 7), lane(1, 5, 8)}, nil
	}}
	hub := new(fakeTemporal)
	env, c := controlEnv(t, f, hub, newFakeRedis())
	_, err := env.ExecuteActivity(c.AwaitApplied, contract.AwaitAppliedInput{Spec: []byte(specJSON), Generation: 5, DeadlineSeconds: 30})
	require.NoError(t, err)
	said, ok := hub.last.(*contract.AwaitDetails)
	require.True(t, ok, "%T", hub.last)
	require.Equal(t, "1 of 2 lanes are missing: orders/1: it follows generation 3 of 5", said.String())
}

func TestStall(t *testing.T) {
	s := stall{limit: time.Minute}
	at := time.UnixMilli(0)
	missing := func(offset int64) []report.LaneMissing {
		return []report.LaneMissing{{Offset: offset}, {Offset: 5}}
	}
	require.False(t, s.stalled(missing(1), at))
	require.False(t, s.stalled(missing(2), at.Add(59*time.Second)))
	require.False(t, s.stalled(missing(2), at.Add(118*time.Second)))
	require.True(t, s.stalled(missing(2), at.Add(119*time.Second)), "a minute without a move")
	require.False(t, s.stalled(missing(2)[:1], at.Add(120*time.Second)), "one more lane is done")
	require.False(t, s.stalled(nil, at.Add(time.Hour)))
}
