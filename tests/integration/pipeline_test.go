package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/tests/oracle"
)

// pipeline is one pipeline with a name and topics of its own, and a record of everything it was fed.
type pipeline struct {
	*world
	spec  *spec.Spec
	yaml  []byte // as written, for the oracle
	file  string // as run
	parts int32
	fed   []oracle.Lane
	lines [][]byte // of it, those that were fed round-robin
}

// newPipeline makes the pipeline's source topic. Names in the text become unique.
func (w *world) newPipeline(yaml string, partitions int32, change ...func(*spec.Spec)) *pipeline {
	w.t.Helper()
	sp, err := spec.Parse("test.yaml", []byte(yaml))
	require.NoError(w.t, err)
	suffix := fmt.Sprintf("-%08x", rand.Uint32())
	sp.Name += suffix
	require.Len(w.t, sp.Source.Topics, 1)
	sp.Source.Topics[0] += suffix
	for _, sink := range []*spec.Sink{&sp.Results, &sp.Late, &sp.DeadLetter} {
		if sink.Kafka != nil {
			sink.Kafka = &spec.KafkaSink{Topic: sink.Kafka.Topic + suffix}
		}
	}
	for _, c := range change {
		c(sp)
	}
	p := &pipeline{world: w, spec: sp, yaml: []byte(yaml), parts: partitions}
	text, err := sp.JSON()
	require.NoError(w.t, err)
	p.file = filepath.Join(w.t.TempDir(), "spec.json")
	require.NoError(w.t, os.WriteFile(p.file, text, 0o644))
	for n := range partitions {
		p.fed = append(p.fed, oracle.Lane{Topic: sp.Source.Topics[0], Partition: n})
	}
	if partitions > 0 {
		_, err = w.cluster.EnsureTopic(context.Background(), source.TopicSpec{Name: sp.Source.Topics[0], Partitions: partitions})
		require.NoError(w.t, err)
	}
	return p
}

func (p *pipeline) topic() string { return p.spec.Source.Topics[0] }

// start starts the pipeline as a user would.
func (p *pipeline) start() { p.t.Helper(); p.must("start", p.file) }

// remember keeps what goes to a partition, for the oracle.
func (p *pipeline) remember(partition int32, timestamp int64, value []byte) {
	lane := &p.fed[partition]
	lane.Records = append(lane.Records, oracle.Record{Offset: int64(len(lane.Records)), Timestamp: timestamp, Value: value})
}

// feed sends lines round-robin with `millrace feed`.
func (p *pipeline) feed(lines [][]byte) {
	p.t.Helper()
	require.Zero(p.t, len(p.lines)%int(p.parts), "a feed begins at partition 0")
	name := filepath.Join(p.t.TempDir(), "lines.jsonl")
	f, err := os.Create(name)
	require.NoError(p.t, err)
	now := time.Now().UnixMilli()
	for i, line := range lines {
		_, err := f.Write(append(line, '\n'))
		require.NoError(p.t, err)
		p.remember(int32(i)%p.parts, now, line)
	}
	require.NoError(p.t, f.Close())
	p.lines = append(p.lines, lines...)
	p.must("feed", name, "--topic", p.topic())
}

// send sends records to one partition and returns when they are acknowledged.
func (p *pipeline) send(partition int32, values ...[]byte) {
	p.t.Helper()
	now := time.Now()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: p.topic(), Partition: partition, Value: v, Timestamp: now}
		p.remember(partition, now.UnixMilli(), v)
	}
	require.NoError(p.t, p.raw.ProduceSync(context.Background(), records...).FirstErr())
}

// trickle is a feed at a steady pace that goes on beside the test.
type trickle struct {
	p     *pipeline
	done  chan struct{}
	hurry chan struct{} // closed: as fast as possible
	err   error         // valid once done is closed
}

// trickle sends lines round-robin, so many per second.
func (p *pipeline) trickle(lines [][]byte, perSecond int) *trickle {
	p.t.Helper()
	f := &trickle{p: p, done: make(chan struct{}), hurry: make(chan struct{})}
	now := time.Now()
	for i, line := range lines {
		p.remember(int32(i)%p.parts, now.UnixMilli(), line)
	}
	p.lines = append(p.lines, lines...)
	go func() {
		defer close(f.done)
		f.err = f.run(lines, max(1, perSecond/50), now)
	}()
	p.t.Cleanup(func() { f.finish() })
	return f
}

func (f *trickle) run(lines [][]byte, burst int, now time.Time) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	for i, line := range lines {
		if i%burst == 0 {
			select {
			case <-tick.C:
			case <-f.hurry:
			}
		}
		r := &kgo.Record{Topic: f.p.topic(), Partition: int32(i) % f.p.parts, Value: line, Timestamp: now}
		f.p.raw.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(err)
			}
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := f.p.raw.Flush(ctx); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// going tells whether there is still something to send.
func (f *trickle) going() bool {
	select {
	case <-f.done:
		return false
	default:
		return true
	}
}

// finish sends the rest at once and waits until all of it is acknowledged.
func (f *trickle) finish() {
	select {
	case <-f.hurry:
	default:
		close(f.hurry)
	}
	<-f.done
	require.NoError(f.p.t, f.err)
}

// total is the number of records fed.
func (p *pipeline) total() int64 {
	n := 0
	for _, lane := range p.fed {
		n += len(lane.Records)
	}
	return int64(n)
}

func (p *pipeline) lane(partition int32) store.LaneID {
	return store.LaneID{Pipeline: p.spec.Name, Topic: p.topic(), Partition: partition}
}

// meta reads what is durable about a lane; found is false also while Redis does not answer.
func (p *pipeline) meta(partition int32) (m store.Meta, found bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	m, found, err := p.store.ReadMeta(ctx, p.lane(partition))
	return m, found && err == nil
}

// committed is the sum of all lanes' committed offsets; -1 when it cannot be told.
func (p *pipeline) committed() int64 {
	sum := int64(0)
	for n := range p.parts {
		m, found := p.meta(n)
		if !found {
			return -1
		}
		sum += max(0, m.Offset)
	}
	return sum
}

// owners are the tokens of all lanes.
func (p *pipeline) owners() []store.Token {
	owners := make([]store.Token, p.parts)
	for n := range p.parts {
		m, _ := p.meta(n)
		owners[n] = m.Owner
	}
	return owners
}

// reach waits until so many records are committed.
func (p *pipeline) reach(records int64) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%d records committed", records), patience, func() bool { return p.committed() >= records })
}

// commits waits until every lane has made n more commits, signs of life among them.
func (p *pipeline) commits(n int64) {
	p.t.Helper()
	before := make([]store.Meta, p.parts)
	for i := range p.parts {
		before[i], _ = p.meta(i)
	}
	eventually(p.t, fmt.Sprintf("%d commits of every lane", n), patience, func() bool {
		for i := range p.parts {
			if m, found := p.meta(i); !found || m.Cursor.Seq < before[i].Cursor.Seq+n {
				return false
			}
		}
		return true
	})
}

// laneLine is what status says about a lane.
type laneLine struct {
	Partition int32  `json:"partition"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Offset    int64  `json:"offset"`
	Idle      bool   `json:"idle"`
	Lag       int64  `json:"lag"`
}

type statusLine struct {
	State    string                `json:"state"`
	Note     string                `json:"note"`
	Replicas int                   `json:"replicas"`
	Children []contract.ChildState `json:"children"`
	Lag      int64                 `json:"lag"`
	Lanes    []laneLine            `json:"lanes"`
}

func (p *pipeline) status() statusLine {
	p.t.Helper()
	var s statusLine
	p.decode(p.must("status", p.spec.Name, "--json").out, &s)
	return s
}

func (p *pipeline) decode(text string, into any) {
	p.t.Helper()
	require.NoError(p.t, json.Unmarshal([]byte(text), into), "%s", text)
}

// replica asks a replica's workflow where its hot path is.
func (p *pipeline) replica(n int) contract.ReplicaStatus {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var s contract.ReplicaStatus
	answer, err := p.client.QueryWorkflow(ctx, contract.ReplicaID(p.spec.Name, n), "", contract.QueryStatus)
	if err == nil {
		require.NoError(p.t, answer.Get(&s))
	}
	return s
}

// holder is the name of the worker that a replica runs on now, "" while it runs nowhere.
func (p *pipeline) holder(n int) string {
	s := p.replica(n)
	if last := len(s.Placements) - 1; last >= 0 && s.State == contract.ChildPlaced && s.Placements[last].Ended == "" {
		return s.Placements[last].Worker
	}
	return ""
}

// update sends one of the updates and wants it to succeed.
func (p *pipeline) update(args ...string) contract.Receipt {
	p.t.Helper()
	var r contract.Receipt
	p.decode(p.must(append(args, "--json")...).out, &r)
	return r
}

// drain stops the pipeline after everything was read and published.
func (p *pipeline) drain() contract.Receipt {
	p.t.Helper()
	r := p.update("stop", p.spec.Name, "--drain")
	require.NotNil(p.t, r.Drained)
	require.True(p.t, *r.Drained)
	require.NotNil(p.t, r.Emitted)
	for _, c := range r.Emitted.Covered {
		require.Equal(p.t, int64(len(p.fed[c.Partition].Records)), c.Offset, "partition %d", c.Partition)
	}
	return r
}
