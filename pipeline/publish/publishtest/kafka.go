// Package publishtest is a Kafka in memory for tests of closing: partitions with transactions, markers, last stable offset
// and fencing by transactional id, and faults between every two steps.
package publishtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/pipeline/publish"
	"millrace/pipeline/source"
)

// ErrInjected is what a step that was made to fail returns. It says nothing about what the broker did.
var ErrInjected = errors.New("injected fault")

// Outcome is what becomes of a step.
type Outcome int

const (
	// Pass lets the step through.
	Pass Outcome = iota
	// FailBefore fails the step; the broker never sees it.
	FailBefore
	// FailAfter lets the broker do it and loses the answer.
	FailAfter
)

// Step is one request of a closer.
type Step struct {
	N    int    // running number, from 0
	Name string // partitions, ends, offsets, read, open, begin, send, commit, close
	Slot int    // of open, begin, send, commit and close
}

// Kafka implements publish.Kafka. It is safe for concurrent use.
type Kafka struct {
	mu       sync.Mutex
	topics   map[string][]*partition
	ids      map[string]string            // of topics
	settings map[string]map[string]string // of topics
	clock    func() time.Time             // of what producers send; nil: records say 0
	epochs   map[int]int
	open     map[int]*transaction
	plan     func(Step) Outcome
	seen     int
}

var _ publish.Kafka = (*Kafka)(nil)

type partition struct {
	start   int64
	records []entry
}

type entry struct {
	record  source.Record
	headers []source.Header
	txn     *transaction // nil outside transactions
	marker  bool
}

type transaction struct {
	partitions map[*partition]int64 // with the first offset in each
	committed  bool
}

// New returns a cluster without topics.
func New() *Kafka {
	return &Kafka{
		topics: map[string][]*partition{}, ids: map[string]string{}, settings: map[string]map[string]string{}, epochs: map[int]int{},
		open: map[int]*transaction{},
	}
}

// AddTopic makes a topic, or adds partitions to it.
func (k *Kafka) AddTopic(name string, partitions int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.topics[name]) < partitions {
		k.topics[name] = append(k.topics[name], new(partition))
	}
}

// Append adds a record outside of transactions and returns its offset.
func (k *Kafka) Append(tp source.TopicPartition, r source.Record) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.topics[tp.Topic][tp.Partition]
	return p.append(entry{record: r})
}

// AppendMarker adds an offset at which nothing is ever delivered, as the marker of a transaction.
func (k *Kafka) AppendMarker(tp source.TopicPartition) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topics[tp.Topic][tp.Partition].append(entry{marker: true})
}

// Plan sets what decides the outcome of each step from now on; nil passes everything. It is called without the lock and
// may use the cluster.
func (k *Kafka) Plan(plan func(Step) Outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.plan = plan
}

func (k *Kafka) step(name string, slot int) Outcome {
	k.mu.Lock()
	plan, s := k.plan, Step{N: k.seen, Name: name, Slot: slot}
	k.seen++
	k.mu.Unlock()
	if plan == nil {
		return Pass
	}
	return plan(s)
}

// do runs one step under the fault plan.
func (k *Kafka) do(name string, slot int, fn func() error) error {
	outcome := k.step(name, slot)
	if outcome == FailBefore {
		return fmt.Errorf("%s: %w", name, ErrInjected)
	}
	k.mu.Lock()
	err := fn()
	k.mu.Unlock()
	if outcome == FailAfter {
		return fmt.Errorf("%s: %w", name, ErrInjected)
	}
	return err
}

// Partitions implements ledger.Log.
func (k *Kafka) Partitions(_ context.Context, topic string) (ids []int32, err error) {
	err = k.do("partitions", -1, func() error {
		if len(k.topics[topic]) == 0 {
			return fmt.Errorf("%s: %w", topic, source.ErrUnknownTopic)
		}
		for i := range k.topics[topic] {
			ids = append(ids, int32(i))
		}
		return nil
	})
	return ids, err
}

// Topic implements survey.Topics. SetTopicID says which id it answers.
func (k *Kafka) Topic(ctx context.Context, name string) (source.Topic, error) {
	partitions, err := k.Partitions(ctx, name)
	if err != nil {
		return source.Topic{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return source.Topic{Name: name, ID: k.ids[name], Partitions: partitions}, nil
}

// SetTopicID gives a topic an id, as if it had been made again.
func (k *Kafka) SetTopicID(topic, id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ids[topic] = id
}

// MakeTopicAgain deletes a topic and makes it again under another id, with no record.
func (k *Kafka) MakeTopicAgain(name, id string, partitions int) {
	k.mu.Lock()
	delete(k.topics, name)
	k.ids[name] = id
	k.mu.Unlock()
	k.AddTopic(name, partitions)
}

// Ends implements survey.Topics.
func (k *Kafka) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends := map[source.TopicPartition]source.Ends{}
	err := k.do("ends", -1, func() error {
		for _, tp := range tps {
			p, err := k.partition(tp)
			if err != nil {
				return err
			}
			ends[tp] = source.Ends{Start: p.start, End: k.stable(p), HighWatermark: p.end()}
		}
		return nil
	})
	return ends, err
}

// ReadCommitted implements ledger.Log.
func (k *Kafka) ReadCommitted(_ context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	var records []source.Record
	next := from
	err := k.do("read", -1, func() error {
		p, err := k.partition(tp)
		if err != nil {
			return err
		}
		stable := k.stable(p)
		if from > p.end() {
			return &source.OutOfRangeError{TopicPartition: tp, Offset: from, Ends: source.Ends{Start: p.start, End: stable, HighWatermark: p.end()}}
		}
		if from < stable {
			records, next = k.committed(p, from), stable
		}
		return nil
	})
	if err != nil {
		return from, err
	}
	for _, r := range records {
		if err := fn(r); err != nil {
			return from, err
		}
	}
	return next, nil
}

// OpenLong implements publish.Producers.
func (k *Kafka) OpenLong(ctx context.Context, slot int) (publish.Producer, error) {
	return k.Open(ctx, slot)
}

// Open implements publish.Producers.
func (k *Kafka) Open(_ context.Context, slot int) (publish.Producer, error) {
	p := &producer{k: k, slot: slot}
	err := k.do("open", slot, func() error {
		k.decide(slot, false)
		k.epochs[slot]++
		p.epoch = k.epochs[slot]
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// decide ends the slot's open transaction and writes its markers.
func (k *Kafka) decide(slot int, commit bool) {
	txn := k.open[slot]
	if txn == nil {
		return
	}
	txn.committed = commit
	for p := range txn.partitions {
		p.append(entry{marker: true})
	}
	delete(k.open, slot)
}

func (k *Kafka) partition(tp source.TopicPartition) (*partition, error) {
	if int(tp.Partition) >= len(k.topics[tp.Topic]) {
		return nil, fmt.Errorf("%s: %w", tp, source.ErrUnknownTopic)
	}
	return k.topics[tp.Topic][tp.Partition], nil
}

func (p *partition) end() int64 { return p.start + int64(len(p.records)) }

// stable is the last stable offset: the first record of an open transaction, or the end.
func (k *Kafka) stable(p *partition) int64 {
	stable := p.end()
	for _, txn := range k.open {
		if first, ok := txn.partitions[p]; ok {
			stable = min(stable, first)
		}
	}
	return stable
}

func (p *partition) append(e entry) int64 {
	e.record.Offset = p.end()
	p.records = append(p.records, e)
	return e.record.Offset
}

type producer struct {
	k        *Kafka
	slot     int
	epoch    int
	appended []publish.Record // since the last Flush
}

func (p *producer) do(name string, fn func() error) error {
	return p.k.do(name, p.slot, func() error {
		if p.k.epochs[p.slot] != p.epoch {
			return fmt.Errorf("slot %d: %w", p.slot, publish.ErrFenced)
		}
		return fn()
	})
}

func (p *producer) Begin() error {
	return p.do("begin", func() error {
		p.k.open[p.slot] = &transaction{partitions: map[*partition]int64{}}
		return nil
	})
}

// Append implements publish.Producer. The broker sees the record with the next Flush.
func (p *producer) Append(_ context.Context, r *publish.Record) error {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	n := len(p.k.topics[r.Topic])
	if n == 0 {
		return fmt.Errorf("%s: %w", r.Topic, source.ErrUnknownTopic)
	}
	if !strings.HasSuffix(r.Topic, ".ledger") {
		r.Partition = spread(r.Key, n)
	}
	if int(r.Partition) >= n {
		return fmt.Errorf("%s/%d: %w", r.Topic, r.Partition, source.ErrUnknownPartition)
	}
	kept := *r
	kept.Key, kept.Value = slices.Clone(r.Key), slices.Clone(r.Value)
	p.appended = append(p.appended, kept)
	return nil
}

// Flush implements publish.Producer. Every record is a batch of its own.
func (p *producer) Flush(context.Context) (flushed []source.Appended, err error) {
	records := p.appended
	p.appended = nil
	if len(records) == 0 {
		return nil, nil
	}
	err = p.do("send", func() error {
		txn := p.k.open[p.slot]
		if txn == nil {
			return errors.New("no transaction is open")
		}
		for _, r := range records {
			part := p.k.topics[r.Topic][r.Partition]
			if _, ok := txn.partitions[part]; !ok {
				txn.partitions[part] = part.end()
			}
			first := part.append(entry{txn: txn, record: source.Record{Key: r.Key, Value: r.Value, Timestamp: p.k.timestamp()}, headers: r.Headers})
			tp := source.TopicPartition{Topic: r.Topic, Partition: r.Partition}
			flushed = append(flushed, source.Appended{TopicPartition: tp, First: first, Records: 1})
		}
		return nil
	})
	return flushed, err
}

func (p *producer) Commit() error {
	return p.do("commit", func() error {
		if p.k.open[p.slot] == nil {
			return errors.New("no transaction is open")
		}
		p.k.decide(p.slot, true)
		return nil
	})
}

func (p *producer) Close() error {
	return p.k.do("close", p.slot, func() error {
		if p.k.epochs[p.slot] == p.epoch {
			p.k.decide(p.slot, false)
		}
		return nil
	})
}

func spread(key []byte, n int) int32 {
	sum := uint32(0)
	for _, b := range key {
		sum = sum*31 + uint32(b)
	}
	return int32(sum % uint32(n))
}
