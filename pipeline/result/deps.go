package result

import (
	"context"

	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// State is what the closer needs of Redis; *store.Store is one.
type State interface {
	merge.SliceReader

	ReadCtl(ctx context.Context, ids ...store.LaneID) ([]store.Ctl, error)
	SetSeal(ctx context.Context, id store.LaneID, owner store.Token, before int64) (store.Ctl, error)
	SetDrop(ctx context.Context, id store.LaneID, owner store.Token, before int64) (store.Ctl, error)
	AskRewrite(ctx context.Context, id store.LaneID, owner store.Token, seq int64) error

	publish.State
}

// Kafka is what the closer needs of Kafka; *publish.Client is one.
type Kafka interface {
	survey.Topics
	publish.Kafka
}
