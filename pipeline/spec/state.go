package spec

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"millrace/pipeline/calendar"
)

// stateFormat is raised when lane state of the same spec takes another shape or meaning, so that old state is not read
// as new.
const stateFormat = 1

// StateID names the lane state this spec produces: 16 hexadecimal digits of a hash over everything a lane's decisions
// and entries depend on. Topics, sinks and tunables other than the bucket count are left out: they may change without
// giving up state.
func (s *Spec) StateID() string {
	event := s.Event
	if event.MaxValueBytes == s.defaultValueBytes() || s.texts() == 0 {
		event.MaxValueBytes = 0 // it follows from the rest, and specs from before it have kept their state
	}
	event.MaxJumpStreak = 0 // it decides when the operator is asked, not what becomes of an event
	text, err := encode(struct {
		Format     int
		Encoding   string
		Event      Event
		Where      string
		Aggregates []Aggregate
		Windows    []Window
		Lateness   Duration
		Disorder   Duration
		Buckets    int
	}{
		Format: stateFormat, Encoding: s.Source.Format, Event: event, Where: s.Where, Aggregates: s.Aggregates,
		Windows: s.Windows, Lateness: s.AllowedLateness, Disorder: s.Watermark.OutOfOrderness, Buckets: s.Lane.Buckets,
	})
	if err != nil { // structs of strings and numbers always encode
		text = []byte(err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// JSON renders the canonical form: one line, every default spelled out, aggregates as a list in the order of the file.
// Parse reads it back to an equal Spec.
func (s *Spec) JSON() ([]byte, error) {
	text, err := encode(s)
	if err != nil {
		return nil, fmt.Errorf("spec %s: encode: %w", s.Name, err)
	}
	return text, nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// Version names the whole spec: 16 hexadecimal digits of a hash over its canonical form and, when a roll-up has a time zone
// other than UTC, over the zones that this program knows. Unlike StateID it changes with every option but how Redis holds
// what is published, of which nothing that is counted depends.
func (s *Spec) Version() string {
	counted := *s
	counted.Results.Redis = nil
	zones := ""
	for i := range s.Rollups {
		if s.Rollups[i].Timezone != calendar.UTC {
			zones = calendar.DataHash()
		}
	}
	text, err := encode(struct {
		*Spec
		Zones string `json:"zones,omitempty"`
	}{&counted, zones})
	if err != nil { // structs of strings and numbers always encode
		text = []byte(err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
