package deliver

import (
	"context"
	"sync/atomic"

	"millrace/pipeline/journal"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// journalSender takes a commit when the journal is not empty, when Redis must not be tried, and when Redis has been tried
// long enough. A journal that cannot take it, for now or for good, makes it wait: for room, or until the journal is
// drained and Redis takes commits again.
type journalSender struct {
	tail    *journal.Tail
	route   Route
	disk    context.Context // what is on its way to the disk is waited for as long as this
	hurry   atomic.Bool     // the lane must go: the journal at the first failure
	spilled chan struct{}   // capacity 1: something was put into the journal
	clock   *stage.Clock
	next    sender
}

func (s *journalSender) send(ctx context.Context, a *attempt) error {
	barred := s.tail.Pending().Calls > 0 || !s.route.Direct()
	if barred || a.failed && (a.left <= 0 || s.hurry.Load()) {
		before := s.clock.Enter(stage.Journal)
		err := s.tail.Append(s.disk, a.commit.Offset, a.commit.Calls, a.commit.Side)
		s.clock.Enter(before)
		select {
		case s.spilled <- struct{}{}: // after an error as well: a part of the commit may be there, which bars Redis until it is drained
		default:
		}
		if err == nil {
			a.journaled = true
			return nil
		}
		if barred || store.IsFinal(err) {
			return err
		}
	}
	if a.left > 0 { // a Redis that is slow rather than away must not hold the commit back
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.left)
		defer cancel()
	}
	return s.next.send(ctx, a)
}
