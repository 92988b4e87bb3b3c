package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// Replaying is what ReplayWAL does on the queue of a disk.
type Replaying struct {
	journal Journal
	worker  string
	beats   Heartbeats
}

// NewReplaying returns the activities of a disk's queue. worker names the process for people.
func NewReplaying(journal Journal, worker string, beats Heartbeats) *Replaying {
	return &Replaying{journal: journal, worker: worker, beats: beats}
}

const replayBeat = 2 * time.Second

// ListChains returns what the journal holds of a pipeline.
func (a *Replaying) ListChains(ctx context.Context, in contract.ListChainsInput) (*contract.WALListing, error) {
	listing := &contract.WALListing{Disk: a.journal.Disk(), Host: a.worker}
	details := func() any { return nil }
	err := newAttempt(ctx, a.beats, replayBeat).hold(ctx, details, func(ctx context.Context) error {
		chains, err := a.journal.List(ctx, in.Pipeline)
		if err != nil {
			return a.failed(ctx, fmt.Errorf("list the journal on disk %s: %w", a.journal.Disk(), err))
		}
		for _, c := range chains {
			listing.Commits += c.Commits
			listing.Bytes += c.Bytes
		}
		chains = chains[min(max(0, in.From), len(chains)):]
		listing.Chains = chains[:min(len(chains), contract.MaxChains)]
		listing.More = len(chains) - len(listing.Chains)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return listing, nil
}

// ReplaySegment settles the chains that begin in one segment, one after the other, and goes on where an earlier attempt was.
func (a *Replaying) ReplaySegment(ctx context.Context, in contract.ReplaySegmentInput) (*contract.ReplaySegmentResult, error) {
	s := &segment{in: in, progress: contract.SegmentProgress{Segment: in.Segment}}
	if activity.HasHeartbeatDetails(ctx) {
		var before contract.SegmentProgress
		if err := activity.GetHeartbeatDetails(ctx, &before); err == nil && before.Segment == in.Segment {
			s.progress = before
		}
	}
	err := newAttempt(ctx, a.beats, replayBeat).hold(ctx, s.details, func(ctx context.Context) error {
		return a.settle(ctx, s)
	})
	if err != nil {
		return nil, err
	}
	s.result.Settled = s.progress.Settled
	return &s.result, nil
}

// segment is the progress of one ReplaySegment. Fields below mu are guarded by it: heartbeats read them.
type segment struct {
	in     contract.ReplaySegmentInput
	result contract.ReplaySegmentResult

	mu       sync.Mutex
	progress contract.SegmentProgress
}

// details are the heartbeat's: a copy, since it is encoded while the work goes on.
func (s *segment) details() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := s.progress
	shown.Settled = slices.Clone(shown.Settled)
	return &shown
}

func (s *segment) settled(chain report.ChainRef) bool {
	return slices.ContainsFunc(s.progress.Settled, func(c report.SettledChain) bool { return c.ChainRef == chain })
}

func (a *Replaying) settle(ctx context.Context, s *segment) error {
	for _, chain := range s.in.Chains {
		if s.settled(chain) {
			continue
		}
		records, bytes := s.progress.Records, s.progress.Bytes
		how := Settling{Quarantine: slices.Contains(s.in.Quarantine, chain), BytesPerSecond: s.in.BytesPerSecond}
		s.step(func(p *contract.SegmentProgress) { p.Chain, p.Place = &chain, "" })
		done, err := a.journal.Settle(ctx, s.in.Pipeline, chain, how, func(at Settled) {
			s.step(func(p *contract.SegmentProgress) {
				p.Place, p.Records, p.Bytes = at.Place, records+at.Records, bytes+at.Bytes
			})
		})
		var corrupt *CorruptError
		switch {
		case errors.As(err, &corrupt):
			at := corrupt.Range
			at.ChainRef, at.Detail = chain, contract.Cut(at.Detail)
			s.result.Corrupt = &at
			return nil
		case errors.Is(err, ErrLive):
			s.result.Live = append(s.result.Live, chain)
		case err != nil:
			return a.failed(ctx, fmt.Errorf("settle chain %s of %s/%d: %w", chain.Chain, chain.Topic, chain.Partition, err))
		default:
			done.ChainRef, done.Reason = chain, contract.Cut(done.Reason)
			s.step(func(p *contract.SegmentProgress) {
				p.Settled = append(p.Settled, done)
				p.Records, p.Bytes = records+done.Commits, bytes+done.Bytes
			})
		}
	}
	return nil
}

func (s *segment) step(change func(*contract.SegmentProgress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.progress)
}

// failed is the answer to an error: the reason to end, if there is one, else the error.
func (a *Replaying) failed(ctx context.Context, err error) error {
	if reason := reasonOf(ctx); reason != nil {
		return ended(reason)
	}
	return final(err)
}
