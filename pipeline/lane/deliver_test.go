package lane

import (
	"context"

	"millrace/pipeline/store"
)

// deliverCommit does what a committer does without a journal, once.
func deliverCommit(ctx context.Context, st Applier, side SideSender, id store.LaneID, stateID string, owner store.Token, c *Commit) error {
	if err := c.PublishSides(ctx, side); err != nil {
		return err
	}
	_, err := st.Apply(ctx, id, stateID, owner, c.Calls)
	return err
}
