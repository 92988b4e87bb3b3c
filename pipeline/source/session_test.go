package source

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// stubSession is a session whose generation and claims a test sets.
type stubSession struct {
	sarama.ConsumerGroupSession
	ctx context.Context

	mu         sync.Mutex
	generation int32
	claims     map[string][]int32
}

func (s *stubSession) Context() context.Context { return s.ctx }

func (s *stubSession) GenerationID() int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

func (s *stubSession) Claims() map[string][]int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims
}

func (s *stubSession) next(replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	if replaced {
		s.claims = map[string][]int32{"t": {0}}
	}
}

type stubClaim struct {
	sarama.ConsumerGroupClaim
	messages chan *sarama.ConsumerMessage
	watch    *watcher
}

// lost is what sarama does when the claim's own fetch is out of range.
func (c *stubClaim) lost() {
	close(c.messages)
	c.watch.note(&sarama.ConsumerError{Topic: "t", Err: sarama.ErrOffsetOutOfRange})
}

func (c *stubClaim) Topic() string                            { return "t" }
func (c *stubClaim) Partition() int32                         { return 0 }
func (c *stubClaim) Messages() <-chan *sarama.ConsumerMessage { return c.messages }

// pass lets time go by in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

type stubGroup struct{ sarama.ConsumerGroup }

func (stubGroup) Pause(map[string][]int32) {}

// sarama closes a claim's messages when it is revoked, and also when its own fetch was out of range.
func TestClaimWhoseMessagesClose(t *testing.T) {
	const rebalanceTimeout = 30 * time.Second
	for _, test := range []struct {
		name string
		// happens is what goes on while the claim is held; then it must still be held, or not.
		happens func(s *stubSession, c *stubClaim, end context.CancelFunc)
		held    bool
		cause   error
	}{
		{"nothing", func(*stubSession, *stubClaim, context.CancelFunc) { pass(time.Hour) }, true, nil},
		{"the session ends", func(_ *stubSession, _ *stubClaim, end context.CancelFunc) { end() }, false, ErrSessionEnded},
		{"messages come", func(_ *stubSession, c *stubClaim, _ context.CancelFunc) { c.messages <- nil; c.messages <- nil }, true, nil},
		{"revoked", func(s *stubSession, c *stubClaim, _ context.CancelFunc) { s.next(false); close(c.messages) }, false, ErrRevoked},
		{"revoked before it knew its generation", func(_ *stubSession, c *stubClaim, _ context.CancelFunc) {
			close(c.messages)
			pass(sayTime + time.Second)
		}, false, ErrRevoked},
		{"out of range", func(s *stubSession, c *stubClaim, _ context.CancelFunc) { c.lost(); pass(time.Hour) }, true, nil},
		{"out of range, then retained again and again", func(s *stubSession, c *stubClaim, _ context.CancelFunc) {
			c.lost()
			for range 5 {
				pass(time.Second)
				s.next(false)
				pass(rebalanceTimeout / 6) // others let go meanwhile
				s.next(true)
			}
			pass(time.Hour)
		}, true, nil},
		{"out of range, then revoked", func(s *stubSession, c *stubClaim, _ context.CancelFunc) {
			c.lost()
			pass(time.Second)
			s.next(false)
			pass(rebalanceTimeout / 2)
		}, false, ErrRevoked},
		{"out of range, then the session ends", func(_ *stubSession, c *stubClaim, end context.CancelFunc) {
			c.lost()
			pass(time.Second)
			end()
		}, false, ErrSessionEnded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conf := sarama.NewConfig()
				conf.Consumer.Group.Rebalance.Timeout = rebalanceTimeout
				ctx, end := context.WithCancel(t.Context())
				defer end()
				l := newLanes()
				sess := &stubSession{ctx: ctx, generation: 1, claims: map[string][]int32{"t": {0}}}
				m := &Membership{conf: conf}
				c := &stubClaim{messages: make(chan *sarama.ConsumerMessage), watch: newWatcher(m)}
				s := &session{m: m, watch: c.watch, group: stubGroup{}, handler: l, sess: sess}
				done := make(chan error, 1)
				go func() { done <- s.ConsumeClaim(sess, c) }()
				synctest.Wait()
				test.happens(sess, c, end)
				synctest.Wait()
				require.Equal(t, test.held, len(l.owned) == 1)
				require.Len(t, done, map[bool]int{true: 0, false: 1}[test.held])
				end()
				synctest.Wait()
				require.NoError(t, <-done)
				require.Len(t, l.causes, 1)
				if test.cause != nil {
					require.ErrorIs(t, l.causes[0], test.cause)
				}
			})
		})
	}
}
