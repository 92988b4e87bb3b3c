package lane

import (
	"context"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
)

// deliverCommit does what a committer does without a journal, once.
func deliverCommit(ctx context.Context, st deliver.Applier, side deliver.SideSender, id store.LaneID, stateID string, owner store.Token, c *fold.Commit) error {
	if err := deliver.PublishSides(ctx, c, side); err != nil {
		return err
	}
	_, err := st.Apply(ctx, id, stateID, owner, c.Calls)
	return err
}
