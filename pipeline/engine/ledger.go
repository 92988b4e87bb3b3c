package engine

import (
	"context"

	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
)

// ledgerReader answers lanes of which neither Redis nor the group knows anything.
type ledgerReader struct{ log ledger.Log }

// Published implements lane.Ledger.
func (l ledgerReader) Published(ctx context.Context, id store.LaneID, topicID string) (lane.Published, error) {
	r, err := ledger.ReadLane(ctx, l.log, id.Pipeline, id.Topic, id.Partition, topicID)
	return lane.Published{Windows: r.Windows, Offset: r.Offset}, err
}
