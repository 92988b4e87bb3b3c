package source

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// watcher sees every error of a membership.
type watcher struct {
	m      *Membership
	once   sync.Once
	fenced chan struct{}

	mu       sync.Mutex
	outRange map[TopicPartition]chan struct{} // of the claims held: closed when the claim's own fetch was out of range
}

func newWatcher(m *Membership) *watcher {
	return &watcher{m: m, fenced: make(chan struct{}), outRange: make(map[TopicPartition]chan struct{})}
}

// claimed returns a channel that is closed when the claim's own fetch turns out to be out of range.
func (w *watcher) claimed(tp TopicPartition) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{})
	w.outRange[tp] = ch
	return ch
}

func (w *watcher) noteOutOfRange(tp TopicPartition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch, ok := w.outRange[tp]; ok {
		close(ch)
		delete(w.outRange, tp)
	}
}

func (w *watcher) note(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	var consumer *sarama.ConsumerError
	if errors.As(err, &consumer) && errors.Is(consumer.Err, sarama.ErrOffsetOutOfRange) {
		w.noteOutOfRange(TopicPartition{Topic: consumer.Topic, Partition: consumer.Partition})
	}
	if errors.Is(err, sarama.ErrFencedInstancedId) {
		w.once.Do(func() { close(w.fenced) })
	}
	w.m.trouble(fmt.Errorf("consumer group %s: %w", w.m.cfg.Group, err))
}

func (w *watcher) isFenced() bool {
	select {
	case <-w.fenced:
		return true
	default:
		return false
	}
}

// session handles one session of the group. Under cooperative rebalancing it lasts over rebalances: claims come and go.
type session struct {
	m       *Membership
	watch   *watcher
	group   sarama.ConsumerGroup
	handler Handler
	joined  bool

	sess      sarama.ConsumerGroupSession
	marked    atomic.Bool // hints wait to be committed
	stopHints chan struct{}
	hintsDone chan struct{}
}

func (s *session) Setup(sess sarama.ConsumerGroupSession) error {
	s.joined = true
	s.sess = sess
	s.stopHints, s.hintsDone = make(chan struct{}), make(chan struct{})
	go s.commitHints()
	return nil
}

// Cleanup runs when all claims have ended, and commits what they marked last.
func (s *session) Cleanup(sarama.ConsumerGroupSession) error {
	close(s.stopHints)
	<-s.hintsDone
	return nil
}

// cause is why the session ended.
func (s *session) cause() error {
	if s.sess == nil {
		return nil
	}
	return context.Cause(s.sess.Context())
}

func (s *session) commitHints() {
	defer close(s.hintsDone)
	ticker := time.NewTicker(s.m.cfg.HintInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.flushHints()
		case <-s.stopHints:
			s.flushHints()
			return
		}
	}
}

func (s *session) flushHints() {
	if s.marked.Swap(false) {
		s.sess.Commit()
	}
}

// ConsumeClaim holds one claim. Returning while the session lives and the claim was not revoked ends the session and so
// restarts every lane: it must not happen.
func (s *session) ConsumeClaim(sess sarama.ConsumerGroupSession, sc sarama.ConsumerGroupClaim) error {
	s.group.Pause(map[string][]int32{sc.Topic(): {sc.Partition()}})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c := &claim{session: s, tp: TopicPartition{Topic: sc.Topic(), Partition: sc.Partition()}, ctx: ctx}
	generation, claims := sess.GenerationID(), sess.Claims()
	outOfRange := s.watch.claimed(c.tp)
	owned := make(chan struct{})
	go func() {
		defer close(owned)
		s.handler.Own(ctx, c)
	}()
	if drain(sess.Context(), sc.Messages()) && sess.GenerationID() == generation && saidWithin(sess.Context(), outOfRange, sayTime) {
		// Nobody revoked it: the claim's own fetch, sent before it was paused, was out of range. That says nothing about
		// the lane, which reads for itself. Keep holding.
		s.holdBlindly(sess, generation, claims)
	}
	if err := context.Cause(sess.Context()); err != nil {
		cancel(fmt.Errorf("%w: %w", ErrSessionEnded, err))
	} else {
		cancel(ErrRevoked)
	}
	<-owned
	s.flushHints()
	return nil
}

// sayTime is how long the error behind a closed claim may take to arrive. A claim that is revoked right after it was
// made may have been given the generation of its revocation, so an unchanged generation alone says nothing.
const sayTime = 2 * time.Second

// saidWithin reports whether ch is closed before d has passed.
func saidWithin(ctx context.Context, ch <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// drain throws messages away until the claim's channel closes (true) or the session ends (false).
func drain(ctx context.Context, messages <-chan *sarama.ConsumerMessage) bool {
	for {
		select {
		case _, ok := <-messages:
			if !ok {
				return ctx.Err() == nil
			}
		case <-ctx.Done():
			return false
		}
	}
}

// holdBlindly holds a claim whose channel has closed, so that a later revocation cannot be seen. A revocation goes with a
// new generation, and sarama then replaces the session's claims only when every revoked claim has returned. So: claims
// replaced in time, the claim is still ours; not replaced, it may be us they wait for, and we let go.
func (s *session) holdBlindly(sess sarama.ConsumerGroupSession, generation int32, claims map[string][]int32) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	patience := s.m.conf.Consumer.Group.Rebalance.Timeout / 3
	var since time.Time
	for {
		select {
		case <-sess.Context().Done():
			return
		case now := <-ticker.C:
			replaced := sess.Claims()
			switch {
			case reflect.ValueOf(replaced).Pointer() != reflect.ValueOf(claims).Pointer():
				generation, claims, since = sess.GenerationID(), replaced, time.Time{}
			case sess.GenerationID() == generation:
			case since.IsZero():
				since = now
			case now.Sub(since) > patience:
				return
			}
		}
	}
}
