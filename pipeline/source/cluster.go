package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Cluster asks the brokers about topics, offsets and groups over connections of its own, so that no blocked consumer can
// delay or falsify an answer. Every query tries again on passing trouble (a moving leader, a lost connection) until the
// request timeout or the context ends. Its methods may be called from any goroutine; Close only when nobody calls any.
type Cluster struct {
	cfg  Config
	conf *sarama.Config

	mu     sync.Mutex // guards what follows; never held while waiting for a broker
	closed bool
	links  map[string]*slot
	known  view
	coords map[string]string // group -> address

	refreshing chan struct{} // a semaphore: one metadata request at a time
}

// slot holds the connection to one address; its semaphore is held while dialling.
type slot struct {
	dialling chan struct{}
	link     *link
}

// view is what the last metadata answers said.
type view struct {
	brokers    map[int32]string
	controller int32
	topics     map[string]topicView
}

type topicView struct {
	id         string
	partitions map[int32]leaderView
	asked      time.Time // when the request was sent: the view is at least this new
}

type leaderView struct {
	broker int32 // -1: none at the moment
	epoch  int32
}

// NewCluster connects to one of the brokers. When none answers the error is ErrUnreachable, in one line.
func NewCluster(ctx context.Context, cfg Config) (*Cluster, error) {
	conf, err := NewConfig(cfg)
	if err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	c := &Cluster{
		cfg: cfg, conf: conf,
		links:      map[string]*slot{},
		known:      view{brokers: map[int32]string{}, controller: -1, topics: map[string]topicView{}},
		coords:     map[string]string{},
		refreshing: make(chan struct{}, 1),
	}
	var errs []error
	for _, addr := range cfg.Brokers {
		if err := c.greet(ctx, addr); err == nil {
			return c, nil
		} else {
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(unreachable(errs), c.Close())
}

// greet connects to a broker. One that wants a login ends a connection without any at the first request, which is therefore made
// here and not by somebody who would try again; of a login that was made nothing is left to find out.
func (c *Cluster) greet(ctx context.Context, addr string) error {
	_, err := c.link(ctx, addr)
	if err != nil || c.conf.Net.SASL.Enable {
		return err
	}
	return c.ask(ctx, addr, "metadata", func(b *sarama.Broker) error {
		// The topic need not exist: any answer will do, and one without a topic would name them all.
		_, err := b.GetMetadata(sarama.NewMetadataRequest(c.conf.Version, []string{c.cfg.ClientID}))
		return err
	})
}

// Close cuts all connections.
func (c *Cluster) Close() error {
	c.mu.Lock()
	c.closed = true
	links := c.links
	c.links = nil
	c.mu.Unlock()
	for _, s := range links {
		if s.link != nil {
			s.link.close()
		}
	}
	return nil
}

// link returns the connection to addr, making it if there is none.
func (c *Cluster) link(ctx context.Context, addr string) (*link, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	s := c.links[addr]
	if s == nil {
		s = &slot{dialling: make(chan struct{}, 1)}
		c.links[addr] = s
	}
	c.mu.Unlock()

	select {
	case s.dialling <- struct{}{}:
		defer func() { <-s.dialling }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	l := s.link
	c.mu.Unlock()
	if l != nil && !l.broken() {
		return l, nil
	}
	if l != nil {
		l.close()
	}
	l, err := dial(ctx, c.conf, addr)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		go l.close()
		return nil, ErrClosed
	}
	s.link = l
	return l, nil
}

// ask runs one request against one broker. operation is what its metric calls it.
func (c *Cluster) ask(ctx context.Context, addr, operation string, request func(*sarama.Broker) error) error {
	l, err := c.link(ctx, addr)
	if err != nil {
		return err
	}
	if err := c.do(ctx, l, operation, request); err != nil {
		l.wires.cut() // the next asker dials anew
		return fmt.Errorf("broker %s: %w", addr, err)
	}
	return nil
}

// askAny runs one request against the first broker that answers.
func (c *Cluster) askAny(ctx context.Context, operation string, request func(*sarama.Broker) error) error {
	var errs []error
	for _, addr := range c.candidates() {
		err := c.ask(ctx, addr, operation, request)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return err
		}
		errs = append(errs, err)
	}
	return unreachable(errs)
}

// candidates are all known addresses, those with a living connection first.
func (c *Cluster) candidates() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	addrs := slices.Sorted(maps.Values(c.known.brokers))
	addrs = append(addrs, c.cfg.Brokers...)
	living := func(addr string) bool {
		s := c.links[addr]
		return s != nil && s.link != nil && !s.link.broken()
	}
	var first, rest []string
	for i, addr := range addrs {
		switch {
		case slices.Contains(addrs[:i], addr):
		case living(addr):
			first = append(first, addr)
		default:
			rest = append(rest, addr)
		}
	}
	return append(first, rest...)
}

// again runs try until it succeeds, fails for good, or the request timeout or ctx ends.
func (c *Cluster) again(ctx context.Context, try func(context.Context) error) error {
	return c.againAfter(ctx, newBackoff(50*time.Millisecond, time.Second), try)
}

// againAfter is again with pauses of the caller's choice.
func (c *Cluster) againAfter(ctx context.Context, pause backoff, try func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	var last error
	for {
		err := try(limited)
		if err == nil || permanent(err) {
			return err
		}
		if limited.Err() == nil || last == nil {
			last = err
		}
		if !pause.wait(limited) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if errors.Is(last, context.DeadlineExceeded) {
				return fmt.Errorf("%w: no answer within %s", ErrUnreachable, c.cfg.RequestTimeout)
			}
			return last
		}
	}
}

// permanent tells errors that trying again cannot mend from those it can.
func permanent(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrUnknownTopic) || errors.Is(err, ErrUnknownPartition) || errors.Is(err, context.Canceled) {
		return true
	}
	var code sarama.KError
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrRequestTimedOut, sarama.ErrBrokerNotAvailable,
		sarama.ErrReplicaNotAvailable, sarama.ErrNetworkException, sarama.ErrOffsetsLoadInProgress,
		sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrNotCoordinatorForConsumer, sarama.ErrNotController,
		sarama.ErrKafkaStorageError, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrUnstableOffsetCommit,
		sarama.ErrOffsetNotAvailable, sarama.ErrUnknown, sarama.ErrUnknownTopicOrPartition, sarama.ErrRebalanceInProgress,
		sarama.ErrConcurrentTransactions, sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend:
		return false
	}
	return true
}
