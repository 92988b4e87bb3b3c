package ledger

import (
	"context"
	"errors"

	"millrace/pipeline/source"
)

// LaneRecord is what the ledger says of one lane.
type LaneRecord struct {
	Windows int    // whose latest row covers offsets of the lane
	Offset  int64  // highest of them, 0 without any
	TopicID string // that the offset belongs to; "" in rows of version 1
}

// ReadLane reads the whole ledger topic for what it says of one lane since the pipeline was last removed. A pipeline
// without a ledger has never published anything.
func ReadLane(ctx context.Context, log Log, pipeline, topic string, partition int32) (LaneRecord, error) {
	slots := make(map[int32]map[WindowID]Cover)
	err := Read(ctx, log, pipeline, func(rec Record) error {
		switch {
		case rec.Ended != nil:
			delete(slots, rec.Partition)
		case rec.Row != nil:
			cover, ok := rec.Row.Cover(topic, partition)
			if !ok || cover.Offset <= 0 {
				return nil
			}
			if slots[rec.Partition] == nil {
				slots[rec.Partition] = make(map[WindowID]Cover)
			}
			slots[rec.Partition][rec.Row.ID()] = cover
		}
		return nil
	})
	if errors.Is(err, source.ErrUnknownTopic) {
		return LaneRecord{}, nil
	}
	var out LaneRecord
	for _, covers := range slots {
		for _, cover := range covers {
			out.Windows++
			if cover.Offset > out.Offset {
				out.Offset, out.TopicID = cover.Offset, cover.TopicID
			}
		}
	}
	return out, err
}
