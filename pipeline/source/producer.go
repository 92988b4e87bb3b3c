package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// ErrRecordTooLarge means that a record will never fit: shorten it. Other errors of Send may pass: send all again.
var ErrRecordTooLarge = errors.New("record too large for the topic")

// SideRecord is a record for the late or the dead-letter topic.
type SideRecord struct {
	Topic string
	// Key chooses the partition, as Kafka's own clients do (nil: any).
	Key     []byte
	Value   []byte
	Headers []Header
}

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Producer appends records: idempotent, acknowledged by all in-sync replicas, in batches. Records and batches may be as
// large as each topic takes. Its methods may be called from any goroutine; Close only when nobody calls any other.
type Producer struct {
	cfg     Config
	cluster *Cluster
	feeds   *feedTracing // nil: what is fed is not traced

	mu     sync.Mutex
	topics map[string]*topicAppender
	sizes  map[int]*appender // by the size of the largest record: sarama has one limit for a producer
}

// topicAppender is the appender of a topic, and when the topic's limit was looked up.
type topicAppender struct {
	*appender
	asked time.Time
}

// NewProducer connects. When no broker answers the error is ErrUnreachable.
func NewProducer(ctx context.Context, cfg Config) (*Producer, error) {
	cluster, err := NewCluster(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Producer{cfg: cfg, cluster: cluster, topics: make(map[string]*topicAppender), sizes: make(map[int]*appender)}, nil
}

// Close waits for what was sent to be acknowledged or to fail, then disconnects.
func (p *Producer) Close() error {
	var errs []error
	for _, a := range p.sizes {
		errs = append(errs, a.close())
	}
	return errors.Join(append(errs, p.cluster.Close())...)
}

// appender returns what appends to the topic. The lock is not held while brokers are asked: an answer that comes second
// finds the appender that the first has made, or makes one more of the same size and gives it up.
func (p *Producer) appender(ctx context.Context, topic string) (*appender, error) {
	p.mu.Lock()
	known := p.topics[topic]
	p.mu.Unlock()
	if known != nil {
		return known.appender, nil
	}
	asked := time.Now()
	bytes, err := p.cluster.MaxMessageBytes(ctx, topic)
	if errors.Is(err, ErrUnknownTopic) {
		bytes, err = defaultMessageBytes, nil // the append will say so
	}
	if err != nil {
		return nil, err
	}
	limit := RecordLimit(bytes)
	p.mu.Lock()
	a := p.sizes[limit]
	p.mu.Unlock()
	if a == nil {
		if a, err = newAppender(ctx, p.cfg, limit); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	first := p.sizes[limit]
	if first == nil {
		p.sizes[limit], first = a, a
	}
	p.topics[topic] = &topicAppender{first, asked}
	p.mu.Unlock()
	if first != a {
		err = a.close()
	}
	return first, err
}

// forget lets the next record of a topic look its limit up anew: somebody may have changed it.
func (p *Producer) forget(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.topics[topic]; known != nil && time.Since(known.asked) > metadataAge {
		delete(p.topics, topic)
	}
}

// appender is one sarama producer.
type appender struct {
	client sarama.Client
	async  sarama.AsyncProducer
	done   sync.WaitGroup
}

func newAppender(ctx context.Context, cfg Config, limit int) (*appender, error) {
	client, err := NewClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	client.Config().Producer.Partitioner = newPartitioner
	client.Config().Producer.MaxMessageBytes = limit
	async, err := sarama.NewAsyncProducerFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("open Kafka producer: %w", err)
	}
	a := &appender{client: client, async: async}
	a.done.Go(func() {
		for msg := range async.Successes() {
			msg.Metadata.(*delivery).settle(msg, nil)
		}
	})
	a.done.Go(func() {
		for failed := range async.Errors() {
			failed.Msg.Metadata.(*delivery).settle(failed.Msg, failed.Err)
		}
	})
	return a, nil
}

func (a *appender) close() error {
	a.async.AsyncClose()
	a.done.Wait()
	return a.client.Close()
}

// Send appends the records and returns when all are acknowledged; those of one partition are in the order given. After
// an error any of them may or may not be in the topic: send all again, readers tell repetitions by their headers. The
// bytes must not be changed until Send returns, and after ctx ended not at all.
func (p *Producer) Send(ctx context.Context, records []SideRecord) error {
	if len(records) == 0 {
		return nil
	}
	began := time.Now()
	err := p.send(ctx, records)
	p.cfg.CountCall("produce", began, err)
	return err
}

func (p *Producer) send(ctx context.Context, records []SideRecord) error {
	d := newDelivery()
	for i := range records {
		r := &records[i]
		a, err := p.appender(ctx, r.Topic)
		if err != nil {
			return fmt.Errorf("append to Kafka: %w", err)
		}
		msg := &sarama.ProducerMessage{Topic: r.Topic, Partition: anyPartition, Key: bytesOrNil(r.Key), Value: bytesOrNil(r.Value)}
		for _, h := range r.Headers {
			msg.Headers = append(msg.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		if err := a.input(ctx, msg, d); err != nil {
			return err
		}
	}
	err := d.wait(ctx)
	if errors.Is(err, ErrRecordTooLarge) {
		for i := range records {
			p.forget(records[i].Topic)
		}
	}
	return err
}

// input hands a message over; d learns what became of it.
func (a *appender) input(ctx context.Context, msg *sarama.ProducerMessage, d *delivery) error {
	msg.Metadata = d
	d.expect()
	select {
	case a.async.Input() <- msg:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// bytesOrNil keeps nil what is nil: a tombstone is not an empty value.
func bytesOrNil(b []byte) sarama.Encoder {
	if b == nil {
		return nil
	}
	return sarama.ByteEncoder(b)
}

// delivery follows a set of messages. It starts with one open count, given back by wait.
type delivery struct {
	mu   sync.Mutex
	open int
	err  error
	done chan struct{}
	// settled, when set, is called under the lock for every message acknowledged before the first failure.
	settled func(*sarama.ProducerMessage)
}

func newDelivery() *delivery { return &delivery{open: 1, done: make(chan struct{})} }

func (d *delivery) expect() {
	d.mu.Lock()
	d.open++
	d.mu.Unlock()
}

func (d *delivery) settle(msg *sarama.ProducerMessage, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.err == nil {
		d.err = err
		if TooLarge(err) {
			d.err = fmt.Errorf("%w: %w", ErrRecordTooLarge, err)
		}
	}
	if d.err == nil && d.settled != nil {
		d.settled(msg)
	}
	d.release()
}

func (d *delivery) release() {
	if d.open--; d.open == 0 {
		close(d.done)
	}
}

// failed is the first error so far.
func (d *delivery) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *delivery) wait(ctx context.Context) error {
	d.mu.Lock()
	d.release()
	d.mu.Unlock()
	select {
	case <-d.done:
		if err := d.failed(); err != nil {
			return fmt.Errorf("append to Kafka: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
