package deliver

import (
	"context"

	"millrace/pipeline/journal"
)

// publishOwed publishes the side records that wait in the journals of the lane's earlier tokens: the lane has written its
// memory again and will not read their events once more. It is false when the lane must not go on, or ctx ended before.
func (c *Committer) publishOwed(ctx context.Context) bool {
	pause := drainAgain
	for len(c.owed) > 0 {
		lost, err := c.attempts.SendOwed(ctx, c.owed[0])
		if JournalUnreadable(err) {
			c.out <- Result{Err: err}
			return false
		}
		c.failed(err)
		if err != nil {
			if !wait(ctx, pause) {
				return false
			}
			pause = min(2*pause, drainSlower)
			continue
		}
		if lost > 0 {
			c.out <- Result{Unsent: lost}
		}
		c.owed = c.owed[1:]
	}
	return true
}

// SendOwed makes one attempt at publishing the side records in the journal of an earlier token, and gives the journal up
// when they are. It returns how many of its records were lost with their side records.
//
// What cannot be read there is read from Kafka again, by a lane that starts from what Redis has. Where Redis has nothing,
// nobody but this lane knows the state: it goes on, and what is missing from the late and dead-letter topics is counted and
// said.
func (s *Sender) SendOwed(ctx context.Context, owed *journal.Tail) (lost int64, err error) {
	lost, err = owed.Sides(ctx, Fitting(s.deps.Side), s.cfg.Journal.OnlyCopy)
	if err != nil {
		return 0, err
	}
	if lost > 0 {
		s.deps.Log.ErrorContext(ctx, "records of the journal cannot be read: the late and dead-letter records in them are lost",
			"lane", s.cfg.Lane.String(), "records", lost)
	}
	owed.Supersede("redis forgot acknowledged writes, the lane has written its state again")
	owed.Close()
	return lost, nil
}
