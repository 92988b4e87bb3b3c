package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// ErrNoOffset means that a broker acknowledged a batch and did not say where it stands, so that
// nothing can refer to it.
var ErrNoOffset = errors.New("the broker acknowledged records without their offset")

// ByKey leaves the choice of a record's partition to its key, as Java's default does: whoever joins
// by key finds it where it expects it.
const ByKey = anyPartition

// abortTimeout bounds the attempt to abort a transaction. The next InitProducerId of the
// transactional id aborts it otherwise.
const abortTimeout = 3 * time.Second

// TransactionConfig says what a TransactionalProducer is.
type TransactionConfig struct {
	// ID is the transactional id: whoever opens a producer with it fences the one before.
	ID string
	// Timeout is how long a broker waits for a producer that died in a transaction before it aborts
	// the transaction.
	Timeout time.Duration
}

// TransactionalProducer appends records in transactions, one after the other: between Begin and
// Commit, Append encodes records into the open batches of their partitions, and Flush says where
// they stand. Full batches are sent while records are appended, several requests at a time to each
// broker, over connections of its own.
//
// Batches of a partition are appended in order: a batch that a broker did not take because of
// passing trouble is sent again, with those behind it and under the same sequence numbers, after
// the answers to all of them have arrived. What cannot be mended in the request timeout ends the
// transaction: after an error the producer is of no use but to be closed.
//
// It is not safe for concurrent use. Only the answers arrive on goroutines of the connections, and
// wait in a queue.
type TransactionalProducer struct {
	cluster *Cluster
	conf    *sarama.Config // lets several requests of a connection be in flight
	cfg     TransactionConfig

	coordinator *link // nil: to be found
	producerID  producerID

	open   bool // between Begin and the end of a transaction
	added  bool // a partition was added to the open transaction, or may have been
	failed error

	topics  map[string]*topicOutlet
	recent  *topicOutlet       // of the last record
	used    []*partitionOutlet // in the open transaction
	unadded []*partitionOutlet // of those in use
	unacked []*partitionOutlet // have sealed batches
	brokers map[string]*brokerOutlet

	openBytes   int // in open batches
	sealedBytes int // in batches that are not acknowledged
	inFlight    int // requests
	answers     answerQueue
	pause       backoff // before batches are sent again
	flushed     []Appended
}

// producerID is what a broker knows a producer by.
type producerID struct {
	id    int64
	epoch int16
}

// Appended says where the records of one batch stand, in the order in which they were appended to
// the partition.
type Appended struct {
	TopicPartition
	First   int64 // offset of the first record
	Records int
}

// OpenTransactional returns a producer after InitProducerId: every earlier producer of the
// transactional id is fenced, and its open transaction is decided and visible to readers. The
// cluster must outlive the producer.
func OpenTransactional(ctx context.Context, cluster *Cluster, cfg TransactionConfig) (*TransactionalProducer, error) {
	conf := *cluster.conf
	conf.Producer.Idempotent = false // of sarama's own producer, which allows one request in flight
	conf.Net.MaxOpenRequests = requestsInFlight
	p := &TransactionalProducer{
		cluster: cluster, conf: &conf, cfg: cfg,
		topics: make(map[string]*topicOutlet), brokers: make(map[string]*brokerOutlet),
		answers: answerQueue{more: make(chan struct{}, 1)},
		pause:   newBackoff(50*time.Millisecond, time.Second),
	}
	began := time.Now()
	err := p.initProducerID(ctx)
	cluster.cfg.CountCall("init_producer", began, err)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open producer %s: %w", cfg.ID, err), p.Close())
	}
	return p, nil
}

// Begin opens a transaction. The brokers learn of it with its first batch.
func (p *TransactionalProducer) Begin() error {
	switch {
	case p.failed != nil:
		return p.failed
	case p.open:
		return p.fail(errors.New("begin transaction: the one before has not ended"))
	}
	p.open, p.added = true, false
	for _, t := range p.topics {
		t.current = false
	}
	p.recent = nil
	return nil
}

// Append adds a record to the open transaction. It copies the bytes. With ByKey its key chooses the
// partition; it returns which one it is. It waits while too many bytes are not acknowledged, so
// that an error may be that of an earlier record. A record that its topic does not take is a
// *TooLargeError before anything of it is sent.
func (p *TransactionalProducer) Append(
	ctx context.Context, topic string, partition int32, key, value []byte, headers []Header,
) (int32, error) {
	if p.failed != nil {
		return 0, p.failed
	}
	partition, err := p.append(ctx, topic, partition, key, value, headers)
	return partition, p.fail(err)
}

// Flush returns when every record of the transaction is acknowledged. It says where those stand
// that were appended since the last time; what it returns is valid until the next call of the
// producer.
func (p *TransactionalProducer) Flush(ctx context.Context) ([]Appended, error) {
	if p.failed != nil {
		return nil, p.failed
	}
	if err := p.flush(ctx); err != nil {
		return nil, p.fail(err)
	}
	flushed := p.flushed
	p.flushed = p.flushed[:0]
	return flushed, nil
}

// Commit ends the transaction, of which everything must have been flushed. After an error its
// outcome is unknown.
func (p *TransactionalProducer) Commit() error {
	switch {
	case p.failed != nil:
		return p.failed
	case !p.open:
		return p.fail(errors.New("commit transaction: none is open"))
	case p.openBytes > 0 || p.sealedBytes > 0:
		return p.fail(errors.New("commit transaction: records were not flushed"))
	}
	if err := p.end(context.Background(), "commit_transaction", true); err != nil {
		return p.fail(fmt.Errorf("commit transaction of %s: %w", p.cfg.ID, err))
	}
	for _, part := range p.used {
		part.inUse = false
	}
	p.used = p.used[:0]
	p.open, p.added = false, false
	return nil
}

// Close aborts an open transaction as far as it still can, and disconnects. It waits for the
// answers to what is in flight: a batch that arrived after the abort would belong to no transaction
// that anybody ends.
func (p *TransactionalProducer) Close() error {
	for p.inFlight > 0 { // a connection fails its requests after the request timeout
		<-p.answers.more
		for _, a := range p.answers.take() {
			p.countAnswer(a)
		}
	}
	var err error
	if p.open && p.added && !fenced(p.failed) {
		ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
		err = p.end(ctx, "abort_transaction", false)
		cancel()
		switch {
		case errors.Is(err, sarama.ErrInvalidTxnState): // no partition was added after all
			err = nil
		case err != nil:
			err = fmt.Errorf("abort transaction of %s: %w", p.cfg.ID, err)
		}
	}
	p.open, p.added = false, false
	for _, b := range p.brokers {
		b.link.close()
	}
	clear(p.brokers)
	p.forgetCoordinator()
	p.releaseBuffers()
	if p.failed == nil {
		p.failed = ErrClosed
	}
	return err
}

// fail remembers the first error: what the brokers hold of the transaction is not known any more.
func (p *TransactionalProducer) fail(err error) error {
	if p.failed == nil {
		p.failed = err
	}
	return err
}

// fenced reports whether err says that another producer has taken the transactional id over.
func fenced(err error) bool {
	return errors.Is(err, sarama.ErrProducerFenced) || errors.Is(err, sarama.ErrInvalidProducerEpoch)
}

// releaseBuffers gives back what the batches that were not acknowledged have used.
func (p *TransactionalProducer) releaseBuffers() {
	for _, part := range p.used {
		putBuffer(part.open.raw)
		part.open = openBatch{}
		for _, b := range part.sealed {
			putBuffer(b.packed)
		}
		part.sealed = nil
	}
}
