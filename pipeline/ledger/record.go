package ledger

import (
	"encoding/json"
	"fmt"

	"millrace/pipeline/source"
	"millrace/pipeline/window"
)

// Types of records in the ledger topic. A row of a window has none; decisions and editions are reserved.
const (
	TypeRow         = ""
	TypeFloor       = "floor"
	TypeEnded       = "ended"
	TypeCertificate = "certificate"
)

// Record is a record of the ledger topic. At most one of the pointers is set; none is for a record of a type that this version
// does not know.
type Record struct {
	Type        string
	Row         *Row
	Floor       *Floor
	Ended       *Ended
	Certificate *Certificate
	Tombstone   *WindowID // the window whose rows were given up
	Uncertified *WindowID // the window whose certificate was given up
	Partition   int32
	Offset      int64
}

// ParseRecord reads a record of the ledger topic. Its errors wrap ErrCorrupt and name the record.
func ParseRecord(tp source.TopicPartition, r source.Record) (Record, error) {
	rec := Record{Partition: tp.Partition, Offset: r.Offset}
	corrupt := func(err error) (Record, error) {
		return rec, fmt.Errorf("%w: %s, offset %d: %w", ErrCorrupt, tp, r.Offset, err)
	}
	if r.Value == nil {
		rec.Tombstone, rec.Uncertified = parseKey(r.Key), parseCertificateKey(r.Key)
		return rec, nil
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(r.Value, &head); err != nil {
		return corrupt(err)
	}
	switch rec.Type = head.Type; head.Type {
	case TypeRow:
		rec.Row = new(Row)
		if err := json.Unmarshal(r.Value, rec.Row); err != nil {
			return corrupt(err)
		}
	case TypeFloor:
		rec.Floor = new(Floor)
		if err := json.Unmarshal(r.Value, rec.Floor); err != nil {
			return corrupt(err)
		}
	case TypeEnded:
		rec.Ended = new(Ended)
		if err := json.Unmarshal(r.Value, rec.Ended); err != nil {
			return corrupt(err)
		}
	case TypeCertificate:
		rec.Certificate = new(Certificate)
		if err := json.Unmarshal(r.Value, rec.Certificate); err != nil {
			return corrupt(err)
		}
	}
	return rec, nil
}

// parseKey reads the key of a window's records, nil for any other key.
func parseKey(key []byte) *WindowID {
	var in struct {
		Window *string `json:"window"`
		Start  string  `json:"start"`
	}
	if json.Unmarshal(key, &in) != nil || in.Window == nil {
		return nil
	}
	start, err := window.ParseTime(in.Start)
	if err != nil {
		return nil
	}
	return &WindowID{*in.Window, start}
}
