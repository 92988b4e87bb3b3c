package deliver

import (
	"context"
	"math/rand/v2"
	"time"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// Pauses before a commit is tried again: they double, with as much again at random, so that lanes do not come at once.
const (
	retryFirst     = 20 * time.Millisecond
	retryLongest   = 2 * time.Second
	retryJournaled = 100 * time.Millisecond // the longest beside a journal: it may be the drain that the commit waits for
)

// retry tries until the commit is durable, the chain is broken or ctx ends.
func (c *Committer) retry(ctx context.Context, commit *fold.Commit) Result {
	began := time.Now()
	commit.SetUpdatedAt(began.UnixMilli())
	longest := retryLongest
	if c.attempts.journal != nil {
		longest = retryJournaled
	}
	pause := retryFirst
	for failed := false; ; failed = true {
		journaled, err := c.attempts.Send(ctx, commit, failed, c.cfg.Grace-time.Since(began))
		if err == nil && failed && !journaled {
			c.failed(nil)
		}
		if err == nil || store.IsFinal(err) || ctx.Err() != nil {
			now := time.Now()
			return Result{Commit: commit, Journaled: journaled, Err: err, Took: now.Sub(began), At: now}
		}
		c.failed(err)
		if pause < longest || c.attempts.journal == nil {
			c.deps.Log.WarnContext(ctx, "commit not accepted, trying again", "lane", c.cfg.Lane.String(), "offset", commit.Offset,
				"in", pause, "error", err)
		}
		c.cfg.Clock.Enter(stage.Pause)
		waited := wait(ctx, pause/2+rand.N(pause))
		c.cfg.Clock.Enter(stage.Rest)
		if !waited {
			return Result{Commit: commit, Err: ctx.Err()}
		}
		pause = min(2*pause, longest)
	}
}
