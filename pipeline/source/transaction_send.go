package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// requestsInFlight is how many requests of one connection wait for their answers. A broker
	// remembers the last five batches of a producer in each partition, and so knows one that is
	// sent again.
	requestsInFlight = 5
	// requestBytes bounds a request of several batches.
	requestBytes = 1 << 20
)

// brokerOutlet is a producer's connection to one broker.
type brokerOutlet struct {
	link     *link
	inFlight int             // requests
	next     *produceRequest // being put together
}

// produceRequest is a request and its batches, at most one of each partition.
type produceRequest struct {
	broker     *brokerOutlet
	partitions []*partitionOutlet
	batches    []*sealedBatch
	bytes      int
}

// produceAnswer is what became of a request: an answer of the broker, or an error of the
// connection.
type produceAnswer struct {
	request *produceRequest
	resp    *sarama.ProduceResponse
	err     error
}

// answerQueue passes answers from the goroutines of connections to that of the producer. It never
// blocks the former.
type answerQueue struct {
	mu   sync.Mutex // guards list
	list []produceAnswer
	more chan struct{} // holds an element while list may not be empty
}

func (q *answerQueue) put(a produceAnswer) {
	q.mu.Lock()
	q.list = append(q.list, a)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *answerQueue) take() []produceAnswer {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list = nil
	return list
}

// sendSealed sends as many sealed batches as requests may be in flight. A partition is added to the
// transaction before its first batch.
func (p *TransactionalProducer) sendSealed(ctx context.Context) error {
	if err := p.addPartitions(ctx); err != nil {
		return err
	}
	for {
		var ready []*brokerOutlet
		for _, part := range p.unacked {
			if part.trouble != nil || part.sent == len(part.sealed) {
				continue
			}
			if part.broker == nil || part.broker.link.broken() && part.inFlight == 0 {
				if err := p.findLeader(ctx, part); err != nil {
					return err
				}
			}
			b := part.broker
			if b.inFlight == requestsInFlight {
				continue
			}
			if b.next == nil {
				b.next = &produceRequest{broker: b}
				ready = append(ready, b)
			}
			b.next.add(part)
		}
		if len(ready) == 0 {
			return nil
		}
		for _, b := range ready {
			p.send(b)
		}
	}
}

// add adds the next batch of a partition, unless the request is full.
func (r *produceRequest) add(part *partitionOutlet) {
	b := part.sealed[part.sent]
	if len(r.batches) > 0 && r.bytes+len(*b.packed) > requestBytes {
		return
	}
	r.partitions, r.batches = append(r.partitions, part), append(r.batches, b)
	r.bytes += len(*b.packed)
	part.sent++
	part.inFlight++
}

// send sends the request of a broker. Its answer comes through the queue, also when it cannot be
// sent.
func (p *TransactionalProducer) send(b *brokerOutlet) {
	r := b.next
	b.next = nil
	req := &sarama.ProduceRequest{
		Version: 8, TransactionalID: &p.cfg.ID, RequiredAcks: sarama.WaitForAll,
		Timeout: int32(p.conf.Producer.Timeout / time.Millisecond),
	}
	for i, batch := range r.batches {
		req.AddBatch(r.partitions[i].Topic, r.partitions[i].Partition, batch.forSarama(p.producerID))
	}
	b.inFlight++
	p.inFlight++
	began, calls := time.Now(), &p.cluster.cfg
	answer := func(resp *sarama.ProduceResponse, err error) {
		counted := err
		if err == nil {
			counted = r.refusal(resp)
		}
		calls.CountCall("produce_in_transaction", began, counted)
		p.answers.put(produceAnswer{r, resp, err})
	}
	if err := b.link.broker.AsyncProduce(req, answer); err != nil {
		answer(nil, err)
	}
}

// refusal is the first error that an answer has.
func (r *produceRequest) refusal(resp *sarama.ProduceResponse) error {
	for _, part := range r.partitions {
		if block := resp.GetBlock(part.Topic, part.Partition); block != nil && block.Err != sarama.ErrNoError {
			return block.Err
		}
	}
	return nil
}

// waitForAnswers waits for at least one answer, or sends again what has to be, and sends what can
// be sent then.
func (p *TransactionalProducer) waitForAnswers(ctx context.Context) error {
	retried, err := p.sendAgain(ctx)
	if err != nil || retried {
		return err
	}
	select {
	case <-p.answers.more:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := p.takeAnswers(); err != nil {
		return err
	}
	return p.sendSealed(ctx)
}

// takeAnswers handles the answers that have arrived.
func (p *TransactionalProducer) takeAnswers() error {
	var failed error
	for _, a := range p.answers.take() {
		r := a.request
		p.countAnswer(a)
		for i, part := range r.partitions {
			if err := p.settle(part, r.batches[i], a); err != nil && failed == nil {
				failed = fmt.Errorf("append to %s: %w", part.TopicPartition, err)
			}
		}
	}
	return failed
}

// countAnswer takes a request for answered. A connection that failed is closed with the last of its
// requests.
func (p *TransactionalProducer) countAnswer(a produceAnswer) {
	b := a.request.broker
	p.inFlight--
	b.inFlight--
	if a.err != nil {
		b.link.wires.cut() // what follows on it cannot be trusted
	}
	if b.link.broken() && b.inFlight == 0 {
		b.link.close()
	}
}

// settle notes what became of a batch. An error ends the transaction.
func (p *TransactionalProducer) settle(part *partitionOutlet, b *sealedBatch, a produceAnswer) error {
	part.inFlight--
	if a.err != nil {
		part.hold(a.err)
		return nil
	}
	block := a.resp.GetBlock(part.Topic, part.Partition)
	switch {
	case block == nil:
		return ErrNoOffset
	case block.Err == sarama.ErrOutOfOrderSequenceNumber && part.trouble != nil:
		return nil // because the one before was not taken
	case block.Err != sarama.ErrNoError && permanent(block.Err):
		return block.Err
	case block.Err != sarama.ErrNoError:
		part.hold(block.Err)
		return nil
	case block.Offset < 0:
		return ErrNoOffset
	case part.sealed[0] != b:
		return errors.New("a batch was acknowledged before the one in front of it")
	}
	p.flushed = append(p.flushed, Appended{TopicPartition: part.TopicPartition, First: block.Offset, Records: b.records})
	p.sealedBytes -= len(*b.packed)
	putBuffer(b.packed)
	part.sealed = slices.Delete(part.sealed, 0, 1)
	part.sent--
	part.since = time.Time{}
	p.pause.reset()
	if len(part.sealed) == 0 {
		p.unacked = slices.DeleteFunc(p.unacked, func(other *partitionOutlet) bool { return other == part })
	}
	return nil
}

// hold keeps a partition from sending until its answers have arrived and its batches are sent
// again.
func (part *partitionOutlet) hold(err error) {
	now := time.Now()
	if part.since.IsZero() {
		part.since = now
	}
	part.trouble, part.distrust, part.broker = err, now, nil
}

// sendAgain lets the partitions in trouble send from their first batch that is not acknowledged on,
// once nothing of them is in flight. It reports whether there was one.
func (p *TransactionalProducer) sendAgain(ctx context.Context) (bool, error) {
	again := false
	for _, part := range p.unacked {
		if part.trouble == nil || part.inFlight > 0 {
			continue
		}
		if time.Since(part.since) > p.cluster.cfg.RequestTimeout {
			return false, fmt.Errorf("append to %s: %w", part.TopicPartition, part.trouble)
		}
		again = true
	}
	if !again {
		return false, nil
	}
	if !p.pause.wait(ctx) {
		return false, context.Cause(ctx)
	}
	for _, part := range p.unacked {
		if part.trouble != nil && part.inFlight == 0 {
			part.trouble, part.sent = nil, 0
		}
	}
	return true, p.sendSealed(ctx)
}

// findLeader connects a partition with the broker that leads it.
func (p *TransactionalProducer) findLeader(ctx context.Context, part *partitionOutlet) error {
	err := p.cluster.again(ctx, func(ctx context.Context) error {
		since := time.Now().Add(-metadataAge)
		if since.Before(part.distrust) {
			since = part.distrust
		}
		l, err := p.cluster.leader(ctx, part.TopicPartition, since)
		if err != nil {
			part.distrust = time.Now()
			return err
		}
		b := p.brokers[l.addr]
		if b == nil || b.link.broken() {
			if b != nil && b.inFlight == 0 {
				b.link.close()
			}
			b = &brokerOutlet{}
			if b.link, err = dial(ctx, p.conf, l.addr); err != nil {
				part.distrust = time.Now()
				return err
			}
			p.brokers[l.addr] = b // the one before is closed with its last answer
		}
		part.broker = b
		return nil
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", part.TopicPartition, err)
	}
	return nil
}
