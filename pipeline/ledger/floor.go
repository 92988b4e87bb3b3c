package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"millrace/pipeline/window"
)

// Floor says of one slot, window family and edition that every window that ends at or before End is final, whether it
// has a row or not. It says nothing about other slots, families and editions. It stands in the slot's partition under a
// record key of its own, so that compaction keeps the latest, and is never tombstoned.
type Floor struct {
	Pipeline string
	Window   string // the family
	Edition  int
	End      int64  // ms
	Spec     string // version of the spec that raised it
	RaisedAt int64  // ms, the closer's clock; for people only

	// RowsFrom is an offset of the floor's own partition: no record below it is in force any more. Whatever stands there was
	// superseded, tombstoned or aborted, so a reader of the partition may begin here. It only grows.
	RowsFrom int64
	// Ended is the last edition that has ended in the floor's partition, 0 for none: the record that says so may lie below
	// RowsFrom.
	Ended int
	// Lanes is how far each lane had committed when the floor was raised to End. A window at or below End has no event at
	// or above these offsets.
	Lanes []FloorLane
}

// FloorLane is what a floor says about one lane.
type FloorLane struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	TopicID   string `json:"topic_id,omitempty"` // that the offset belongs to; "" when it is not known
	Era       int64  `json:"era,omitempty"`      // offsets of two eras say nothing about each other
}

// Lane returns what the floor says about a lane, and false for a lane that did not exist when it was raised.
func (f *Floor) Lane(topic string, partition int32) (FloorLane, bool) {
	for _, l := range f.Lanes {
		if l.Partition == partition && l.Topic == topic {
			return l, true
		}
	}
	return FloorLane{}, false
}

type floorJSON struct {
	Type     string `json:"type"`
	Version  int    `json:"version"`
	Pipeline string `json:"pipeline"`
	Window   string `json:"window"`
	Edition  int    `json:"edition"`
	Floor    string `json:"floor"`
	Spec     string `json:"spec"`
	RaisedAt string `json:"raised_at"`

	RowsFrom int64       `json:"rows_from,omitempty"`
	Ended    int         `json:"ended_edition,omitempty"`
	Lanes    []FloorLane `json:"lanes,omitempty"`
}

const floorKeyPrefix = `{"floor":`

// IsFloorKey reports whether a key is that of a floor's records.
func IsFloorKey(key []byte) bool { return bytes.HasPrefix(key, []byte(floorKeyPrefix)) }

// Key is the key of the floor's records in the ledger topic.
func (f *Floor) Key() []byte {
	k := append([]byte(floorKeyPrefix), jsonString(f.Window)...)
	k = strconv.AppendInt(append(k, `,"edition":`...), int64(f.Edition), 10)
	return append(k, '}')
}

// MarshalJSON writes the form that stands in the ledger topic.
func (f Floor) MarshalJSON() ([]byte, error) {
	return json.Marshal(floorJSON{
		Type: TypeFloor, Version: RowVersion, Pipeline: f.Pipeline, Window: f.Window, Edition: f.Edition,
		Floor: window.FormatTime(f.End), Spec: f.Spec, RaisedAt: window.FormatTime(f.RaisedAt),
		RowsFrom: f.RowsFrom, Ended: f.Ended, Lanes: f.Lanes,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote; a floor of a later version is a *VersionError.
func (f *Floor) UnmarshalJSON(data []byte) error {
	var in floorJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	if in.Version > RowVersion {
		return &VersionError{Found: in.Version}
	}
	end, err := window.ParseTime(in.Floor)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	raised, err := window.ParseTime(in.RaisedAt)
	if err != nil {
		return fmt.Errorf("floor: raised_at: %w", err)
	}
	*f = Floor{
		Pipeline: in.Pipeline, Window: in.Window, Edition: in.Edition, End: end, Spec: in.Spec, RaisedAt: raised,
		RowsFrom: in.RowsFrom, Ended: in.Ended, Lanes: in.Lanes,
	}
	return nil
}
