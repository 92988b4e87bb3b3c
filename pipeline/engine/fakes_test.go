package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/lane"
	"millrace/pipeline/page"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

func TestMain(m *testing.M) {
	// sarama counts fetches in go-metrics' default registry, which keeps one goroutine for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const testSpec = `
name: orders
source: {topics: [orders], format: json}
event: {key: [k], time: {field: t, unit: ms}}
aggregates:
  n: {func: count}
windows:
  - {name: minute, size: 1m}
results: {kafka: {topic: orders.windows}}
lane: {commit_interval: 100ms}
`

func mustSpec(t *testing.T) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(testSpec))
	require.NoError(t, err)
	return s
}

// fakes are a Redis of empty lanes, a Kafka and a coordinator, without a network: fit for virtual time.
type fakes struct {
	mu     sync.Mutex
	owners map[int32]store.Token
	hint   map[int32]int64         // group offsets; a lane with one has lost its state
	block  map[int32]chan struct{} // lanes whose restore waits
	away   int                     // calls of Acquire that fail
	begun  map[int32]int           // restores
	reads  map[int32]*fakeReader   // the latest of each lane
}

func newFakes() *fakes {
	return &fakes{owners: map[int32]store.Token{}, hint: map[int32]int64{}, block: map[int32]chan struct{}{}, begun: map[int32]int{},
		reads: map[int32]*fakeReader{}}
}

func (f *fakes) meta(id store.LaneID) store.Meta {
	f.mu.Lock()
	defer f.mu.Unlock()
	return store.Meta{Owner: f.owners[id.Partition], Offset: store.NotStarted, Watermark: store.NoTime, Sealed: store.NoTime, IdleEnd: store.NotIdle}
}

func (f *fakes) ReadMeta(_ context.Context, id store.LaneID) (store.Meta, bool, error) {
	return f.meta(id), true, nil
}

func (f *fakes) ReadOwner(_ context.Context, id store.LaneID) (store.Token, error) {
	return f.meta(id).Owner, nil
}

func (f *fakes) Replace(context.Context, store.LaneID, string, store.Token, store.Token, int, *store.MetaUpdate) (store.Meta, error) {
	return store.Meta{}, errors.New("nothing here is of no use")
}

func (f *fakes) Abandon(context.Context, store.LaneID, store.Token) error { return nil }

func (f *fakes) Acquire(_ context.Context, id store.LaneID, _ string, _, next store.Token) (store.Meta, bool, error) {
	f.mu.Lock()
	if f.away > 0 {
		f.away--
		f.mu.Unlock()
		return store.Meta{}, false, errors.New("redis is away")
	}
	f.owners[id.Partition] = next
	f.mu.Unlock()
	return f.meta(id), false, nil
}

func (f *fakes) LaneView(ctx context.Context, id store.LaneID, _ string) (store.Meta, []store.SliceStat, error) {
	f.mu.Lock()
	f.begun[id.Partition]++
	wait := f.block[id.Partition]
	f.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return store.Meta{}, nil, ctx.Err()
		}
	}
	return f.meta(id), nil, nil
}

func (f *fakes) WholeIndex(ctx context.Context, id store.LaneID, stateID string) (store.LaneIndex, error) {
	meta, _, err := f.LaneView(ctx, id, stateID)
	return store.LaneIndex{Meta: meta}, err
}

func (f *fakes) ReadPages(context.Context, store.LaneID, string, []store.SlicePage, func(int, *page.Page) error) (store.Guard, error) {
	return store.Guard{}, nil
}

func (f *fakes) ReadSlice(context.Context, store.LaneID, string, store.SliceID, int, int, func(int, []byte, []byte) error) (store.Guard, error) {
	return store.Guard{}, nil
}

func (f *fakes) Load(context.Context, store.LaneID, string, []store.SliceID, int, func(int, []byte, []byte) error) ([]int, store.Guard, error) {
	return nil, store.Guard{}, nil
}

func (f *fakes) ReadCtl(_ context.Context, ids ...store.LaneID) ([]store.Ctl, error) {
	out := make([]store.Ctl, len(ids))
	for i := range out {
		out[i] = store.Ctl{SealBefore: store.NoTime, DropBefore: store.NoTime}
	}
	return out, nil
}

func (f *fakes) PipelineCtl(context.Context, string) (store.PipelineCtl, error) {
	return store.PipelineCtl{}, nil
}

func (f *fakes) Apply(_ context.Context, _ store.LaneID, _ string, _ store.Token, calls []store.Call) (int, error) {
	return len(calls), nil
}

func (f *fakes) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	out := map[source.TopicPartition]source.Ends{}
	for _, tp := range tps {
		out[tp] = source.Ends{End: 100, HighWatermark: 100}
	}
	return out, nil
}

func (f *fakes) Committed(_ context.Context, _ string, tps ...source.TopicPartition) (map[source.TopicPartition]source.Committed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[source.TopicPartition]source.Committed{}
	for _, tp := range tps {
		if at, ok := f.hint[tp.Partition]; ok {
			out[tp] = source.Committed{Offset: at}
		}
	}
	return out, nil
}

func (f *fakes) TopicID(context.Context, string) (string, error) { return "id", nil }

func (f *fakes) Send(context.Context, []source.SideRecord) error { return nil }

func (f *fakes) restores(partition int32) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun[partition]
}

type fakeClaim struct{ partition int32 }

func (c fakeClaim) Topic() string                               { return "orders" }
func (c fakeClaim) Partition() int32                            { return c.partition }
func (c fakeClaim) Generation() int32                           { return 1 }
func (c fakeClaim) MemberID() string                            { return "m" }
func (c fakeClaim) StillAssigned(context.Context) (bool, error) { return true, nil }
func (c fakeClaim) StillMember(context.Context) (bool, error)   { return true, nil }
func (c fakeClaim) MarkHint(int64, string)                      {}
func (c fakeClaim) ResetHint(int64, string)                     {}

// fakeReader brings nothing. fail ends it.
type fakeReader struct {
	batches chan source.Batch
	err     error
}

func (r *fakeReader) Batches() <-chan source.Batch { return r.batches }
func (r *fakeReader) Err() error                   { return r.err }
func (r *fakeReader) Status() source.ReaderStatus  { return source.ReaderStatus{} }
func (r *fakeReader) Pause()                       {}
func (r *fakeReader) Resume()                      {}
func (r *fakeReader) Close() error                 { return nil }

func (f *fakes) open(cfg source.ReaderConfig) source.Reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &fakeReader{batches: make(chan source.Batch)}
	f.reads[cfg.Partition] = r
	return r
}

// fail ends the reader of a lane.
func (f *fakes) fail(partition int32, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.reads[partition]
	r.err = err
	close(r.batches)
}

// hall is an engine without its clients: it owns lanes over fakes.
type hall struct {
	*Engine
	*fakes
	ctx  context.Context
	end  context.CancelFunc
	live sync.WaitGroup
}

func newHall(t *testing.T, change func(*Config)) *hall {
	t.Helper()
	cfg := Config{Spec: mustSpec(t), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	h := &hall{fakes: newFakes(), Engine: &Engine{
		cfg: cfg, lanes: make(map[source.TopicPartition]*lane.Lane), done: make(chan struct{}),
		storms: newStorms(&cfg), group: trouble{log: cfg.Log},
	}}
	h.recovery = newRecovery(&cfg, h.storms.current)
	h.deps = lane.Deps{
		Store: h.fakes, Side: h.fakes, Cluster: h.fakes, Group: "g", Log: cfg.Log, Gate: h.recovery,
		Budget: lane.NewBudget(1 << 30), Desired: lane.NewDesired(),
		Open: h.open,
	}
	h.ctx, h.end = context.WithCancel(t.Context())
	return h
}

// claim gives the engine partitions; revoke ends them.
func (h *hall) claim(partitions ...int32) (revoke context.CancelFunc) {
	ctx, cancel := context.WithCancel(h.ctx)
	for _, p := range partitions {
		h.live.Go(func() { h.Own(ctx, fakeClaim{p}) })
	}
	return cancel
}

// close ends all claims; it must run inside the bubble.
func (h *hall) close() {
	h.end()
	h.live.Wait()
}

// states counts lanes by state.
func (h *hall) states() map[string]int {
	out := map[string]int{}
	for _, l := range h.Status().Lanes {
		out[l.State]++
	}
	return out
}
