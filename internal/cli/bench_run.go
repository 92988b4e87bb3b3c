package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"time"

	"github.com/IBM/sarama"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// benchRun is one benchmark on connected servers.
type benchRun struct {
	srv    *servers
	load   benchLoad
	spec   *spec.Spec
	out    io.Writer // progress and notices
	topics []string
}

func newBenchRun(ctx context.Context, out io.Writer, srv *servers, load benchLoad) (*benchRun, error) {
	var id [4]byte
	rand.Read(id[:])
	name := "bench-" + hex.EncodeToString(id[:])
	s, err := spec.Parse("bench.yaml", []byte(load.spec(name)))
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
	topics := []source.TopicSpec{
		{Name: name, Partitions: load.partitions},
		{Name: s.Results.Kafka.Topic, Partitions: load.partitions},
		{Name: ledger.Topic(name), Partitions: ledger.DefaultSlots, Compacted: true},
	}
	if load.topic != "" {
		s.Source.Topics, topics = []string{load.topic}, topics[1:]
	}
	for _, t := range topics {
		if _, err := srv.cluster.EnsureTopic(ctx, t); err != nil {
			r.cleanUp()
			return nil, reached(ctx, err)
		}
		r.topics = append(r.topics, t.Name)
	}
	return r, nil
}

// measure fills m. The bare consumer runs before and after the pipeline; the better time counts. On a topic that was filled before
// the pipeline alone is measured.
func (r *benchRun) measure(ctx context.Context, m *measured) error {
	if r.load.topic != "" {
		if err := r.checkFilled(ctx); err != nil {
			return err
		}
		return r.measurePipeline(ctx, m)
	}
	if err := r.fill(ctx); err != nil {
		return err
	}
	r.say("reading %d records with a bare consumer", r.load.records)
	bare, err := r.bare(ctx)
	if err != nil {
		return err
	}
	if err := r.measurePipeline(ctx, m); err != nil {
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
	perSecond, cpu := n/bare.elapsed.Seconds(), float64(bare.cpu)/n
	ratio := m.PipelinePerSecond / perSecond
	m.BarePerSecond, m.BareCPUPerEvent, m.Ratio = &perSecond, &cpu, &ratio
	allocs, ns, err := benchLane(r.spec, r.load.workload)
	m.AllocsPerEvent, m.LaneNsPerEvent = &allocs, &ns
	return err
}

// measurePipeline runs the pipeline and compares what it published with the records.
func (r *benchRun) measurePipeline(ctx context.Context, m *measured) error {
	r.say("running the pipeline")
	if err := r.profiled(func() error { return r.pipeline(ctx, m) }); err != nil {
		return err
	}
	r.say("comparing the rows with the records")
	var err error
	if m.Rows, err = r.checkResults(ctx); err != nil {
		return err
	}
	m.PipelinePerSecond, m.CPUPerEvent = m.Committed.EventsPerSecond, m.Committed.CPU.Engine
	m.RowsPerSecond = float64(m.Rows) / m.Published.Seconds
	return nil
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

// fill produces the workload's records to the topic that the pipeline reads.
func (r *benchRun) fill(ctx context.Context) error {
	r.say("producing %d records with %d keys to %d partitions", r.load.records, r.load.keys, r.load.partitions)
	return fillTopic(ctx, r.srv, r.out, r.spec.Source.Topics[0], &r.load.workload)
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
		end := r.load.topicEnd(p)
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
