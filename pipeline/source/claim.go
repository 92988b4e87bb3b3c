package source

import (
	"context"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// Claim is one partition this member was given. Its methods may be called from any goroutine, also after it ended.
type Claim interface {
	Topic() string
	Partition() int32
	// Generation and MemberID are those of now; both may change while the claim is retained.
	Generation() int32
	MemberID() string
	// StillAssigned asks the group coordinator with a heartbeat whether this member is still one, and whether it still
	// holds this partition. An error means nobody knows: ask again.
	StillAssigned(ctx context.Context) (bool, error)
	// StillMember asks the group coordinator with a heartbeat whether it still knows this member, also after the claim has
	// ended. Only a member may write the state of a lane that is on its way to a successor. An error means nobody knows.
	StillMember(ctx context.Context) (bool, error)
	// MarkHint moves the group's offset of this partition forwards (a lower or equal offset does nothing), ResetHint
	// backwards, or keeps it and replaces the metadata (a higher one does nothing). Hints are committed in the background
	// about once a second and when the claim ends; one may be lost. metadata is at most 4 KiB.
	MarkHint(offset int64, metadata string)
	ResetHint(offset int64, metadata string)
}

type claim struct {
	session *session
	tp      TopicPartition
	ctx     context.Context // the one given to Own
}

func (c *claim) Topic() string     { return c.tp.Topic }
func (c *claim) Partition() int32  { return c.tp.Partition }
func (c *claim) Generation() int32 { return c.session.sess.GenerationID() }
func (c *claim) MemberID() string  { return c.session.sess.MemberID() }

func (c *claim) StillAssigned(ctx context.Context) (bool, error) {
	m, sess := c.session.m, c.session.sess
	pause := newBackoff(50*time.Millisecond, time.Second)
	for {
		if c.ctx.Err() != nil || sess.Context().Err() != nil {
			return false, nil
		}
		member, generation := sess.MemberID(), sess.GenerationID()
		verdict, err := m.cfg.Cluster.heartbeat(ctx, m.cfg.Group, m.cfg.InstanceID, member, generation)
		if err != nil {
			return false, err
		}
		switch verdict {
		case sarama.ErrNoError, sarama.ErrRebalanceInProgress:
			return c.ctx.Err() == nil && slices.Contains(sess.Claims()[c.tp.Topic], c.tp.Partition), nil
		case sarama.ErrUnknownMemberId, sarama.ErrFencedInstancedId, sarama.ErrGroupIDNotFound:
			if member == sess.MemberID() {
				return false, nil
			}
		case sarama.ErrIllegalGeneration:
			// Either a rejoin is under way, and the session will have the next generation in a moment; or the member is
			// out, and the session's own heartbeat will end it.
		default:
			return false, verdict
		}
		if !pause.wait(ctx) {
			return false, context.Cause(ctx)
		}
	}
}

func (c *claim) StillMember(ctx context.Context) (bool, error) {
	m, sess := c.session.m, c.session.sess
	verdict, err := m.cfg.Cluster.heartbeat(ctx, m.cfg.Group, m.cfg.InstanceID, sess.MemberID(), sess.GenerationID())
	if err != nil {
		return false, err
	}
	switch verdict {
	case sarama.ErrNoError, sarama.ErrRebalanceInProgress, sarama.ErrIllegalGeneration:
		return true, nil
	case sarama.ErrUnknownMemberId, sarama.ErrFencedInstancedId, sarama.ErrGroupIDNotFound:
		return false, nil
	}
	return false, verdict
}

func (c *claim) MarkHint(offset int64, metadata string) {
	c.session.sess.MarkOffset(c.tp.Topic, c.tp.Partition, offset, metadata)
	c.session.marked.Store(true)
}

func (c *claim) ResetHint(offset int64, metadata string) {
	c.session.sess.ResetOffset(c.tp.Topic, c.tp.Partition, offset, metadata)
	c.session.marked.Store(true)
}
