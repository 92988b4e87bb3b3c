package result

import (
	"context"
	"errors"
	"fmt"
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
		return &producer{sync: o.p}, nil
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
	sync sarama.SyncProducer
	open bool // a transaction is
}

func (p *producer) Begin() error {
	err := p.sync.BeginTxn()
	p.open = err == nil
	return producerError(err)
}

// Send implements Producer. It cannot be interrupted: sarama gives up by itself.
func (p *producer) Send(ctx context.Context, records []Record) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	messages := make([]*sarama.ProducerMessage, len(records))
	for i := range records {
		r := &records[i]
		m := &sarama.ProducerMessage{
			Topic: r.Topic, Partition: r.Partition, Key: sarama.ByteEncoder(r.Key), Value: sarama.ByteEncoder(r.Value),
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
	var code sarama.KError
	if errors.As(err, &code) && (code == sarama.ErrProducerFenced || code == sarama.ErrInvalidProducerEpoch) {
		return fmt.Errorf("%w: %w", ErrFenced, err)
	}
	return err
}
