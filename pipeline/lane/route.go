package lane

import (
	"context"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Journal is what lanes need of the journal of their process.
type Journal interface {
	Tail(id store.LaneID, stateID string, owner store.Token) *journal.Tail
	Resume(ctx context.Context, st journal.Applier, side journal.SideSender, id store.LaneID, stateID string,
		previous, owner store.Token, at store.Cursor) (journal.Resumed, error)
}

// Route decides where commits go. It learns from what it is told, and is asked often: it must never block.
type Route interface {
	// Direct is false while Redis must not be tried.
	Direct() bool
	// Report is called with the outcome of every try at Redis. A decision of the protocol is an answer: nil.
	Report(err error)
	// Admit is called after n records were taken in, and says how long to wait before the next ones; 0 is not at all.
	Admit(n int) time.Duration
}

// always is the route without a guard: Redis is always tried.
type always struct{}

func (always) Direct() bool            { return true }
func (always) Report(error)            {}
func (always) Admit(int) time.Duration { return 0 }

func (d *Deps) route() Route {
	if d.Route == nil {
		return always{}
	}
	return d.Route
}

// Fitting returns a sender that publishes records as a lane does: one that its topic would never take is cut until it fits.
func Fitting(side SideSender) SideSender { return fitting{side} }

type fitting struct{ SideSender }

func (f fitting) Send(ctx context.Context, records []source.SideRecord) error {
	return sendFitting(ctx, f.SideSender, records)
}
