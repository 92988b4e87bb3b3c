package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"

	"millrace/pipeline/window"
)

// Scopes of a certificate.
const (
	ScopeWhole     = "whole"             // whatever might have belonged to the window was read again
	ScopeFromFirst = "from first offset" // what lies before the window's first event was not
)

// Certificate says that a revision was counted again from the source topics and came out as published. It stands beside the
// window's row in its slot, under a record key of its own, and is given up with the row.
type Certificate struct {
	Pipeline    string
	Window      string
	Start       int64 // ms
	Edition     int
	Revision    int
	Replay      string // the id of the recount
	By          string
	CertifiedAt int64 // ms, the closer's clock
	Keys        int64
	Events      int64
	Checksum    string
	Scope       string // one of Scope...
	Lanes       []CertifiedLane
}

// CertifiedLane is what was read of one lane.
type CertifiedLane struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`               // offset of the first record read
	To        int64  `json:"to"`                 // offset after the last one
	TopicID   string `json:"topic_id,omitempty"` // that the offsets belong to; "" when it is not known
	Era       int64  `json:"era,omitempty"`
}

type certificateJSON struct {
	Type        string          `json:"type"`
	Version     int             `json:"version"`
	Pipeline    string          `json:"pipeline"`
	Window      string          `json:"window"`
	Start       string          `json:"start"`
	Edition     int             `json:"edition"`
	Revision    int             `json:"revision"`
	Replay      string          `json:"replay"`
	By          string          `json:"by"`
	CertifiedAt string          `json:"certified_at"`
	Keys        int64           `json:"keys"`
	Events      int64           `json:"events"`
	Checksum    string          `json:"checksum"`
	Scope       string          `json:"scope"`
	Lanes       []CertifiedLane `json:"lanes,omitempty"`
}

const certificateKeyPrefix = `{"certificate":`

// ID is the window that the certificate is about.
func (c *Certificate) ID() WindowID { return WindowID{c.Window, c.Start} }

// CertificateKey is the key of the window's certificates in the ledger topic.
func (w WindowID) CertificateKey() []byte {
	k := append([]byte(certificateKeyPrefix), jsonString(w.Window)...)
	k = window.AppendTime(append(k, `,"start":"`...), w.Start)
	return append(k, `"}`...)
}

// parseCertificateKey reads the key of a window's certificates, nil for any other key.
func parseCertificateKey(key []byte) *WindowID {
	if !bytes.HasPrefix(key, []byte(certificateKeyPrefix)) {
		return nil
	}
	var in struct {
		Window string `json:"certificate"`
		Start  string `json:"start"`
	}
	if json.Unmarshal(key, &in) != nil {
		return nil
	}
	start, err := window.ParseTime(in.Start)
	if err != nil {
		return nil
	}
	return &WindowID{in.Window, start}
}

// MarshalJSON writes the form that stands in the ledger topic.
func (c Certificate) MarshalJSON() ([]byte, error) {
	return json.Marshal(certificateJSON{
		Type: TypeCertificate, Version: RowVersion, Pipeline: c.Pipeline, Window: c.Window, Start: window.FormatTime(c.Start),
		Edition: c.Edition, Revision: c.Revision, Replay: c.Replay, By: c.By, CertifiedAt: window.FormatTime(c.CertifiedAt),
		Keys: c.Keys, Events: c.Events, Checksum: c.Checksum, Scope: c.Scope, Lanes: c.Lanes,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote; a certificate of a later version is a *VersionError.
func (c *Certificate) UnmarshalJSON(data []byte) error {
	var in certificateJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if in.Version > RowVersion {
		return &VersionError{Found: in.Version}
	}
	start, err := window.ParseTime(in.Start)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	at, err := window.ParseTime(in.CertifiedAt)
	if err != nil {
		return fmt.Errorf("certificate: certified_at: %w", err)
	}
	*c = Certificate{
		Pipeline: in.Pipeline, Window: in.Window, Start: start, Edition: in.Edition, Revision: in.Revision, Replay: in.Replay,
		By: in.By, CertifiedAt: at, Keys: in.Keys, Events: in.Events, Checksum: in.Checksum, Scope: in.Scope, Lanes: in.Lanes,
	}
	return nil
}
