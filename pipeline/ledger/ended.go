package ledger

import (
	"encoding/json"
	"fmt"

	"millrace/pipeline/window"
)

// Ended says that a removal has ended an edition of the pipeline: no row or floor before it in the slot's partition binds
// anybody, and what is published next belongs to the edition after it. It stands in every slot's partition under one
// record key, so that compaction keeps the latest, and is never tombstoned.
type Ended struct {
	Pipeline string
	Edition  int
	EndedAt  int64 // ms, the remover's clock; for people only
}

type endedJSON struct {
	Type     string `json:"type"`
	Version  int    `json:"version"`
	Pipeline string `json:"pipeline"`
	Edition  int    `json:"edition"`
	EndedAt  string `json:"ended_at"`
}

// Key is the key of the record in the ledger topic.
func (e *Ended) Key() []byte { return []byte(`{"ended":true}`) }

// MarshalJSON writes the form that stands in the ledger topic.
func (e Ended) MarshalJSON() ([]byte, error) {
	return json.Marshal(endedJSON{
		Type: TypeEnded, Version: RowVersion, Pipeline: e.Pipeline, Edition: e.Edition, EndedAt: window.FormatTime(e.EndedAt),
	})
}

// UnmarshalJSON reads what MarshalJSON wrote; a record of a later version is a *VersionError.
func (e *Ended) UnmarshalJSON(data []byte) error {
	var in endedJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("end of an edition: %w", err)
	}
	if in.Version > RowVersion {
		return &VersionError{Found: in.Version}
	}
	at, err := window.ParseTime(in.EndedAt)
	if err != nil {
		return fmt.Errorf("end of an edition: %w", err)
	}
	*e = Ended{Pipeline: in.Pipeline, Edition: in.Edition, EndedAt: at}
	return nil
}
