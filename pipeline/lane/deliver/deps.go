package deliver

import (
	"context"
	"log/slog"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// Applier applies the calls of a commit.
type Applier interface {
	Apply(ctx context.Context, id store.LaneID, stateID string, owner store.Token, calls []store.Call) (int, error)
}

// Store is what delivery needs of the store.
type Store interface {
	Applier
	ReadMeta(ctx context.Context, id store.LaneID) (store.Meta, bool, error)
	ReadCtl(ctx context.Context, ids ...store.LaneID) ([]store.Ctl, error)
}

// Deps are what the committers of a replica share. All are safe for concurrent use.
type Deps struct {
	Store Store
	Side  SideSender
	Route Route // nil: Redis is always tried
	Log   *slog.Logger
}

func (d *Deps) route() Route {
	if d.Route == nil {
		return OpenRoute
	}
	return d.Route
}

// Config is for the commits of one lane under one owner token.
type Config struct {
	Lane     store.LaneID
	StateID  string
	Owner    store.Token
	InFlight int           // commits that may be in flight, at most
	Grace    time.Duration // after which a commit that Redis does not take goes to the journal
	Journal  Journal
	Clock    *stage.Clock // books the committer's time; nil for none
}

// Journal is a lane's part of its process's journal. The zero value is none: commits that Redis cannot take wait for it.
type Journal struct {
	Tail     *journal.Tail   // of the config's owner; nil without a journal
	Owed     []*journal.Tail // of earlier owners of this lane's life: their side records go out before anything else
	OnlyCopy bool            // Redis had nothing of the lane's state when it was written again
}
