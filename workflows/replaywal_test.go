package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// disk is a WAL directory and the process that has it.
type disk struct {
	chains   []report.WALChain
	gone     func() bool
	settle   func(report.ChainRef, contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange)
	keep     bool // superseded chains stay in the listing
	onList   func(n int)
	listed   int
	page     int
	segments []contract.ReplaySegmentInput
	told     *[]contract.ChildReport // what the pipeline heard
}

func chainOf(partition int32, segment string) report.WALChain {
	return report.WALChain{
		ChainRef: report.ChainRef{Topic: "orders", Partition: partition, Chain: fmt.Sprintf("4:%02d", partition)},
		Segment:  segment, Commits: 3, Bytes: 300, From: 10, To: 20,
	}
}

func (d *disk) without(ref report.ChainRef) (left []report.WALChain) {
	for _, c := range d.chains {
		if c.ChainRef != ref {
			left = append(left, c)
		}
	}
	return left
}

func replayEnv(d *disk) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowReplayWAL, contract.ReplayWALID("orders", "d1"), ReplayWAL)
	register(env, contract.ActivityListChains, func(_ context.Context, in contract.ListChainsInput) (*contract.WALListing, error) {
		d.listed++
		if d.onList != nil {
			d.onList(d.listed)
		}
		if d.gone != nil && d.gone() {
			return nil, nobodyPolls
		}
		listing := &contract.WALListing{Disk: "d1", Host: "worker-a", Chains: d.chains[min(in.From, len(d.chains)):]}
		for _, c := range d.chains {
			listing.Commits += c.Commits
		}
		if d.page > 0 && len(listing.Chains) > d.page {
			listing.Chains, listing.More = listing.Chains[:d.page], len(listing.Chains)-d.page
		}
		return listing, nil
	})
	settle := func(_ context.Context, in contract.ReplaySegmentInput) (*contract.ReplaySegmentResult, error) {
		d.segments = append(d.segments, in)
		if d.gone != nil && d.gone() {
			return nil, nobodyPolls
		}
		result := new(contract.ReplaySegmentResult)
		for _, ref := range in.Chains {
			done := report.SettledChain{ChainRef: ref, Outcome: report.ChainDrained, Commits: 3, Entries: 30, Bytes: 300}
			if d.settle != nil {
				var corrupt *report.CorruptRange
				if done, corrupt = d.settle(ref, in); corrupt != nil {
					result.Corrupt = corrupt
					return result, nil
				}
				done.ChainRef = ref
			}
			result.Settled = append(result.Settled, done)
			if done.Outcome != report.ChainSuperseded || !d.keep {
				d.chains = d.without(ref)
			}
		}
		return result, nil
	}
	register(env, contract.ActivityReplaySegment, settle)
	d.told = hears(env)
	return env
}

func startReplay(env *testsuite.TestWorkflowEnvironment, in contract.ReplayWALInput) {
	in.Pipeline, in.Disk = "orders", "d1"
	env.ExecuteWorkflow(contract.WorkflowReplayWAL, in)
}

func TestReplayIsOneActivityASegment(t *testing.T) {
	d := &disk{chains: []report.WALChain{chainOf(0, "01"), chainOf(1, "01"), chainOf(2, "02")}, keep: true}
	d.settle = func(ref report.ChainRef, _ contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange) {
		if ref.Partition == 1 {
			return report.SettledChain{Outcome: report.ChainSuperseded, Superseded: &report.Account{Commits: 3, Bytes: 300},
				Reason: "owner 5:bb"}, nil
		}
		return report.SettledChain{Outcome: report.ChainDrained, Commits: 3, Entries: 30, Bytes: 300}, nil
	}
	env := replayEnv(d)
	startReplay(env, contract.ReplayWALInput{BytesPerSecond: 1000})
	result := resultOf[contract.ReplayWALResult](t, env)
	require.Equal(t, contract.OutcomeDrained, result.Outcome)
	require.Len(t, d.segments, 2)
	require.Len(t, d.segments[0].Chains, 2)
	require.EqualValues(t, 1000, d.segments[0].BytesPerSecond)
	require.EqualValues(t, 2, result.Segments)
	require.Equal(t, contract.ReplayTotals{
		Drained:    contract.ReplayTotal{Chains: 2, Commits: 6, Entries: 60, Bytes: 600},
		Superseded: contract.ReplayTotal{Chains: 1, Commits: 3, Bytes: 300},
		Kept:       contract.ReplayTotal{Chains: 1, Commits: 3, Bytes: 300},
	}, result.Totals)
	require.Equal(t, "worker-a", result.Host)
}

func TestReplayWaitsForLiveChains(t *testing.T) {
	live := chainOf(1, "01")
	live.Live = true
	d := &disk{chains: []report.WALChain{chainOf(0, "01"), live}}
	env := replayEnv(d)
	env.RegisterDelayedCallback(func() {
		status := statusOf[contract.ReplayWALStatus](t, env)
		require.Equal(t, contract.StateWaiting, status.State)
		require.Len(t, status.Live, 1)
		d.chains = nil // the lane has drained it
	}, 10*time.Minute)
	startReplay(env, contract.ReplayWALInput{})
	result := resultOf[contract.ReplayWALResult](t, env)
	require.EqualValues(t, 1, result.Totals.Drained.Chains, "the live one is the lane's own to count")
	require.Len(t, d.segments, 1)
	require.Less(t, d.listed, 20, "it does not ask every second")
}

func corruptAt(ref report.ChainRef) *report.CorruptRange {
	return &report.CorruptRange{ChainRef: ref, Segment: "01", From: 4096, To: 8192, Records: 2, Detail: "checksum"}
}

func TestCorruptionAsks(t *testing.T) {
	script := func() *disk {
		d := &disk{chains: []report.WALChain{chainOf(0, "01"), chainOf(1, "01"), chainOf(2, "02")}}
		d.settle = func(ref report.ChainRef, in contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange) {
			done := report.SettledChain{Outcome: report.ChainDrained, Commits: 3, Entries: 30, Bytes: 300}
			if ref.Partition == 1 {
				if len(in.Quarantine) == 0 {
					return done, corruptAt(ref)
				}
				done.Commits, done.Quarantined = 1, 4096
			}
			return done, nil
		}
		return d
	}
	t.Run("quarantine", func(t *testing.T) {
		d := script()
		env := replayEnv(d)
		misspelt := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "a",
			json.RawMessage(`{"choice":"quarantine","raeson":""}`))
		unknown := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "b", contract.WALDecideRequest{Choice: "skip"})
		env.RegisterDelayedCallback(func() {
			status := statusOf[contract.ReplayWALStatus](t, env)
			require.Equal(t, contract.StateDeciding, status.State)
			require.EqualValues(t, 4096, status.Corrupt.From)
			require.Equal(t, contract.SegmentCorrupt, status.Segments[0].State)
			require.Equal(t, 1, status.Segments[0].Settled, "what came before it is done")
		}, 2*time.Minute)
		good := ask[contract.DecisionReceipt](env, time.Hour, contract.UpdateDecide, "c",
			contract.WALDecideRequest{Choice: contract.ChoiceQuarantine, Reason: "old disk"})
		startReplay(env, contract.ReplayWALInput{})
		result := resultOf[contract.ReplayWALResult](t, env)
		require.ErrorContains(t, misspelt.rejected, `unknown field "raeson"; want only choice, reason`)
		require.ErrorContains(t, unknown.rejected, `choice is "skip"; want "quarantine"`)
		require.NoError(t, good.err)
		require.Contains(t, good.got.Cost, "4096 bytes, at most 2 commits")
		require.Equal(t, contract.OutcomeDrained, result.Outcome)
		require.Equal(t, contract.ReplayTotal{Chains: 1, Bytes: 4096}, result.Totals.Quarantined)
		require.Equal(t, contract.ReplayTotal{Chains: 3, Commits: 7, Entries: 90, Bytes: 900}, result.Totals.Drained)
		require.Len(t, d.segments, 3)
		require.Len(t, d.segments[1].Chains, 1, "what is settled is not asked for again")
		require.Equal(t, d.segments[1].Chains, d.segments[1].Quarantine)
		require.Empty(t, d.segments[2].Quarantine, "a decision is about one chain")
		require.Equal(t, []string{contract.StateDeciding, contract.ChildEnded}, toldOf(*d.told))
	})
	t.Run("abort", func(t *testing.T) {
		d := script()
		env := replayEnv(d)
		good := ask[contract.DecisionReceipt](env, time.Hour, contract.UpdateDecide, "c",
			contract.WALDecideRequest{Choice: contract.ChoiceAbort})
		startReplay(env, contract.ReplayWALInput{})
		result := resultOf[contract.ReplayWALResult](t, env)
		require.True(t, good.got.Applied)
		require.Equal(t, contract.OutcomeAborted, result.Outcome)
		require.Contains(t, result.Note, "segment 01, bytes 4096 to 8192")
		require.Len(t, d.segments, 1)
		require.EqualValues(t, 1, result.Totals.Drained.Chains)
		require.Len(t, result.Decisions, 1)
	})
}

func TestDiskGone(t *testing.T) {
	t.Run("comes back", func(t *testing.T) {
		d := &disk{chains: []report.WALChain{chainOf(0, "01")}}
		back := false
		d.gone = func() bool { return !back && len(d.segments) > 0 }
		env := replayEnv(d)
		env.RegisterDelayedCallback(func() {
			status := statusOf[contract.ReplayWALStatus](t, env)
			require.Equal(t, contract.StateHostGone, status.State)
			require.Contains(t, status.Note, "host worker-a, which holds 3 commits, must come back")
			back = true
		}, 23*time.Hour)
		startReplay(env, contract.ReplayWALInput{})
		require.EqualValues(t, 1, resultOf[contract.ReplayWALResult](t, env).Totals.Drained.Chains)
	})
	t.Run("for good", func(t *testing.T) {
		d := &disk{chains: []report.WALChain{chainOf(0, "01"), chainOf(1, "02")}}
		d.gone = func() bool { return len(d.segments) > 1 }
		env := replayEnv(d)
		began := env.Now()
		startReplay(env, contract.ReplayWALInput{})
		err := env.GetWorkflowError()
		require.ErrorContains(t, err, "WAL of host worker-a holds 6 commits; nobody has polled millrace:d:d1")
		var app *temporal.ApplicationError
		require.ErrorAs(t, err, &app)
		require.Equal(t, contract.ErrorWALGone, app.Type())
		require.GreaterOrEqual(t, env.Now().Sub(began), contract.WALPatience)
	})
	t.Run("never seen", func(t *testing.T) {
		d := &disk{gone: func() bool { return true }}
		env := replayEnv(d)
		startReplay(env, contract.ReplayWALInput{Host: "worker-x"})
		require.ErrorContains(t, env.GetWorkflowError(), "WAL of host worker-x holds an unknown number of commits")
	})
}

func TestReplayContinuesAsNewByBudget(t *testing.T) {
	d := new(disk)
	for n := range int32(contract.SegmentsPerRun + 3) {
		d.chains = append(d.chains, chainOf(n, fmt.Sprintf("%04d", n)))
	}
	d.page = 300
	env := replayEnv(d)
	startReplay(env, contract.ReplayWALInput{BytesPerSecond: 7})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.ReplayWALInput
	require.NoError(t, decode(again, &next))
	require.Len(t, d.segments, contract.SegmentsPerRun)
	require.EqualValues(t, contract.SegmentsPerRun, next.State.Totals.Drained.Chains)
	require.EqualValues(t, 7, next.BytesPerSecond)

	env = replayEnv(d)
	startReplay(env, next)
	result := resultOf[contract.ReplayWALResult](t, env)
	require.EqualValues(t, contract.SegmentsPerRun+3, result.Totals.Drained.Chains)
	require.EqualValues(t, contract.SegmentsPerRun+3, result.Segments)
}

// Chains that stay on the disk do not hide those behind them in a listing.
func TestReplayLooksBehindWhatIsKept(t *testing.T) {
	d := &disk{page: 2, keep: true, chains: []report.WALChain{chainOf(0, "01"), chainOf(1, "01"), chainOf(2, "02"), chainOf(3, "03")}}
	d.settle = func(report.ChainRef, contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange) {
		return report.SettledChain{Outcome: report.ChainSuperseded, Superseded: &report.Account{Commits: 3, Bytes: 300}}, nil
	}
	env := replayEnv(d)
	startReplay(env, contract.ReplayWALInput{})
	result := resultOf[contract.ReplayWALResult](t, env)
	require.EqualValues(t, 4, result.Totals.Superseded.Chains)
	require.EqualValues(t, 4, result.Totals.Kept.Chains)
}

func TestReplayInput(t *testing.T) {
	for name, c := range map[string]struct{ input, want string }{
		"misspelt":     {`{"pipeline":"orders","disk":"d1","bytes_per_secnod":5}`, `unknown field "bytes_per_secnod"`},
		"nothing":      {`{}`, "pipeline and disk are needed"},
		"another disk": {`{"pipeline":"orders","disk":"d2"}`, `the input makes it "replay-wal:orders:d2"`},
		"rate":         {`{"pipeline":"orders","disk":"d1","bytes_per_second":-1}`, "bytes_per_second is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			env := replayEnv(new(disk))
			env.ExecuteWorkflow(contract.WorkflowReplayWAL, json.RawMessage(c.input))
			require.ErrorContains(t, env.GetWorkflowError(), c.want)
		})
	}
}
