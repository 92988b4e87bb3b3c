package ledger

import (
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
}

// Key is the key of the floor's records in the ledger topic.
func (f *Floor) Key() []byte {
	k := append([]byte(`{"floor":`), jsonString(f.Window)...)
	k = strconv.AppendInt(append(k, `,"edition":`...), int64(f.Edition), 10)
	return append(k, '}')
}

// MarshalJSON writes the form that stands in the ledger topic.
func (f Floor) MarshalJSON() ([]byte, error) {
	return json.Marshal(floorJSON{
		Type: TypeFloor, Version: RowVersion, Pipeline: f.Pipeline, Window: f.Window, Edition: f.Edition,
		Floor: window.FormatTime(f.End), Spec: f.Spec, RaisedAt: window.FormatTime(f.RaisedAt),
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
	}
	return nil
}
