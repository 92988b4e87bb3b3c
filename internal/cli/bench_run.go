package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// benchRun is one benchmark on connected servers.
type benchRun struct {
	srv    *servers
	load   benchLoad
	spec   *spec.Spec
	out    io.Writer // progress and notices
	topics []string
}

// benchSpec is the pipeline that is measured.
func benchSpec(name string) string {
	return fmt.Sprintf(`
name: %[1]s
source: {topics: [%[1]s]}
event: {key: [user], time: {field: at, unit: ms}}
aggregates:
  events: {func: count}
  total:  {func: sum, field: amount, type: int}
  peak:   {func: max, field: amount}
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 1m}
results: {kafka: {topic: %[1]s.windows}}
`, name)
}

func newBenchRun(ctx context.Context, out io.Writer, srv *servers, load benchLoad) (*benchRun, error) {
	var id [4]byte
	rand.Read(id[:])
	name := "bench-" + hex.EncodeToString(id[:])
	s, err := spec.Parse("bench.yaml", []byte(benchSpec(name)))
	if err != nil {
		return nil, err
	}
	if load.lane != "" {
		other, err := readSpec(load.lane)
		if err != nil {
			return nil, err
		}
		s.Lane = other.Lane
	}
	r := &benchRun{srv: srv, load: load, spec: s, out: out}
	for _, t := range []source.TopicSpec{
		{Name: name, Partitions: load.partitions},
		{Name: s.Results.Kafka.Topic, Partitions: load.partitions},
		{Name: ledger.Topic(name), Partitions: ledger.DefaultSlots, Compacted: true},
	} {
		if _, err := srv.cluster.EnsureTopic(ctx, t); err != nil {
			r.cleanUp()
			return nil, reached(ctx, err)
		}
		r.topics = append(r.topics, t.Name)
	}
	return r, nil
}

// measure fills the topic and m. The bare consumer runs before and after the pipeline; the better time counts.
func (r *benchRun) measure(ctx context.Context, m *measured) error {
	if err := r.fill(ctx); err != nil {
		return err
	}
	r.say("reading %d records with a bare consumer", r.load.records)
	bare, err := r.bare(ctx)
	if err != nil {
		return err
	}
	r.say("running the pipeline")
	if err := r.profiled(func() error { return r.pipeline(ctx, m) }); err != nil {
		return err
	}
	r.say("reading with a bare consumer again")
	again, err := r.bare(ctx)
	if err != nil {
		return err
	}
	if again.elapsed < bare.elapsed {
		bare = again
	}
	n := float64(r.load.records)
	m.BarePerSecond = n / bare.elapsed.Seconds()
	m.BareCPUPerEvent = float64(bare.cpu) / n
	m.Ratio = m.PipelinePerSecond / m.BarePerSecond
	m.AllocsPerEvent, m.LaneNsPerEvent, err = benchLane(r.spec, newBenchSource(r.load))
	return err
}

// profiled runs fn, under the CPU profiler if a profile was asked for.
func (r *benchRun) profiled(fn func() error) error {
	if r.load.profile == "" {
		return fn()
	}
	f, err := os.Create(r.load.profile)
	if err != nil {
		return fmt.Errorf("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(fmt.Errorf("--cpuprofile: %w", err), f.Close())
	}
	err = fn()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}

func (r *benchRun) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

func (r *benchRun) fill(ctx context.Context) error {
	producer, err := source.NewProducer(ctx, r.srv.kafka)
	if err != nil {
		return reached(ctx, err)
	}
	defer closing(producer)
	r.say("producing %d records with %d keys to %d partitions", r.load.records, r.load.keys, r.load.partitions)
	line := newProgress(r.out, "producing")
	defer line.End()
	gen := newBenchSource(r.load)
	_, err = producer.Feed(ctx, r.spec.Source.Topics[0], gen.next, func(p source.FeedProgress) {
		line.Update(p.Records, float64(p.Records)/float64(r.load.records))
	})
	return err
}

// cost is what something took.
type cost struct{ elapsed, cpu time.Duration }

// stopwatch measures wall-clock and CPU time of this process.
type stopwatch struct {
	at  time.Time
	cpu time.Duration
}

func startWatch() stopwatch { return stopwatch{time.Now(), cpuTime()} }

func (s stopwatch) stop() cost { return cost{time.Since(s.at), cpuTime() - s.cpu} }

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bare reads every partition to its end and throws everything away.
func (r *benchRun) bare(ctx context.Context) (cost, error) {
	client, err := source.NewClient(ctx, r.srv.kafka)
	if err != nil {
		return cost{}, reached(ctx, err)
	}
	defer closing(client)
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return cost{}, err
	}
	defer closing(consumer)
	topic := r.spec.Source.Topics[0]
	watch := startWatch()
	group, ctx := errgroup.WithContext(ctx)
	for p := range r.load.partitions {
		end := r.load.records / int64(r.load.partitions)
		if int64(p) < r.load.records%int64(r.load.partitions) {
			end++
		}
		if end == 0 {
			continue
		}
		pc, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		if err != nil {
			return cost{}, fmt.Errorf("consume %s/%d: %w", topic, p, err)
		}
		group.Go(func() error {
			defer pc.AsyncClose()
			for {
				select {
				case msg := <-pc.Messages():
					if msg.Offset+1 >= end {
						return nil
					}
				case err := <-pc.Errors():
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
	}
	err = group.Wait()
	return watch.stop(), err
}

// pipeline runs a replica with a closer until everything is committed. The clock starts when the first lane is owned:
// joining a consumer group takes its seconds once, not per event.
func (r *benchRun) pipeline(ctx context.Context, m *measured) error {
	replica, err := engine.Start(ctx, engine.Config{
		Spec: r.spec, Kafka: r.srv.kafka, Store: r.srv.store, Log: slog.New(slog.DiscardHandler),
		Measure: r.load.measure.Pipeline(r.spec.Name),
	})
	if err != nil {
		return reached(ctx, err)
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = replica.Stop(stopping)
		_ = r.srv.cluster.RemoveMember(stopping, engine.Group(r.spec.Name), engine.InstanceID(r.spec.Name, 0))
	}()
	closer, err := result.NewCloser(result.Config{
		Spec: r.spec, State: r.srv.store, Kafka: publish.NewClient(r.srv.kafka, r.srv.cluster, r.spec.Name), By: "bench",
		Measure: r.load.measure.Pipeline(r.spec.Name),
	})
	if err != nil {
		return err
	}
	defer closing(closer)
	if err := r.await(ctx, replica, time.Millisecond, func(engine.Status) bool { return r.anyOwned(ctx) }); err != nil {
		return err
	}
	watch := startWatch()
	rounds, stop := context.WithCancel(ctx)
	closed := make(chan error, 1)
	go func() { closed <- closeRounds(rounds, closer, m) }()
	line := newProgress(r.out, "pipeline")
	err = r.await(ctx, replica, 5*time.Millisecond, func(s engine.Status) bool {
		read, committed := int64(0), int64(0)
		for i := range s.Lanes {
			read += s.Lanes[i].Counters.Read
			committed += max(0, s.Lanes[i].Committed)
		}
		line.Update(read, float64(read)/float64(r.load.records))
		return committed >= r.load.records
	})
	spent := watch.stop()
	line.End()
	stop()
	if failed := <-closed; err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	n, fields := float64(r.load.records), int64(0)
	status := replica.Status()
	for i := range status.Lanes {
		fields += status.Lanes[i].Written
		m.LongestCommitGap = max(m.LongestCommitGap, status.Lanes[i].GapMs)
	}
	m.PipelinePerSecond = n / spent.elapsed.Seconds()
	m.CPUPerEvent = float64(spent.cpu) / n
	m.FieldsPerSecond = float64(fields) / spent.elapsed.Seconds()
	m.FieldsPerEvent = float64(fields) / n
	return nil
}

// anyOwned asks Redis: what lanes say of themselves is up to a second old.
func (r *benchRun) anyOwned(ctx context.Context) bool {
	for p := range r.load.partitions {
		id := store.LaneID{Pipeline: r.spec.Name, Topic: r.spec.Source.Topics[0], Partition: p}
		if _, found, err := r.srv.store.ReadMeta(ctx, id); err == nil && found {
			return true
		}
	}
	return false
}

// await polls the replica until ok, its end or the context's.
func (r *benchRun) await(ctx context.Context, replica *engine.Engine, every time.Duration, ok func(engine.Status) bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		status := replica.Status()
		if ok(status) {
			return nil
		}
		for i := range status.Lanes {
			if l := &status.Lanes[i]; l.State == lane.StateParked && l.Incident != nil {
				return fmt.Errorf("lane %s/%d is parked: %s", l.Topic, l.Partition, l.Reason)
			}
		}
		select {
		case <-tick.C:
		case <-replica.Done():
			return fmt.Errorf("the pipeline ended: %w", replica.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closeRounds closes what is due every second, as the CloseWindows workflow's activity does.
func closeRounds(ctx context.Context, closer *result.Closer, m *measured) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		report, err := closer.Round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !result.Waits(err) {
			return fmt.Errorf("close windows: %w", err)
		}
		for _, c := range report.Closed {
			m.Windows++
			m.Rows += c.Keys
		}
		for _, t := range report.Incidents {
			return errors.New(t.Problem)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// cleanUp deletes the topics and what the pipeline left in Redis.
func (r *benchRun) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.deleteTopics(); err != nil {
		r.say("topics of %s are left behind: %v", r.spec.Name, err)
	}
	if err := forget(ctx, r.srv.redis, r.spec.Name); err != nil {
		r.say("keys of %s are left behind: %v", r.spec.Name, err)
	}
}

func (r *benchRun) deleteTopics() error {
	conf, err := source.NewConfig(r.srv.kafka)
	if err != nil {
		return err
	}
	conf.Metadata.Full = true // an admin client refuses to start without
	admin, err := sarama.NewClusterAdmin(r.srv.kafka.Brokers, conf)
	if err != nil {
		return err
	}
	defer closing(admin)
	var errs []error
	for _, topic := range r.topics {
		errs = append(errs, admin.DeleteTopic(topic))
	}
	return errors.Join(errs...)
}

// forget removes every key of a pipeline. Nobody may be using it.
func forget(ctx context.Context, client redis.UniversalClient, pipeline string) error {
	node := func(ctx context.Context, c *redis.Client) error {
		keys := c.Scan(ctx, 0, "mr:{"+pipeline+"[/}]*", 1000).Iterator()
		for keys.Next(ctx) {
			if err := c.Unlink(ctx, keys.Val()).Err(); err != nil {
				return err
			}
		}
		return keys.Err()
	}
	switch c := client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, node)
	case *redis.Client:
		return node(ctx, c)
	}
	return fmt.Errorf("unknown client %T", client)
}
