package ledger

import (
	"context"
	"errors"

	"millrace/pipeline/source"
)

// LaneRecord is what the ledger says of one lane.
type LaneRecord struct {
	Windows int   // whose latest row covers offsets of the lane
	Offset  int64 // the highest that a row or a floor says was read, 0 without any
}

// laneSlot is what one partition of the ledger topic says of a lane.
type laneSlot struct {
	ended  int // rows and floors of this edition and those before it bind nobody
	covers map[WindowID]laneCover
	floors map[int]int64 // by edition
}

type laneCover struct {
	edition int
	offset  int64
}

// ReadLane reads the whole ledger topic for what it says of one lane since the pipeline was last removed. Rows are given up
// in time; what the lane had read for them stands in the floors. Offsets of another topic than topicID that had its name are
// left out, unless what the lane read then is not known ("", also of topicID). A pipeline without a ledger has never
// published anything.
func ReadLane(ctx context.Context, log Log, pipeline, topic string, partition int32, topicID string) (LaneRecord, error) {
	other := func(id string) bool { return id != "" && topicID != "" && id != topicID }
	slots := make(map[int32]*laneSlot)
	err := Read(ctx, log, pipeline, func(rec Record) error {
		s := slots[rec.Partition]
		if s == nil {
			s = &laneSlot{covers: make(map[WindowID]laneCover), floors: make(map[int]int64)}
			slots[rec.Partition] = s
		}
		switch {
		case rec.Ended != nil:
			s.ended = max(s.ended, rec.Ended.Edition)
		case rec.Row != nil:
			if c, ok := rec.Row.Cover(topic, partition); ok && rec.Row.coversLanes() && c.Offset > 0 && !other(c.TopicID) {
				s.covers[rec.Row.ID()] = laneCover{rec.Row.Edition, c.Offset}
			}
		case rec.Floor != nil:
			s.ended = max(s.ended, rec.Floor.Ended)
			if l, ok := rec.Floor.Lane(topic, partition); ok && !other(l.TopicID) {
				s.floors[rec.Floor.Edition] = max(s.floors[rec.Floor.Edition], l.Offset)
			}
		}
		return nil
	})
	if errors.Is(err, source.ErrUnknownTopic) {
		return LaneRecord{}, nil
	}
	var out LaneRecord
	for _, s := range slots {
		for _, c := range s.covers {
			if c.edition > s.ended {
				out.Windows++
				out.Offset = max(out.Offset, c.offset)
			}
		}
		for edition, offset := range s.floors {
			if edition > s.ended {
				out.Offset = max(out.Offset, offset)
			}
		}
	}
	return out, err
}
