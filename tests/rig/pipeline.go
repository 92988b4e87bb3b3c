package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/tests/oracle"
)

// Pipeline is one pipeline with a name and topics of its own, and a record of everything it was fed.
type Pipeline struct {
	*World
	Spec  *spec.Spec
	YAML  []byte // as written, for the oracle
	File  string // as run
	Parts int32
	Fed   []oracle.Lane
	Lines [][]byte // of it, those that were fed round-robin
	// Skipped are the offsets of each partition, from the first up to the second, that an operator has given up.
	Skipped map[int32][2]int64
}

// Pipeline makes a pipeline and its source topic. Names in the text become unique.
func (w *World) Pipeline(yaml string, partitions int32, change ...func(*spec.Spec)) *Pipeline {
	w.T.Helper()
	sp, err := spec.Parse("test.yaml", []byte(yaml))
	require.NoError(w.T, err)
	suffix := fmt.Sprintf("-%08x", rand.Uint32())
	sp.Name += suffix
	require.Len(w.T, sp.Source.Topics, 1)
	sp.Source.Topics[0] += suffix
	for _, sink := range []*spec.Sink{&sp.Results.Sink, &sp.Late, &sp.DeadLetter} {
		if sink.Kafka != nil {
			sink.Kafka = &spec.KafkaSink{Topic: sink.Kafka.Topic + suffix}
		}
	}
	for _, c := range change {
		c(sp)
	}
	p := &Pipeline{World: w, Spec: sp, YAML: []byte(yaml), Parts: partitions}
	text, err := sp.JSON()
	require.NoError(w.T, err)
	p.File = filepath.Join(w.T.TempDir(), "spec.json")
	require.NoError(w.T, os.WriteFile(p.File, text, 0o644))
	for n := range partitions {
		p.Fed = append(p.Fed, oracle.Lane{Topic: sp.Source.Topics[0], Partition: n})
	}
	if partitions > 0 {
		_, err = w.Cluster.EnsureTopic(context.Background(), source.TopicSpec{Name: sp.Source.Topics[0], Partitions: partitions})
		require.NoError(w.T, err)
	}
	return p
}

// Topic is the source topic.
func (p *Pipeline) Topic() string { return p.Spec.Source.Topics[0] }

// Start starts the pipeline as a user would.
func (p *Pipeline) Start() { p.T.Helper(); p.Must("start", p.File) }

// StartAsking starts a pipeline of which some lanes ask before they are read: the start says so, and does not wait for them.
func (p *Pipeline) StartAsking() {
	p.T.Helper()
	a := p.CLI("start", p.File)
	require.Equal(p.T, cli.ExitFailed, a.Code, "%s%s", a.Out, a.Err)
	require.Contains(p.T, a.Err, "parked until somebody decides")
	require.Contains(p.T, a.Err, "millrace recover ls "+p.Spec.Name)
}

// Remember keeps what goes to a partition, for the oracle.
func (p *Pipeline) Remember(partition int32, timestamp int64, value []byte) {
	lane := &p.Fed[partition]
	lane.Records = append(lane.Records, oracle.Record{Offset: int64(len(lane.Records)), Timestamp: timestamp, Value: value})
}

// Feed sends lines round-robin with `millrace feed`.
func (p *Pipeline) Feed(lines [][]byte) {
	p.T.Helper()
	require.Zero(p.T, len(p.Lines)%int(p.Parts), "a feed begins at partition 0")
	name := filepath.Join(p.T.TempDir(), "lines.jsonl")
	f, err := os.Create(name)
	require.NoError(p.T, err)
	now := time.Now().UnixMilli()
	for i, line := range lines {
		_, err := f.Write(append(line, '\n'))
		require.NoError(p.T, err)
		p.Remember(int32(i)%p.Parts, now, line)
	}
	require.NoError(p.T, f.Close())
	p.Lines = append(p.Lines, lines...)
	p.Must("feed", name, "--topic", p.Topic())
}

// Send sends records to one partition and returns when they are acknowledged.
func (p *Pipeline) Send(partition int32, values ...[]byte) {
	p.T.Helper()
	now := time.Now()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: p.Topic(), Partition: partition, Value: v, Timestamp: now}
		p.Remember(partition, now.UnixMilli(), v)
	}
	require.NoError(p.T, p.Raw.ProduceSync(context.Background(), records...).FirstErr())
}

// Trickle is a feed at a steady pace that goes on beside the test.
type Trickle struct {
	p      *Pipeline
	Done   chan struct{}
	hurry  chan struct{} // closed: as fast as possible
	cancel context.CancelCauseFunc
	err    error // valid once Done is closed
}

// Addressed is the value of a record and the partition it goes to.
type Addressed struct {
	Partition int32
	Value     []byte
}

// Trickle sends lines round-robin, so many per second.
func (p *Pipeline) Trickle(lines [][]byte, perSecond int) *Trickle {
	p.T.Helper()
	records := make([]Addressed, len(lines))
	for i, line := range lines {
		records[i] = Addressed{int32(i) % p.Parts, line}
	}
	p.Lines = append(p.Lines, lines...)
	return p.TrickleTo(records, perSecond)
}

// TrickleTo is Trickle for records that know where they go.
func (p *Pipeline) TrickleTo(records []Addressed, perSecond int) *Trickle {
	p.T.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &Trickle{p: p, Done: make(chan struct{}), hurry: make(chan struct{}), cancel: cancel}
	now := time.Now()
	for _, r := range records {
		p.Remember(r.Partition, now.UnixMilli(), r.Value)
	}
	go func() {
		defer close(f.Done)
		f.err = f.run(ctx, records, max(1, perSecond/50), now)
	}()
	p.T.Cleanup(func() {
		cancel(nil) // a test that has failed may have left no broker that would take the rest
		<-f.Done
	})
	return f
}

func (f *Trickle) run(ctx context.Context, records []Addressed, burst int, now time.Time) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i, r := range records {
		if i%burst == 0 {
			select {
			case <-tick.C:
			case <-f.hurry:
			}
		}
		record := &kgo.Record{Topic: f.p.Topic(), Partition: r.Partition, Value: r.Value, Timestamp: now}
		f.p.Raw.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				f.cancel(err)
			}
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := f.p.Raw.Flush(ctx); err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Failed is why the feed has ended before its end, nil while it goes on.
func (f *Trickle) Failed() error {
	if f.Going() {
		return nil
	}
	return f.err
}

// Going tells whether there is still something to send.
func (f *Trickle) Going() bool {
	select {
	case <-f.Done:
		return false
	default:
		return true
	}
}

// Finish sends the rest at once and waits until all of it is acknowledged.
func (f *Trickle) Finish() {
	select {
	case <-f.hurry:
	default:
		close(f.hurry)
	}
	<-f.Done
	require.NoError(f.p.T, f.err)
}

// Reload takes what the topic holds for what was fed: a producer that lost its broker's answer may have sent a record
// twice. It returns how many records that were fed are not in the topic, which only a broker can lose.
func (p *Pipeline) Reload() (missing int) {
	p.T.Helper()
	type content struct {
		partition int32
		value     string
	}
	fed := make(map[content]int)
	for _, lane := range p.Fed {
		for _, r := range lane.Records {
			fed[content{lane.Partition, string(r.Value)}]++
		}
	}
	for n := range p.Fed {
		p.Fed[n].Records = nil
	}
	for _, r := range p.Read(p.Topic()) {
		lane := &p.Fed[r.Partition]
		lane.Records = append(lane.Records, oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Value: r.Value})
		fed[content{r.Partition, string(r.Value)}]--
	}
	for _, n := range fed {
		missing += max(0, n)
	}
	return missing
}

// Total is the number of records fed.
func (p *Pipeline) Total() int64 {
	n := 0
	for _, lane := range p.Fed {
		n += len(lane.Records)
	}
	return int64(n)
}

// Lane is the lane of a partition.
func (p *Pipeline) Lane(partition int32) store.LaneID {
	return store.LaneID{Pipeline: p.Spec.Name, Topic: p.Topic(), Partition: partition}
}

// Meta reads what is durable about a lane; found is false also while Redis does not answer.
func (p *Pipeline) Meta(partition int32) (m store.Meta, found bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	m, found, err := p.Store.ReadMeta(ctx, p.Lane(partition))
	return m, found && err == nil
}

// Committed is the sum of all lanes' committed offsets; -1 when it cannot be told.
func (p *Pipeline) Committed() int64 {
	sum := int64(0)
	for n := range p.Parts {
		m, found := p.Meta(n)
		if !found {
			return -1
		}
		sum += max(0, m.Offset)
	}
	return sum
}

// Owners are the tokens of all lanes.
func (p *Pipeline) Owners() []store.Token {
	owners := make([]store.Token, p.Parts)
	for n := range p.Parts {
		m, _ := p.Meta(n)
		owners[n] = m.Owner
	}
	return owners
}

// Reach waits until so many records are committed.
func (p *Pipeline) Reach(records int64) {
	p.T.Helper()
	Eventually(p.T, fmt.Sprintf("%d records committed", records), Patience, func() bool { return p.Committed() >= records })
}

// Commits waits until every lane has made n more commits, signs of life among them.
func (p *Pipeline) Commits(n int64) {
	p.T.Helper()
	before := make([]store.Meta, p.Parts)
	for i := range p.Parts {
		before[i], _ = p.Meta(i)
	}
	Eventually(p.T, fmt.Sprintf("%d commits of every lane", n), Patience, func() bool {
		for i := range p.Parts {
			if m, found := p.Meta(i); !found || m.Cursor.Seq < before[i].Cursor.Seq+n {
				return false
			}
		}
		return true
	})
}

// LaneLine is what status says about a lane.
type LaneLine struct {
	Partition int32    `json:"partition"`
	State     string   `json:"state"`
	Reason    string   `json:"reason"`
	Choices   []string `json:"choices"`
	Offset    int64    `json:"offset"`
	Idle      bool     `json:"idle"`
	Lag       int64    `json:"lag"`
}

type statusLine struct {
	State    string                `json:"state"`
	Note     string                `json:"note"`
	Replicas int                   `json:"replicas"`
	Children []contract.ChildState `json:"children"`
	Lag      int64                 `json:"lag"`
	Lanes    []LaneLine            `json:"lanes"`
}

func (p *Pipeline) Status() statusLine {
	p.T.Helper()
	var s statusLine
	p.decode(p.Must("status", p.Spec.Name, "--json").Out, &s)
	return s
}

func (p *Pipeline) decode(text string, into any) {
	p.T.Helper()
	require.NoError(p.T, json.Unmarshal([]byte(text), into), "%s", text)
}

// Replica asks a replica's workflow where its hot path is.
func (p *Pipeline) Replica(n int) contract.ReplicaStatus {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var s contract.ReplicaStatus
	answer, err := p.Client.QueryWorkflow(ctx, contract.ReplicaID(p.Spec.Name, n), "", contract.QueryStatus)
	if err == nil {
		require.NoError(p.T, answer.Get(&s))
	}
	return s
}

// Holder is the name of the worker that a replica runs on now, "" while it runs nowhere.
func (p *Pipeline) Holder(n int) string {
	s := p.Replica(n)
	if last := len(s.Placements) - 1; last >= 0 && s.State == contract.ChildPlaced && s.Placements[last].Ended == "" {
		return s.Placements[last].Worker
	}
	return ""
}

// Update sends one of the updates and wants it to succeed.
func (p *Pipeline) Update(args ...string) contract.Receipt {
	p.T.Helper()
	var r contract.Receipt
	p.decode(p.Must(append(args, "--json")...).Out, &r)
	return r
}

// Drain stops the pipeline after everything was read and published. Further arguments go to `millrace stop`.
func (p *Pipeline) Drain(args ...string) contract.Receipt {
	p.T.Helper()
	return p.DrainWhile(func() {}, args...)
}

// DrainWhile is Drain, and calls tend again and again until it has ended.
func (p *Pipeline) DrainWhile(tend func(), args ...string) contract.Receipt {
	p.T.Helper()
	args = append([]string{"stop", p.Spec.Name, "--drain", "--json"}, args...)
	var a Answer
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a, err = runProgram(p.Env(), "millrace", args...)
	}()
	for waiting := true; waiting; {
		select {
		case <-ended:
			waiting = false
		case <-time.After(pollEvery):
			tend()
		}
	}
	require.NoError(p.T, err)
	var r contract.Receipt
	p.decode(p.succeeded(a, args).Out, &r)
	require.NotNil(p.T, r.Drained)
	require.True(p.T, *r.Drained)
	require.NotNil(p.T, r.Emitted)
	for _, c := range r.Emitted.Covered {
		end := int64(0)
		if fed := p.Fed[c.Partition].Records; len(fed) > 0 {
			end = fed[len(fed)-1].Offset + 1
		}
		require.Equal(p.T, end, c.Offset, "partition %d", c.Partition)
	}
	return r
}

// Ledger returns the latest row of every window; none before the pipeline has made its topic.
func (p *Pipeline) Ledger() []ledger.Row {
	p.T.Helper()
	rows, err := ledger.Latest(context.Background(), p.Cluster, p.Spec.Name)
	if errors.Is(err, source.ErrUnknownTopic) {
		return nil
	}
	require.NoError(p.T, err)
	return rows
}
