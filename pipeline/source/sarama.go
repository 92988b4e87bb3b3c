package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

const (
	// fetchWait is how long a broker may hold a fetch that finds nothing.
	fetchWait = 500 * time.Millisecond
	// metadataAge is how old what we know about topics and leaders may get.
	metadataAge = 30 * time.Second
)

// NewConfig returns a fresh sarama configuration for one client with every setting that matters made explicit. It must
// not be shared between consumer groups: the balance strategy keeps state.
func NewConfig(cfg Config) (*sarama.Config, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	c := sarama.NewConfig()

	c.ClientID = cfg.ClientID
	// From 3.2 on a joining member says of which generation its claims are, which cooperative rebalancing needs to be
	// safe. Requests are still cut down to what each broker supports.
	c.Version = sarama.V3_9_0_0
	c.MetricRegistry = noMetrics{}

	c.Net.DialTimeout = cfg.DialTimeout
	c.Net.ReadTimeout = cfg.RequestTimeout
	c.Net.WriteTimeout = cfg.RequestTimeout

	// Only topics of the pipeline, noticed soon, never created by asking for them: a mistyped name is an error.
	c.Metadata.Full = false
	c.Metadata.RefreshFrequency = metadataAge
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.Timeout = cfg.RequestTimeout

	// Aborted records were never written, as far as a pipeline is concerned.
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	// A claim's own reading is never used (lanes open a Reader at meta.offset), so a wrong place to start is harmless,
	// but an invalid one must not end the claim: with it all lanes of the process would restart for ever.
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.ResetInvalidOffsets = true
	// Group offsets are hints that follow meta.offset; nothing may commit them by itself.
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Return.Errors = true
	// No upper bound: a record larger than the fetch size must be read, not skipped.
	c.Consumer.Fetch.Max = 0
	c.Consumer.MaxWaitTime = fetchWait
	// At the default of 100 ms a lane that blocks makes sarama drop the partition and queue it again.
	c.Consumer.MaxProcessingTime = 10 * time.Second

	// Claims that stay are not interrupted by those that move.
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	c.Consumer.Group.Session.Timeout = cfg.SessionTimeout
	c.Consumer.Group.Heartbeat.Interval = cfg.HeartbeatInterval
	c.Consumer.Group.Rebalance.Timeout = cfg.RebalanceTimeout
	c.Consumer.Group.Rebalance.Retry.Backoff = 500 * time.Millisecond
	c.Consumer.Group.Rebalance.Retry.Max = 10

	// What is acknowledged is on all in-sync replicas, once and in order.
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Timeout = cfg.RequestTimeout
	c.Producer.Compression = sarama.CompressionLZ4
	c.Producer.Retry.Max = 10
	c.Producer.Retry.Backoff = 200 * time.Millisecond
	c.Producer.Return.Successes = true
	c.Producer.Return.Errors = true

	secure, err := cfg.TLS.Client()
	if err != nil {
		return nil, fmt.Errorf("kafka tls: %w", err)
	}
	// sarama leaves the TLS handshake to the first request, which it then tries again and again.
	c.Net.Proxy.Enable = true
	c.Net.Proxy.Dialer = &dialer{net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: c.Net.KeepAlive}, secure}
	if err := cfg.SASL.apply(c); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("kafka settings: %w", err)
	}
	return c, nil
}

// NewClient connects a sarama client. When no broker answers the error is one line and is ErrUnreachable.
func NewClient(ctx context.Context, cfg Config) (sarama.Client, error) {
	conf, err := NewConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := reachable(ctx, conf, cfg.Brokers); err != nil {
		return nil, err
	}
	client, err := sarama.NewClient(cfg.Brokers, conf)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka at %s: %w", strings.Join(cfg.Brokers, ","), err)
	}
	return client, nil
}

// reachable connects to the brokers in turn until one answers.
func reachable(ctx context.Context, conf *sarama.Config, brokers []string) error {
	var errs []error
	for _, addr := range brokers {
		l, err := dial(ctx, conf, addr)
		if err == nil {
			l.close()
			return nil
		}
		errs = append(errs, err)
	}
	return unreachable(errs)
}

// unreachable joins what each broker said into one line.
func unreachable(errs []error) error {
	said := make([]string, 0, len(errs))
	for _, err := range errs {
		said = append(said, strings.ReplaceAll(err.Error(), "\n", " "))
		if errors.Is(err, context.Canceled) {
			return err
		}
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, strings.Join(said, "; "))
}
