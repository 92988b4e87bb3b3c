package publish

import (
	"context"
	"math"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// transactionTimeout is how long the broker waits for a closer that died in a transaction before it aborts it. Until
// then, or until another closer takes the slot over, read_committed readers of the result topic wait.
const transactionTimeout = time.Minute

// Client connects the slots of one pipeline to a cluster. It is safe for concurrent use.
type Client struct {
	*source.Cluster
	cfg      source.Config
	pipeline string
}

var _ Kafka = (*Client)(nil)

// NewClient returns a client for the slots of a pipeline. The cluster must outlive it.
func NewClient(cfg source.Config, cluster *source.Cluster, pipeline string) *Client {
	return &Client{Cluster: cluster, cfg: cfg, pipeline: pipeline}
}

// Open implements Producers: creating the producer sends InitProducerId, which fences and decides.
func (c *Client) Open(ctx context.Context, slot int) (Producer, error) {
	conf, err := source.NewConfig(c.cfg)
	if err != nil {
		return nil, err
	}
	ledgerTopic := ledger.Topic(c.pipeline)
	conf.Producer.MaxMessageBytes = source.RecordLimit(math.MaxInt) // Send asks each topic
	conf.Producer.Transaction.ID = ledger.TransactionalID(c.pipeline, slot)
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
		began := time.Now()
		p, err := sarama.NewSyncProducer(c.cfg.Brokers, conf)
		c.cfg.CountCall("init_producer", began, err)
		done <- opened{p, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, deliveryError(o.err)
		}
		return &producer{sync: o.p, cluster: c.Cluster, cfg: &c.cfg, limits: make(map[string]int)}, nil
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				_ = o.p.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}
