package result

import (
	"context"
	"errors"

	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// lossRounds is for how many rounds a part of a lane's state may be missing before it is an incident. A lane that runs
// notices slices that are gone within a second, and follows a request to write its entries within another.
const lossRounds = 10

// wholeView returns a *LossError if Redis does not hold all slices of a lane. Which of them are gone nobody can know, so no
// window is published.
func (c *Closer) wholeView(v *view) *LossError {
	for i := range v.Lanes {
		if l := &v.Lanes[i]; l.Loss != nil {
			return c.lossOf(l.ID, l.Loss)
		}
	}
	return nil
}

func (c *Closer) lossOf(id store.LaneID, err error) *LossError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &LossError{Lane: id, Err: err, Lasting: c.losses[id] >= lossRounds}
}

// countLosses notes at the end of a round which lanes lack a part of their state.
func (c *Closer) countLosses(v *view, results []done) {
	lacking := make(map[store.LaneID]struct{})
	for i := range v.Lanes {
		if v.Lanes[i].Loss != nil {
			lacking[v.Lanes[i].ID] = struct{}{}
		}
	}
	for i := range results {
		var loss *LossError
		if errors.As(results[i].err, &loss) {
			lacking[loss.Lane] = struct{}{}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.losses {
		if _, ok := lacking[id]; !ok {
			delete(c.losses, id)
		}
	}
	for id := range lacking {
		c.losses[id]++
	}
}

// askForEntries asks a lane to write its entries again, because those of a slice do not add up or cannot be read.
func (c *Closer) askForEntries(ctx context.Context, l *survey.Lane, loss error) error {
	if err := c.cfg.State.AskRewrite(ctx, l.ID, l.Meta.Owner, l.Meta.Cursor.Seq); err != nil {
		return err
	}
	return c.lossOf(l.ID, loss)
}
