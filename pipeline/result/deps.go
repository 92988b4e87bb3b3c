package result

import (
	"context"

	"millrace/pipeline/publish"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// State is what the closer needs of Redis; *store.Store is one.
type State interface {
	LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error)
	ReadMeta(ctx context.Context, id store.LaneID) (m store.Meta, found bool, err error)
	ReadSlice(ctx context.Context, id store.LaneID, stateID string, slice store.SliceID, from, to int,
		fn func(bucket int, key, entry []byte) error) (store.Guard, error)

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
