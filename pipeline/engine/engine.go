// Package engine runs the hot path of one replica: it joins the consumer group, runs a lane for every partition it is
// given, follows the pipeline's desired state and bounds memory. It belongs to the process, not to whoever asked for
// it: it goes on until it is stopped or fenced for good.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/measure"
	"millrace/pipeline/profile"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// Config says what to run and on what. The first fields are required.
type Config struct {
	Spec    *spec.Spec
	Replica int           // from 0
	Kafka   source.Config // connections; the engine opens clients of its own
	Store   *store.Store
	Log     *slog.Logger

	// Journal of the process; a spec with lane.overflow journal needs one.
	Journal *journal.Journal
	// Route decides where commits go. Nil: Redis is always tried.
	Route deliver.Route
	// Announce is called for every batch of lanes that are to be recovered, on a goroutine of its own; nothing waits for
	// it. Its steps then wait TemporalWait for RecoverStep. Nil: every step runs at once.
	Announce func(report.RecoveryBatch)
	// Report is called when all lanes of a batch have resumed, parked or gone, on a goroutine of its own.
	Report func(report.RecoveryReport)
	// Wanted asks now whether the pipeline still is to run here, when Redis has forgotten its desired state. Nil: it always is.
	Wanted func(ctx context.Context) (bool, error)
	// Ordered is told the desired state whenever it was read, from the start on and then every second. Nil: nobody is.
	Ordered func(store.PipelineCtl)
	// Measure is told how old events are when Redis has them, and how long commits and recoveries take. Nil: nothing is measured.
	Measure *measure.Pipeline
	// Storm is from when on the recovery of new lanes is held back.
	Storm StormLimit
	// KeepFields says why lanes whose entries are fields stay so, "" when they may turn to pages because whoever may read them can
	// read pages. Nil: they may.
	KeepFields func() string
	// Tracing follows single records and recoveries. Nil: nothing is traced.
	Tracing *lane.Tracing
}

// ErrNoJournal means that the spec wants commits to overflow into a journal, and the worker has none.
var ErrNoJournal = errors.New("lane.overflow is journal, and this worker has no write-ahead log; give it a directory with --wal, or set lane.overflow to block")

// Group is the consumer group of a pipeline.
func Group(pipeline string) string { return "millrace." + pipeline }

// InstanceID is the static member id of a replica: a successor takes its member over without a rebalance.
func InstanceID(pipeline string, replica int) string { return fmt.Sprintf("%s-%d", pipeline, replica) }

// Engine is one running replica. All methods are safe for concurrent use.
type Engine struct {
	cfg        Config
	cluster    *source.Cluster
	producer   *source.Producer
	membership *source.Membership
	deps       lane.Deps
	started    time.Time

	cancel context.CancelFunc
	nudge  chan struct{}
	done   chan struct{}
	err    error // valid once done is closed

	recovery *recovery
	storms   *storms
	group    trouble
	ctlError atomic.Pointer[string]
	mu       sync.Mutex
	lanes    map[source.TopicPartition]*lane.Lane
}

// Start connects and begins. ctx bounds only the start; the engine runs until Stop, or until its group membership is
// fenced for good or its group was deleted. An error names what could not be reached.
func Start(ctx context.Context, cfg Config) (*Engine, error) {
	e := &Engine{
		cfg: cfg, started: time.Now(),
		nudge: make(chan struct{}, 1), done: make(chan struct{}),
		lanes:  make(map[source.TopicPartition]*lane.Lane),
		group:  trouble{log: cfg.Log, part: "consumer group"},
		storms: newStorms(&cfg),
	}
	e.recovery = newRecovery(&cfg, e.storms.current)
	if err := e.connect(ctx); err != nil {
		e.disconnect()
		return nil, fmt.Errorf("start replica %d of pipeline %s: %w", cfg.Replica, cfg.Spec.Name, err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	go e.run(running)
	return e, nil
}

func (e *Engine) connect(ctx context.Context) (err error) {
	if _, err = fold.Compile(e.cfg.Spec); err != nil {
		return err
	}
	if e.journals() && e.cfg.Journal == nil {
		return ErrNoJournal
	}
	if e.cluster, err = source.NewCluster(ctx, e.cfg.Kafka); err != nil {
		return err
	}
	if e.producer, err = source.NewProducer(ctx, e.cfg.Kafka); err != nil {
		return err
	}
	name := e.cfg.Spec.Name
	e.membership, err = source.NewMembership(source.MembershipConfig{
		Config: e.cfg.Kafka, Cluster: e.cluster, Group: Group(name),
		InstanceID: InstanceID(name, e.cfg.Replica), Topics: e.cfg.Spec.Source.Topics,
		OnTrouble: e.group.note,
	})
	if err != nil {
		return err
	}
	e.deps = lane.Deps{
		Store: e.cfg.Store, Side: e.producer, Cluster: e.cluster, Ledger: ledgerReader{e.cluster}, Group: Group(name), Log: e.cfg.Log,
		Budget: lane.NewBudget(e.cfg.Spec.Lane.MemoryLimit), Desired: lane.NewDesired(), Gate: e.recovery,
		Wanted: e.cfg.Wanted, Measure: e.cfg.Measure, Tracing: e.cfg.Tracing, KeepFields: e.cfg.KeepFields,
		Open: func(cfg source.ReaderConfig) source.Reader {
			cfg.Cluster = e.cluster
			reader := &trouble{log: e.cfg.Log, part: fmt.Sprintf("reader of %s/%d", cfg.Topic, cfg.Partition)}
			cfg.OnTrouble = reader.note
			return source.OpenReader(cfg)
		},
	}
	if e.deps.Route = e.cfg.Route; e.journals() {
		e.deps.Journal = e.cfg.Journal
	}
	return e.follow(ctx)
}

func (e *Engine) journals() bool { return e.cfg.Spec.Lane.Overflow == spec.OverflowJournal }

func (e *Engine) disconnect() {
	if e.producer != nil {
		e.producer.Close()
	}
	if e.cluster != nil {
		e.cluster.Close()
	}
}

func (e *Engine) run(ctx context.Context) {
	profile.Set(profile.OfPipeline(profile.Replica, e.cfg.Spec.Name))
	defer close(e.done)
	defer e.disconnect()
	var side sync.WaitGroup
	side.Go(func() { e.poll(ctx) })
	side.Go(func() { e.review(ctx) })
	err := e.membership.Run(ctx, e)
	e.cancel()
	side.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		e.err = err
		e.cfg.Log.ErrorContext(ctx, "replica ended", "pipeline", e.cfg.Spec.Name, "replica", e.cfg.Replica, "error", err)
	}
}

// Own runs one lane as long as the claim is ours. It implements source.Handler.
func (e *Engine) Own(ctx context.Context, claim source.Claim) {
	tp := source.TopicPartition{Topic: claim.Topic(), Partition: claim.Partition()}
	defer e.forget(tp)
	profile.Set(profile.OfLane(profile.Lane, e.cfg.Spec.Name, tp.Topic, tp.Partition))
	program, err := fold.Compile(e.cfg.Spec)
	if err != nil {
		e.cfg.Log.ErrorContext(ctx, "lane cannot run", "lane", tp.String(), "error", err)
		<-ctx.Done()
		return
	}
	for delay := e.storms.claimed(); ctx.Err() == nil; delay = 0 {
		l := lane.New(&e.deps, program, claim)
		e.remember(tp, l)
		if delay > 0 {
			l.Waits(fmt.Sprintf("rebalance storm: recovery held back for %s", delay))
			wait(ctx, delay)
		}
		err := l.Run(ctx)
		if ctx.Err() != nil {
			if err != nil {
				e.cfg.Log.WarnContext(ctx, "lane released with commits open", "lane", tp.String(), "error", err)
			}
			return
		}
		if errors.Is(err, store.ErrFenced) && !e.stillOurs(ctx, claim) {
			e.cfg.Log.InfoContext(ctx, "lane was taken over", "lane", tp.String())
			<-ctx.Done()
			return
		}
		e.cfg.Log.WarnContext(ctx, "lane starts again", "lane", tp.String(), "error", err)
		wait(ctx, 100*time.Millisecond)
	}
}

// stillOurs asks the coordinator until it answers or the claim ends.
func (e *Engine) stillOurs(ctx context.Context, claim source.Claim) bool {
	for ctx.Err() == nil {
		if assigned, err := claim.StillAssigned(ctx); err == nil {
			return assigned
		}
		wait(ctx, 500*time.Millisecond)
	}
	return false
}

func (e *Engine) remember(tp source.TopicPartition, l *lane.Lane) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lanes[tp] = l
}

func (e *Engine) forget(tp source.TopicPartition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.lanes, tp)
}

// ErrNoLane means a lane does not run here.
var ErrNoLane = errors.New("lane does not run here")

// Decide answers the incident of a parked lane, named as topic/partition or pipeline/topic/partition. incident is the
// incident's id or the lane's owner token. Repeating a decision changes nothing. Errors: ErrNoLane, and those of
// lane.Lane.Decide: lane.ErrNotParked, ErrOtherIncident, ErrUnknownChoice (names the valid ones), ErrDecided.
func (e *Engine) Decide(_ context.Context, name, incident, choice, by string) error {
	e.mu.Lock()
	var found *lane.Lane
	for tp, l := range e.lanes {
		if name == tp.String() || name == l.ID().String() {
			found = l
		}
	}
	e.mu.Unlock()
	if found == nil {
		return ErrNoLane
	}
	return found.Decide(incident, choice, by)
}

// Nudge makes the engine read the desired state now instead of within a second.
func (e *Engine) Nudge() {
	select {
	case e.nudge <- struct{}{}:
	default:
	}
}

// poll follows the pipeline's desired state. Redis being away changes nothing: the last state holds.
func (e *Engine) poll(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-e.nudge:
		}
		if err := e.follow(ctx); err != nil && ctx.Err() == nil {
			text := err.Error()
			e.ctlError.Store(&text)
		} else {
			e.ctlError.Store(nil)
		}
	}
}

func (e *Engine) follow(ctx context.Context) error {
	ctl, err := e.cfg.Store.PipelineCtl(ctx, e.cfg.Spec.Name)
	if err != nil {
		return fmt.Errorf("read the desired state of pipeline %s: %w", e.cfg.Spec.Name, err)
	}
	e.deps.Desired.Set(ctl)
	if e.cfg.Ordered != nil {
		e.cfg.Ordered(ctl)
	}
	return nil
}

func (e *Engine) review(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.deps.Budget.Review()
		}
	}
}

// Stop commits and releases every lane and ends. It returns when nothing runs any more, or when ctx ends first. It is
// idempotent. The group membership stays: a successor takes it over, or RemoveMember ends it.
func (e *Engine) Stop(ctx context.Context) error {
	e.cancel()
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop replica %d of pipeline %s: %w", e.cfg.Replica, e.cfg.Spec.Name, ctx.Err())
	}
}

// Done is closed when the engine has ended.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Err tells, after Done, why the engine ended by itself: source.ErrFencedInstance and source.ErrGroupGone are final. It is nil
// after Stop.
func (e *Engine) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
