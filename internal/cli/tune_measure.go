package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/internal/tune"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Bounds of a measurement.
const (
	tunePings  = 200
	tuneTurns  = 3
	tunePhase  = 250 * time.Millisecond // of each number of lanes, and of each size of calls
	tuneFields = 4096                   // in a commit
)

var (
	tuneChunks  = []int{128, 256, 512, 1024, 2048}
	tuneLanes   = []int{1, 2, 4, 8, 16}
	tuneFetches = []int{256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20}
)

// tuning is one measurement on connected servers.
type tuning struct {
	*benchRun
	m *tune.Measured
}

// measureServers fills m. Everything that it writes is its own, and is removed at its end.
func measureServers(ctx context.Context, out io.Writer, srv *servers, s *spec.Spec, load tuneLoad, m *tune.Measured) error {
	var id [4]byte
	rand.Read(id[:])
	work := hourly(load.records, int64(load.keys), 1)
	name := "tune-" + hex.EncodeToString(id[:])
	own, err := spec.Parse("tune.yaml", []byte(work.spec(name)))
	if err != nil {
		return err
	}
	own.Lane = s.Lane
	t := &tuning{m: m, benchRun: &benchRun{
		srv: srv, spec: own, out: out, load: benchLoad{workload: work},
	}}
	t.say("tune writes %d records to the topic %s and reads them again, and writes to Redis keys mr:{%s/...}; it removes both at its end",
		load.records, name, name)
	if _, err := srv.cluster.EnsureTopic(ctx, source.TopicSpec{Name: name, Partitions: 1}); err != nil {
		return reached(ctx, err)
	}
	t.topics = []string{name}
	defer t.cleanUp()
	if err := t.measureRedis(ctx); err != nil {
		return reached(ctx, err)
	}
	if err := t.measureKafka(ctx); err != nil {
		return reached(ctx, err)
	}
	_, perEvent, err := benchLane(own, hourly(min(load.records, 300_000), t.load.keys, 1))
	m.EventTime = time.Duration(perEvent)
	return err
}

func (t *tuning) measureRedis(ctx context.Context) (err error) {
	redis := &t.m.Redis
	if redis.RoundTrip, err = timedMedian(tunePings, func() error { return t.srv.redis.Ping(ctx).Err() }); err != nil {
		return err
	}
	// In turns, and the best of them: what else the machine does slows some.
	redis.Chunks, redis.Loads = make([]tune.Chunk, len(tuneChunks)), make([]tune.Load, len(tuneLanes))
	for turn := range tuneTurns {
		t.say("Redis: a lane commits in calls of %d to %d fields, then %d to %d lanes at one time (%d of %d)", tuneChunks[0],
			tuneChunks[len(tuneChunks)-1], tuneLanes[0], tuneLanes[len(tuneLanes)-1], turn+1, tuneTurns)
		for i, chunk := range tuneChunks {
			load, err := t.commitLanes(ctx, 1, chunk)
			if err != nil {
				return err
			}
			if load.Fields > redis.Chunks[i].PerSecond {
				redis.Chunks[i] = tune.Chunk{Fields: chunk, PerSecond: load.Fields, Call: load.Service}
			}
		}
		for i, lanes := range tuneLanes {
			load, err := t.commitLanes(ctx, lanes, t.spec.Lane.ChunkFields)
			if err != nil {
				return err
			}
			if load.Fields > redis.Loads[i].Fields {
				redis.Loads[i] = load
			}
		}
	}
	return nil
}

// commitLanes has lanes commit for a while, each one commit after the other.
func (t *tuning) commitLanes(ctx context.Context, lanes, chunk int) (tune.Load, error) {
	s := *t.spec
	s.Lane.ChunkFields = chunk
	work := make([]*tuneLane, lanes)
	for i := range work {
		l, err := newTuneLane(ctx, t.srv.store, &s, int32(i))
		if err != nil {
			return tune.Load{}, err
		}
		work[i] = l
	}
	began := time.Now()
	group, inner := errgroup.WithContext(ctx)
	for _, l := range work {
		group.Go(func() error {
			for time.Since(began) < tunePhase {
				if err := l.commit(inner); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return tune.Load{}, err
	}
	took := time.Since(began)
	calls, fields := 0, 0
	for _, l := range work {
		calls, fields = calls+l.calls, fields+l.fields
	}
	return tune.Load{
		Lanes: lanes, Calls: float64(calls) / took.Seconds(), Fields: float64(fields) / took.Seconds(),
		Service: time.Duration(float64(lanes) * float64(took) / float64(calls)),
	}, nil
}

// tuneLane commits the same entries over and over, as a lane does whose keys all change within an interval.
type tuneLane struct {
	store  *store.Store
	state  *fold.State
	id     store.LaneID
	spec   string // the state's id
	owner  store.Token
	buffer fold.Commit
	batch  source.Batch
	calls  int
	fields int
}

func newTuneLane(ctx context.Context, st *store.Store, s *spec.Spec, partition int32) (*tuneLane, error) {
	program, err := fold.Compile(s)
	if err != nil {
		return nil, err
	}
	l := &tuneLane{store: st, id: store.LaneID{Pipeline: s.Name, Topic: s.Name, Partition: partition}, spec: program.StateID}
	before, _, err := st.ReadMeta(ctx, l.id)
	if err != nil {
		return nil, err
	}
	l.owner = store.NextToken(before.Owner)
	meta, _, err := st.Acquire(ctx, l.id, l.spec, before.Owner, l.owner)
	if err != nil {
		return nil, err
	}
	l.state = fold.NewState(program, l.id, "", 0, meta.Cursor)
	for k := range tuneFields {
		// All lanes that follow one another write to one slice: a second one would be news to the next of them.
		value := fmt.Appendf(nil, `{"at":%d,"user":"user-%d","amount":%d}`, benchStart, 1_000_000_000+k, k)
		l.batch.Records = append(l.batch.Records, source.Record{Timestamp: time.Now().UnixMilli(), Value: value})
	}
	return l, nil
}

func (l *tuneLane) commit(ctx context.Context) error {
	next := l.state.Offset()
	for i := range l.batch.Records {
		l.batch.Records[i].Offset = next + int64(i)
	}
	l.batch.Next = next + int64(len(l.batch.Records))
	l.state.Fold(&l.batch)
	c := &l.buffer
	l.state.Snapshot(c, fold.Control{SealBefore: window.NoTime, DropBefore: window.NoTime, IdleAt: store.NotIdle})
	if _, err := l.store.Apply(ctx, l.id, l.spec, l.owner, c.Calls); err != nil {
		return err
	}
	l.calls, l.fields = l.calls+len(c.Calls), l.fields+c.Entries
	l.state.Acknowledged(c)
	return nil
}

func (t *tuning) measureKafka(ctx context.Context) error {
	if err := t.fill(ctx); err != nil {
		return err
	}
	kafka := &t.m.Kafka
	_, value, err := newBenchSource(t.load.workload, 0).next()
	if err != nil {
		return err
	}
	kafka.Bytes = float64(len(value)) + recordOverhead
	kafka.Fetches = make([]tune.Fetch, len(tuneFetches))
	for turn := range tuneTurns {
		t.say("Kafka: a reader fetches %s to %s at a time (%d of %d)", tune.Bytes(int64(tuneFetches[0])),
			tune.Bytes(int64(tuneFetches[len(tuneFetches)-1])), turn+1, tuneTurns)
		for i, size := range tuneFetches {
			rate, err := t.readAll(ctx, size)
			if err != nil {
				return err
			}
			kafka.Fetches[i] = tune.Fetch{Bytes: size, PerSecond: max(rate, kafka.Fetches[i].PerSecond)}
		}
	}
	kafka.RoundTrip, err = timedMedian(tuneOpens, func() error { return t.readOne(ctx) })
	return err
}

const (
	recordOverhead = 10 // bytes that Kafka adds to a record of a large batch
	tuneOpens      = 15 // readers that are opened for the time of a fetch
)

// open opens a reader of the topic.
func (t *tuning) open(offset int64, size int) source.Reader {
	return source.OpenReader(source.ReaderConfig{
		Cluster: t.srv.cluster, Topic: t.topics[0], Offset: offset, FetchBytes: size, FetchBatches: t.spec.Lane.FetchBatches,
	})
}

// readAll reads the whole topic and returns records a second.
func (t *tuning) readAll(ctx context.Context, size int) (float64, error) {
	r := t.open(0, size)
	defer r.Close()
	began, read := time.Now(), int64(0)
	for read < t.load.records {
		b, err := nextBatch(ctx, r)
		if err != nil {
			return 0, err
		}
		read += int64(len(b.Records))
		b.Release()
	}
	return float64(read) / time.Since(began).Seconds(), nil
}

// readOne fetches the last record: what comes with a fetch hardly counts.
func (t *tuning) readOne(ctx context.Context) error {
	r := t.open(t.load.records-1, 1)
	defer r.Close()
	b, err := nextBatch(ctx, r)
	b.Release()
	return err
}

func nextBatch(ctx context.Context, r source.Reader) (source.Batch, error) {
	select {
	case b, ok := <-r.Batches():
		if !ok {
			return b, fmt.Errorf("read the topic of the measurement: %w", r.Err())
		}
		return b, nil
	case <-ctx.Done():
		return source.Batch{}, ctx.Err()
	}
}

// median sorts its argument.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
