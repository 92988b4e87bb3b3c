package source

import (
	"context"
	"errors"
	"fmt"
	"sync"

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

// Producer appends records: idempotent, acknowledged by all in-sync replicas, in batches. Its methods may be called from
// any goroutine; Close only when nobody calls any other.
type Producer struct {
	client sarama.Client
	async  sarama.AsyncProducer
	done   sync.WaitGroup
}

// NewProducer connects. When no broker answers the error is ErrUnreachable.
func NewProducer(ctx context.Context, cfg Config) (*Producer, error) {
	client, err := NewClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	client.Config().Producer.Partitioner = newPartitioner
	async, err := sarama.NewAsyncProducerFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("open Kafka producer: %w", err)
	}
	p := &Producer{client: client, async: async}
	p.done.Go(func() {
		for msg := range async.Successes() {
			msg.Metadata.(*delivery).settle(msg, nil)
		}
	})
	p.done.Go(func() {
		for failed := range async.Errors() {
			failed.Msg.Metadata.(*delivery).settle(failed.Msg, failed.Err)
		}
	})
	return p, nil
}

// Close waits for what was sent to be acknowledged or to fail, then disconnects.
func (p *Producer) Close() error {
	p.async.AsyncClose()
	p.done.Wait()
	return p.client.Close()
}

// Send appends the records and returns when all are acknowledged; those of one partition are in the order given. After
// an error any of them may or may not be in the topic: send all again, readers tell repetitions by their headers. The
// bytes must not be changed until Send returns, and after ctx ended not at all.
func (p *Producer) Send(ctx context.Context, records []SideRecord) error {
	if len(records) == 0 {
		return nil
	}
	d := newDelivery()
	for i := range records {
		r := &records[i]
		msg := &sarama.ProducerMessage{Topic: r.Topic, Partition: anyPartition, Key: bytesOrNil(r.Key), Value: bytesOrNil(r.Value)}
		for _, h := range r.Headers {
			msg.Headers = append(msg.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		if err := p.input(ctx, msg, d); err != nil {
			return err
		}
	}
	return d.wait(ctx)
}

// input hands a message over; d learns what became of it.
func (p *Producer) input(ctx context.Context, msg *sarama.ProducerMessage, d *delivery) error {
	msg.Metadata = d
	d.expect()
	select {
	case p.async.Input() <- msg:
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
		var code sarama.KError
		tooLarge := errors.As(err, &code) && (code == sarama.ErrMessageSizeTooLarge || code == sarama.ErrInvalidMessageSize)
		var local sarama.ConfigurationError // sarama's own check of the size
		if tooLarge || errors.As(err, &local) {
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
