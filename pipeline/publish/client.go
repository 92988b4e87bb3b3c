package publish

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// transactionTimeout is how long the broker waits for a closer that died in a transaction before it aborts it. Until
// then, or until another closer takes the slot over, read_committed readers of the result topic wait.
const transactionTimeout = time.Minute

// longTimeout is that of a transaction with a large window. It is what brokers allow by default.
const longTimeout = 15 * time.Minute

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
	return c.open(ctx, slot, transactionTimeout)
}

// OpenLong implements Producers. A cluster that does not allow the time gets what Open asks for: the transaction of a window
// that takes longer fails then, and says so, until transaction.max.timeout.ms is raised.
func (c *Client) OpenLong(ctx context.Context, slot int) (Producer, error) {
	p, err := c.open(ctx, slot, longTimeout)
	if errors.Is(err, sarama.ErrInvalidTransactionTimeout) {
		return c.open(ctx, slot, transactionTimeout)
	}
	return p, err
}

func (c *Client) open(ctx context.Context, slot int, timeout time.Duration) (Producer, error) {
	transactions, err := source.OpenTransactional(ctx, c.Cluster, source.TransactionConfig{
		ID: ledger.TransactionalID(c.pipeline, slot), Timeout: timeout,
	})
	if err != nil {
		return nil, deliveryError(err)
	}
	return &producer{transactions: transactions, ledger: ledger.Topic(c.pipeline)}, nil
}
