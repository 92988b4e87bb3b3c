package lane

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/measure"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// none is the value of a time that was not asked for.
const none = window.NoTime

// Store is what a lane needs of Redis.
type Store interface {
	deliver.Store
	entryReader
	Acquire(ctx context.Context, id store.LaneID, stateID string, expected, next store.Token) (store.Meta, bool, error)
	// ReadOwner reads nothing but the owner, whatever else stands there.
	ReadOwner(ctx context.Context, id store.LaneID) (store.Token, error)
	// Replace gives a lane whose state cannot be used a new owner and a state without slices.
	Replace(ctx context.Context, id store.LaneID, stateID string, expected, next store.Token, buckets int, m *store.MetaUpdate,
	) (store.Meta, error)
	// Abandon takes back the meta that Acquire has created, if nothing was committed under it.
	Abandon(ctx context.Context, id store.LaneID, owner store.Token) error
	PipelineCtl(ctx context.Context, pipeline string) (store.PipelineCtl, error)
}

// Log is what a lane asks the broker about its partition, on connections of its own.
type Log interface {
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
	Committed(ctx context.Context, group string, tps ...source.TopicPartition) (map[source.TopicPartition]source.Committed, error)
	TopicID(ctx context.Context, topic string) (string, error)
}

// Journal is what lanes need of the journal of their process.
type Journal interface {
	Tail(id store.LaneID, stateID string, owner store.Token) *journal.Tail
	Resume(ctx context.Context, st journal.Applier, side journal.SideSender, id store.LaneID, stateID string,
		previous, owner store.Token, at store.Cursor) (report.SettledChain, error)
}

// Ledger knows what was published of a lane. It is asked only where nothing else is left that could say whether the lane
// is new.
type Ledger interface {
	// Published leaves out what was read of another topic than topicID that had the lane's name.
	Published(ctx context.Context, id store.LaneID, topicID string) (Published, error)
}

// Published is what the ledger says of a lane.
type Published struct {
	Windows int   // that still have a row that covers offsets of the lane
	Offset  int64 // the highest that was read, 0 without any
}

// Deps are what the lanes of a replica share. All are safe for concurrent use.
type Deps struct {
	Store   Store
	Side    deliver.SideSender
	Cluster Log
	Open    func(source.ReaderConfig) source.Reader // source.OpenReader with the replica's cluster
	Ledger  Ledger                                  // nil: what Redis and the group do not know never was
	Group   string
	Budget  *Budget
	Desired *Desired
	Journal Journal       // nil: commits that Redis cannot take wait for it
	Route   deliver.Route // nil: Redis is always tried
	Log     *slog.Logger
	Gate    Gate              // nil: every step runs at once
	Tracing *Tracing          // nil: no record is followed
	Measure *measure.Pipeline // nil: nothing is measured
	// NextToken makes the owner token that follows another one. Nil: store.NextToken, as everywhere but in a model.
	NextToken func(previous store.Token) store.Token
	// Wanted asks now whether the pipeline still is to run. A lane of which nobody knows anything asks where Redis has no
	// desired state of the pipeline. Nil: it always is.
	Wanted func(ctx context.Context) (bool, error)
	// KeepFields says why lanes whose entries are fields stay so, "" when their next commits may be in pages. It is asked before
	// every commit. Nil: they may.
	KeepFields func() string
}

func (d *Deps) keepFields() string {
	if d.KeepFields == nil {
		return ""
	}
	return d.KeepFields()
}

func (d *Deps) route() deliver.Route {
	if d.Route == nil {
		return deliver.OpenRoute
	}
	return d.Route
}

func (d *Deps) measure() *measure.Pipeline {
	if d.Measure == nil {
		return measure.Nothing
	}
	return d.Measure
}

func (d *Deps) nextToken(previous store.Token) store.Token {
	if d.NextToken == nil {
		return store.NextToken(previous)
	}
	return d.NextToken(previous)
}

// Control values of the pipeline that all lanes of a replica follow.
type orders struct {
	gen, specGen int64
	paused       bool
	commitNow    string
}

// Desired carries the pipeline's desired state from those who read it to the lanes.
type Desired struct {
	setting sync.Mutex
	current atomic.Pointer[orders]
	changed atomic.Pointer[chan struct{}]
}

// NewDesired returns a desired state that asks for nothing.
func NewDesired() *Desired {
	d := &Desired{}
	d.current.Store(&orders{})
	ch := make(chan struct{})
	d.changed.Store(&ch)
	return d
}

// Set replaces the desired state and wakes the lanes if anything differs. Generation 0 says that Redis forgot: what was
// desired last stands.
func (d *Desired) Set(ctl store.PipelineCtl) {
	if ctl.Gen == 0 {
		return
	}
	d.setting.Lock()
	defer d.setting.Unlock()
	next := orders{gen: ctl.Gen, specGen: ctl.SpecGen, paused: ctl.Paused, commitNow: ctl.CommitNow}
	if *d.current.Load() == next {
		return
	}
	d.current.Store(&next)
	ch := make(chan struct{})
	close(*d.changed.Swap(&ch))
}

// get returns the orders of now, and a channel that is closed when they change.
func (d *Desired) get() (orders, <-chan struct{}) {
	ch := *d.changed.Load()
	return *d.current.Load(), ch
}
