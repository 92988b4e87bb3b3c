package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Handler runs the lanes.
type Handler interface {
	// Own is called once per claim in a goroutine of its own. The lane belongs to this process until ctx ends:
	// context.Cause(ctx) is then ErrRevoked (this claim alone) or ErrSessionEnded (all of them). Own must then commit,
	// release and return, well within the rebalance timeout. If it returns earlier the claim is held all the same, so
	// that the other lanes do not restart.
	Own(ctx context.Context, claim Claim)
}

var (
	// ErrRevoked is the cause of the end of a claim that a rebalance gave to another member.
	ErrRevoked = errors.New("claim revoked by a rebalance")
	// ErrSessionEnded is the cause of the end of all claims: the member left or lost its group session.
	ErrSessionEnded = errors.New("consumer group session ended")
)

// partingTime is how long a member that was told to stop may go on talking to brokers: enough to commit its last hints.
const partingTime = 5 * time.Second

// MembershipConfig says which group to join and how.
type MembershipConfig struct {
	Config Config
	// Cluster sends the heartbeats of Claim.StillAssigned. It must outlive Run.
	Cluster *Cluster
	Group   string
	// InstanceID makes the member static: a successor with the same id takes its claims over without a rebalance, and the
	// group waits the whole session timeout for it. Optional.
	InstanceID string
	Topics     []string
	// HintInterval is how often marked hints are committed (default 1 s).
	HintInterval time.Duration
	// OnTrouble, when set, is told of every error the group meets, from various goroutines. It must not block.
	OnTrouble func(err error)

	orphanLook time.Duration // the constant, but in tests
}

// Membership is one member of a consumer group. The group decides which lanes this process owns and nothing else: its
// claims are paused and what they still bring is thrown away.
type Membership struct {
	cfg  MembershipConfig
	conf *sarama.Config
}

// NewMembership checks the settings; it talks to nobody.
func NewMembership(cfg MembershipConfig) (*Membership, error) {
	switch {
	case cfg.Cluster == nil:
		return nil, errors.New("consumer group: no cluster given")
	case cfg.Group == "":
		return nil, errors.New("consumer group: no name given")
	case len(cfg.Topics) == 0:
		return nil, fmt.Errorf("consumer group %s: no topics given", cfg.Group)
	}
	if cfg.HintInterval <= 0 {
		cfg.HintInterval = time.Second
	}
	if cfg.orphanLook == 0 {
		cfg.orphanLook = orphanLook
	}
	conf, err := NewConfig(cfg.Config)
	if err != nil {
		return nil, err
	}
	conf.Consumer.Group.InstanceId = cfg.InstanceID
	// A join is answered when all members have joined, and they may take this long to let go of their claims.
	conf.Net.ReadTimeout = conf.Consumer.Group.Rebalance.Timeout + conf.Net.ReadTimeout
	// A claim fetches once before it can be paused. What it gets is thrown away: let it be little.
	conf.Consumer.Fetch.Default = 1
	if err := conf.Validate(); err != nil {
		return nil, fmt.Errorf("consumer group %s: %w", cfg.Group, err)
	}
	return &Membership{cfg: cfg, conf: conf}, nil
}

// Run is a member of the group until ctx ends, and then returns nil once every Own has returned. It rejoins after any
// trouble, for ever, with two exceptions, both final. ErrFencedInstance means that another process joined with the same
// instance id: a membership of that id must not be run again by this process, or it would throw the successor out.
// ErrGroupGone means that somebody deleted the group since this member joined it, which is how the removal of a pipeline
// begins. Call Run once.
func (m *Membership) Run(ctx context.Context, handler Handler) error {
	conf, wires := wireUp(m.conf)
	defer wires.cut()
	group, closeGroup := m.join(ctx, conf)
	if group == nil {
		return nil // ctx ended
	}
	stopParting := context.AfterFunc(ctx, func() {
		time.AfterFunc(partingTime, wires.cut)
	})
	defer stopParting()

	watch := newWatcher(m)
	errorsRead := make(chan struct{})
	go func() {
		defer close(errorsRead)
		for err := range group.Errors() {
			watch.note(err)
		}
	}()
	defer func() { <-errorsRead }()
	defer closeGroup()
	if m.cfg.InstanceID != "" {
		watching, stopWatching := context.WithCancel(ctx)
		var watched sync.WaitGroup
		watched.Go(func() { m.watchOrphans(watching) })
		defer watched.Wait()
		defer stopWatching()
	}

	pause := newBackoff(100*time.Millisecond, 10*time.Second)
	member := false // it has been one
	for ctx.Err() == nil {
		if member {
			exists, err := m.cfg.Cluster.GroupExists(ctx, m.cfg.Group)
			if err != nil {
				watch.note(err)
				pause.wait(ctx)
				continue
			}
			if !exists {
				return fmt.Errorf("%w: group %s; nothing more is read or written for it here", ErrGroupGone, m.cfg.Group)
			}
		}
		s := &session{m: m, watch: watch, group: group, handler: handler}
		err := group.Consume(ctx, m.cfg.Topics, s)
		watch.note(err)
		watch.note(s.cause())
		if watch.isFenced() {
			return fmt.Errorf("%w: group %s, instance id %s", ErrFencedInstance, m.cfg.Group, m.cfg.InstanceID)
		}
		if s.joined {
			member = true
			pause.reset()
		}
		pause.wait(ctx)
	}
	return nil
}

// join makes the group object, once: a second one under the same instance id could throw a successor out. nil means ctx
// ended first.
func (m *Membership) join(ctx context.Context, conf *sarama.Config) (sarama.ConsumerGroup, func()) {
	pause := newBackoff(100*time.Millisecond, 10*time.Second)
	for {
		err := reachable(ctx, m.conf, m.cfg.Config.Brokers)
		if err == nil {
			var client sarama.Client
			if client, err = sarama.NewClient(m.cfg.Config.Brokers, conf); err == nil {
				var group sarama.ConsumerGroup
				if group, err = sarama.NewConsumerGroupFromClient(m.cfg.Group, client); err == nil {
					return group, func() {
						_ = group.Close() // its errors went to the channel or are about a broker that is gone
						_ = client.Close()
					}
				}
				_ = client.Close()
			}
		}
		if ctx.Err() == nil {
			m.trouble(err)
		}
		if !pause.wait(ctx) {
			return nil, nil
		}
	}
}

func (m *Membership) trouble(err error) {
	if m.cfg.OnTrouble != nil {
		m.cfg.OnTrouble(err)
	}
}
