package activities

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// Degrading is what Degrade does on a process's own queue.
type Degrading struct {
	levels  Levels
	journal Journal // nil: the process has no WAL directory
	beats   Heartbeats
}

// NewDegrading returns the activities of the host's queue that watch levels. journal may be nil.
func NewDegrading(levels Levels, journal Journal, beats Heartbeats) *Degrading {
	return &Degrading{levels: levels, journal: journal, beats: beats}
}

// levelLook is how often a watch makes sure that the hot path still runs here.
const levelLook = 5 * time.Second

// WatchLevel returns when the level of a dependency changes, with everything that changed since in.After. It goes on while
// Temporal is away.
func (a *Degrading) WatchLevel(ctx context.Context, in contract.WatchLevelInput) (result *contract.WatchLevelResult, err error) {
	details := func() any {
		if level, ok := a.levels.Level(in.Pipeline, in.Replica, in.Dependency); ok {
			return level.LevelStatus()
		}
		return nil
	}
	err = newAttempt(ctx, a.beats, contract.BeatEvery).hold(ctx, details, func(ctx context.Context) error {
		result, err = a.watch(ctx, in)
		return err
	})
	return result, err
}

func (a *Degrading) watch(ctx context.Context, in contract.WatchLevelInput) (*contract.WatchLevelResult, error) {
	renew := time.Now().Add(time.Duration(in.RenewSeconds) * time.Second)
	var result contract.WatchLevelResult
	for {
		level, ok := a.levels.Level(in.Pipeline, in.Replica, in.Dependency)
		if !ok {
			result.Outcome = contract.OutcomeMoved
			return &result, nil
		}
		result.Status = level.LevelStatus()
		changes := level.Changes(in.After)
		switch {
		case len(changes) > 0:
			for _, c := range changes[:min(len(changes), contract.MaxChanges)] {
				result.Changes = append(result.Changes, contract.BoundChange(c))
			}
			result.Outcome = contract.OutcomeChanged
			return &result, nil
		case result.Status.Seq < in.After: // a hot path that was started anew here, whose machine has never left normal
			result.Outcome = contract.OutcomeMoved
			return &result, nil
		case time.Now().After(renew):
			result.Outcome = contract.OutcomeRenew
			return &result, nil
		}
		limited, cancel := context.WithTimeout(ctx, levelLook)
		_, _ = level.Await(limited, in.After) // whatever woke it, the loop looks
		cancel()
		if reason := reasonOf(ctx); reason != nil {
			return nil, ended(reason)
		}
	}
}

// OverrideLevel sets or lifts an operator's override and returns where the level stands then.
func (a *Degrading) OverrideLevel(ctx context.Context, in contract.OverrideLevelInput) (*report.LevelStatus, error) {
	if err := newAttempt(ctx, a.beats, contract.BeatEvery).open(ctx); err != nil {
		return nil, err
	}
	level, ok := a.levels.Level(in.Pipeline, in.Replica, in.Dependency)
	if !ok {
		return nil, final(Stale(nil, "replica %d of %s does not run on this worker any more: it was moved or stopped",
			in.Replica, in.Pipeline))
	}
	if err := level.Override(in.Override, in.By, in.Reason); err != nil {
		return nil, temporal.NewNonRetryableApplicationError(err.Error(), contract.ErrorRefused, err)
	}
	status := level.LevelStatus()
	return &status, nil
}

// OrderLevels gives this process the orders in force on all workers of a pipeline. Redis may be away: it is told all the same.
func (a *Degrading) OrderLevels(ctx context.Context, in contract.OrderLevelsInput) (*contract.OrderedLevels, error) {
	if err := newAttempt(ctx, a.beats, contract.BeatEvery).open(ctx); err != nil {
		return nil, err
	}
	return &contract.OrderedLevels{Levels: a.levels.OrderLevels(in)}, nil
}

// JournalAccounts returns the books of the process's journal.
func (a *Degrading) JournalAccounts(ctx context.Context, in contract.JournalAccountsInput) (*report.JournalAccounts, error) {
	if err := newAttempt(ctx, a.beats, contract.BeatEvery).open(ctx); err != nil {
		return nil, err
	}
	if a.journal == nil {
		return new(report.JournalAccounts), nil
	}
	books, err := a.journal.Accounts(in.Pipeline)
	if err != nil {
		return nil, final(fmt.Errorf("books of the journal on disk %s: %w", a.journal.Disk(), err))
	}
	books.Journal, books.Disk = true, a.journal.Disk()
	return &books, nil
}
