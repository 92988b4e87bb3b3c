package result

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// transactionTimeout is how long the broker waits for a closer that died in a transaction before it aborts it. Until
// then, or until another closer takes the slot over, read_committed readers of the result topic wait.
const transactionTimeout = time.Minute

// kafka connects the closer to a cluster. It is safe for concurrent use.
type kafka struct {
	*source.Cluster
	cfg      source.Config
	pipeline string
}

// NewKafka returns what a closer of the pipeline needs of a Kafka cluster. The cluster must outlive it.
func NewKafka(cfg source.Config, cluster *source.Cluster, pipeline string) Kafka {
	return &kafka{Cluster: cluster, cfg: cfg, pipeline: pipeline}
}

// Open implements Producers: creating the producer sends InitProducerId, which fences and decides.
func (k *kafka) Open(ctx context.Context, slot int) (Producer, error) {
	conf, err := source.NewConfig(k.cfg)
	if err != nil {
		return nil, err
	}
	ledgerTopic := ledger.Topic(k.pipeline)
	conf.Producer.MaxMessageBytes = source.RecordLimit(math.MaxInt) // Send asks each topic
	conf.Producer.Transaction.ID = ledger.TransactionalID(k.pipeline, slot)
	conf.Producer.Transaction.Timeout = transactionTimeout
	conf.Producer.Transaction.Retry.Max = 20
	conf.Producer.Transaction.Retry.Backoff = 100 * time.Millisecond
	conf.Producer.Partitioner = func(topic string) sarama.Partitioner {
		if topic == ledgerTopic {
			return sarama.NewManualPartitioner(topic)
		}
		return sarama.NewMurmur2Partitioner(topic) // as Java's default: whoever joins by key finds it where it expects
	}
	type opened struct {
		p   sarama.SyncProducer
		err error
	}
	done := make(chan opened, 1)
	go func() {
		p, err := sarama.NewSyncProducer(k.cfg.Brokers, conf)
		done <- opened{p, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, producerError(o.err)
		}
		return &producer{sync: o.p, cluster: k.Cluster, limits: make(map[string]int)}, nil
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				_ = o.p.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// producer is a sarama transactional producer.
type producer struct {
	sync    sarama.SyncProducer
	open    bool // a transaction is
	cluster *source.Cluster
	limits  map[string]int // of records, by topic, as of the producer's first use of it
}

func (p *producer) Begin() error {
	err := p.sync.BeginTxn()
	p.open = err == nil
	return producerError(err)
}

// Send implements Producer. What is under way cannot be interrupted: sarama gives up by itself. Records go out together as
// long as they fit one batch of their topic, wherever their keys lead. A record that its topic does not take is a
// *source.TooLargeError before anything of it is sent.
func (p *producer) Send(ctx context.Context, records []Record) error {
	batch := make(map[string]int) // bytes by topic
	from := 0
	for i := range records {
		r := &records[i]
		limit, err := p.limit(ctx, r.Topic)
		if err != nil {
			return err
		}
		size := source.RecordSize(r.Key, r.Value, r.Headers)
		if size > limit {
			return &source.TooLargeError{Topic: r.Topic, Key: bytes.Clone(r.Key), Size: size, Limit: limit}
		}
		if batch[r.Topic]+size > limit {
			if err := p.send(ctx, records[from:i]); err != nil {
				return err
			}
			clear(batch)
			from = i
		}
		batch[r.Topic] += size
	}
	return p.send(ctx, records[from:])
}

// limit is the size of the largest record that the topic takes.
func (p *producer) limit(ctx context.Context, topic string) (int, error) {
	if known, ok := p.limits[topic]; ok {
		return known, nil
	}
	setting, err := p.cluster.MaxMessageBytes(ctx, topic)
	if err != nil {
		return 0, err
	}
	p.limits[topic] = source.RecordLimit(setting)
	return p.limits[topic], nil
}

func (p *producer) send(ctx context.Context, records []Record) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	messages := make([]*sarama.ProducerMessage, len(records))
	for i := range records {
		r := &records[i]
		m := &sarama.ProducerMessage{
			Topic: r.Topic, Partition: r.Partition, Key: sarama.ByteEncoder(r.Key),
		}
		if r.Value != nil { // nil is a tombstone
			m.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		messages[i] = m
	}
	if err := p.sync.SendMessages(messages); err != nil {
		return producerError(err)
	}
	for i, m := range messages {
		records[i].Partition, records[i].Offset = m.Partition, m.Offset
	}
	return nil
}

func (p *producer) Commit() error {
	err := p.sync.CommitTxn()
	if err == nil {
		p.open = false
	}
	return producerError(err)
}

func (p *producer) Close() error {
	var aborted error
	if p.open {
		aborted = producerError(p.sync.AbortTxn())
	}
	return errors.Join(aborted, p.sync.Close())
}

// producerError gives the cause of a failed delivery, and ErrFenced when another producer of the slot took over.
func producerError(err error) error {
	if err == nil {
		return nil
	}
	var many sarama.ProducerErrors
	if errors.As(err, &many) && len(many) > 0 {
		err = fmt.Errorf("%d records not delivered, the first: %w", len(many), many[0])
	}
	if source.TooLarge(err) {
		return fmt.Errorf("%w: %w", source.ErrRecordTooLarge, err)
	}
	var code sarama.KError
	if errors.As(err, &code) && (code == sarama.ErrProducerFenced || code == sarama.ErrInvalidProducerEpoch) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}
