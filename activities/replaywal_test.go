package activities

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// fakeJournal is a WAL directory.
type fakeJournal struct {
	mu     sync.Mutex
	calls  int
	chains []report.WALChain
	how    []Settling
	settle func(chain report.ChainRef, how Settling, progress func(Settled)) (report.SettledChain, error)
}

func (f *fakeJournal) Disk() string { return "d1" }

func (f *fakeJournal) List(context.Context, string) ([]report.WALChain, error) {
	f.calls++
	return f.chains, nil
}

func (f *fakeJournal) Settle(_ context.Context, _ string, chain report.ChainRef, how Settling, progress func(Settled),
) (report.SettledChain, error) {
	f.mu.Lock()
	f.calls++
	f.how = append(f.how, how)
	f.mu.Unlock()
	return f.settle(chain, how, progress)
}

func (f *fakeJournal) Accounts(string) (report.JournalAccounts, error) {
	f.calls++
	return report.JournalAccounts{Spilled: report.Account{Commits: 7}}, nil
}

func chains(n int) (refs []report.ChainRef) {
	for i := range n {
		refs = append(refs, report.ChainRef{Topic: "orders", Partition: int32(i), Chain: "4:aa"})
	}
	return refs
}

func TestListChains(t *testing.T) {
	f := new(fakeJournal)
	for _, ref := range chains(contract.MaxChains + 7) {
		f.chains = append(f.chains, report.WALChain{ChainRef: ref, Commits: 2, Bytes: 10})
	}
	a := NewReplaying(f, "worker-a", new(fakeTemporal))
	list := func(from int) (listing contract.WALListing) {
		value, err := activityEnv(a).ExecuteActivity(a.ListChains, contract.ListChainsInput{From: from})
		require.NoError(t, err)
		require.NoError(t, value.Get(&listing))
		require.EqualValues(t, 2*(contract.MaxChains+7), listing.Commits, "sums are over all")
		return listing
	}
	first := list(0)
	require.Len(t, first.Chains, contract.MaxChains)
	require.Equal(t, 7, first.More)
	require.Equal(t, "worker-a", first.Host)
	require.Len(t, list(contract.MaxChains).Chains, 7)
	require.Empty(t, list(10_000).Chains)
}

func replaySegment(t *testing.T, f *fakeJournal, before *contract.SegmentProgress, in contract.ReplaySegmentInput,
) (contract.ReplaySegmentResult, *fakeTemporal, error) {
	temporal := new(fakeTemporal)
	a := NewReplaying(f, "worker-a", temporal)
	env := activityEnv(a)
	if before != nil {
		env.SetHeartbeatDetails(before)
	}
	value, err := env.ExecuteActivity(a.ReplaySegment, in)
	var result contract.ReplaySegmentResult
	if err == nil {
		require.NoError(t, value.Get(&result))
	}
	return result, temporal, err
}

func drains(chain report.ChainRef, _ Settling, progress func(Settled)) (report.SettledChain, error) {
	progress(Settled{Place: "1/0", Records: 1, Bytes: 5})
	return report.SettledChain{Outcome: report.ChainDrained, Commits: 2, Bytes: 10}, nil
}

func TestReplaySegment(t *testing.T) {
	in := contract.ReplaySegmentInput{Segment: "01", Chains: chains(3), BytesPerSecond: 9, Quarantine: chains(2)[1:]}
	t.Run("settles chain by chain", func(t *testing.T) {
		f := &fakeJournal{settle: drains}
		result, _, err := replaySegment(t, f, nil, in)
		require.NoError(t, err)
		require.Len(t, result.Settled, 3)
		require.Equal(t, []Settling{{BytesPerSecond: 9}, {BytesPerSecond: 9, Quarantine: true}, {BytesPerSecond: 9}}, f.how)
	})
	t.Run("goes on where an earlier attempt was", func(t *testing.T) {
		f := &fakeJournal{settle: drains}
		before := &contract.SegmentProgress{Segment: "01", Records: 2, Bytes: 10,
			Settled: []report.SettledChain{{ChainRef: in.Chains[0], Outcome: report.ChainDrained, Commits: 2}}}
		result, _, err := replaySegment(t, f, before, in)
		require.NoError(t, err)
		require.Equal(t, 2, f.calls)
		require.Len(t, result.Settled, 3, "what the earlier attempt settled is told too")
	})
	t.Run("details of another segment do not count", func(t *testing.T) {
		f := &fakeJournal{settle: drains}
		_, _, err := replaySegment(t, f, &contract.SegmentProgress{Segment: "00",
			Settled: []report.SettledChain{{ChainRef: in.Chains[0]}}}, in)
		require.NoError(t, err)
		require.Equal(t, 3, f.calls)
	})
	t.Run("stops at what cannot be read", func(t *testing.T) {
		f := &fakeJournal{settle: func(chain report.ChainRef, how Settling, progress func(Settled)) (report.SettledChain, error) {
			if chain.Partition == 1 {
				return report.SettledChain{}, fmt.Errorf("read: %w", &CorruptError{Range: report.CorruptRange{Segment: "01", From: 5,
					To: 9, Detail: "checksum"}})
			}
			return drains(chain, how, progress)
		}}
		result, _, err := replaySegment(t, f, nil, in)
		require.NoError(t, err, "it asks, so it is an answer")
		require.Len(t, result.Settled, 1)
		require.Equal(t, in.Chains[1], result.Corrupt.ChainRef)
		require.EqualValues(t, 5, result.Corrupt.From)
	})
	t.Run("leaves live chains", func(t *testing.T) {
		f := &fakeJournal{settle: func(chain report.ChainRef, how Settling, progress func(Settled)) (report.SettledChain, error) {
			if chain.Partition == 0 {
				return report.SettledChain{}, fmt.Errorf("lane: %w", ErrLive)
			}
			return drains(chain, how, progress)
		}}
		result, _, err := replaySegment(t, f, nil, in)
		require.NoError(t, err)
		require.Equal(t, in.Chains[:1], result.Live)
		require.Len(t, result.Settled, 2)
	})
	t.Run("fails, to be tried again", func(t *testing.T) {
		f := &fakeJournal{settle: func(report.ChainRef, Settling, func(Settled)) (report.SettledChain, error) {
			return report.SettledChain{}, errUnavailable
		}}
		_, _, err := replaySegment(t, f, nil, in)
		require.ErrorContains(t, err, "settle chain 4:aa of orders/0: connection refused")
		f.settle = func(report.ChainRef, Settling, func(Settled)) (report.SettledChain, error) {
			return report.SettledChain{}, fmt.Errorf("%w: newer format", ErrPermanent)
		}
		_, _, err = replaySegment(t, f, nil, in)
		requireType(t, err, contract.ErrorPermanent)
	})
}

// The details of a beat are what a further attempt needs, also in the middle of a chain.
func TestReplaySegmentDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeJournal{settle: func(chain report.ChainRef, how Settling, progress func(Settled)) (report.SettledChain, error) {
			progress(Settled{Place: "7/1", Records: 40, Bytes: 400})
			pass(10 * time.Second)
			return report.SettledChain{Outcome: report.ChainDrained, Commits: 50, Bytes: 500}, nil
		}}
		temporal := new(fakeTemporal)
		a := NewReplaying(f, "w", temporal)
		s := &segment{in: contract.ReplaySegmentInput{Segment: "01", Chains: chains(2)}, progress: contract.SegmentProgress{Segment: "01"}}
		beating := &attempt{beats: temporal, every: replayBeat}
		require.NoError(t, beating.hold(context.Background(), s.details, func(ctx context.Context) error { return a.settle(ctx, s) }))
		temporal.mu.Lock()
		defer temporal.mu.Unlock()
		last := temporal.last.(*contract.SegmentProgress)
		require.Len(t, last.Settled, 1)
		require.Equal(t, int32(1), last.Chain.Partition)
		require.Equal(t, "7/1", last.Place)
		require.EqualValues(t, 90, last.Records, "50 of the first chain, 40 of the second")
	})
}

func TestJournalAccounts(t *testing.T) {
	a := NewDegrading(new(fakeLevels), nil, new(fakeTemporal))
	value, err := activityEnv(a).ExecuteActivity(a.JournalAccounts, contract.JournalAccountsInput{})
	require.NoError(t, err)
	var books report.JournalAccounts
	require.NoError(t, value.Get(&books))
	require.False(t, books.Journal, "a worker without a WAL directory has no books")
	a = NewDegrading(new(fakeLevels), new(fakeJournal), new(fakeTemporal))
	value, err = activityEnv(a).ExecuteActivity(a.JournalAccounts, contract.JournalAccountsInput{})
	require.NoError(t, err)
	require.NoError(t, value.Get(&books))
	require.Equal(t, report.JournalAccounts{Journal: true, Disk: "d1", Spilled: report.Account{Commits: 7}}, books)
}
