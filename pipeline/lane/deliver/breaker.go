package deliver

import (
	"context"
	"errors"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// Route decides where commits go. It learns from what it is told, and is asked often: it must never block.
type Route interface {
	// Direct is false while Redis must not be tried.
	Direct() bool
	// Report is called with the outcome of every try at Redis. A decision of the protocol is an answer: nil.
	Report(err error)
	// Admit is called after n records were taken in, and says how long to wait before the next ones; 0 is not at all.
	Admit(n int) time.Duration
}

// OpenRoute is the route without a guard: Redis is always tried.
var OpenRoute Route = openRoute{}

type openRoute struct{}

func (openRoute) Direct() bool            { return true }
func (openRoute) Report(error)            {}
func (openRoute) Admit(int) time.Duration { return 0 }

// breakerSender tells the route what Redis said about a commit.
type breakerSender struct {
	route Route
	next  sender
}

func (s *breakerSender) send(ctx context.Context, a *attempt) error {
	err := s.next.send(ctx, a)
	reportOutcome(ctx, s.route, err)
	return err
}

// reportOutcome tells the route what Redis said. A try that was cut short because its lane must go says nothing.
func reportOutcome(ctx context.Context, route Route, err error) {
	switch {
	case err == nil || store.IsFinal(err):
		route.Report(nil)
	case !errors.Is(ctx.Err(), context.Canceled):
		route.Report(err)
	}
}

// reportDrained tells the route what Redis said to a step of the drain, if Redis was asked.
func reportDrained(ctx context.Context, route Route, step journal.Drained, err error) {
	var side *journal.SideError
	if errors.As(err, &side) || JournalUnreadable(err) || errors.Is(err, wal.ErrClosed) {
		return
	}
	if err != nil || step.Calls > 0 {
		reportOutcome(ctx, route, err)
	}
}
