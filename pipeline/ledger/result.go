package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"millrace/pipeline/window"
)

// ResultRow is one published line: the values of one key in one revision of a window. Its JSON is the value of a record
// in the result topic and a line of every results file. Start and End are milliseconds since the epoch, in JSON RFC 3339
// in UTC.
type ResultRow struct {
	Pipeline   string
	Window     string
	Start, End int64
	Edition    int             // of the pipeline; the first is left out, and read as 0
	Key        json.RawMessage // object in the order of the spec's key fields; also the key of the Kafka record
	Revision   int
	Values     json.RawMessage // object in the order of the spec's aggregates
	Overflow   bool            // at least one value is null because it does not fit its type
	Deleted    bool            // the key has left the window with this revision
}

type resultRowJSON struct {
	Pipeline string          `json:"pipeline"`
	Window   string          `json:"window"`
	Start    string          `json:"start"`
	End      string          `json:"end"`
	Edition  int             `json:"edition,omitempty"`
	Key      json.RawMessage `json:"key"`
	Revision int             `json:"revision"`
	Values   json.RawMessage `json:"values"`
	Overflow bool            `json:"overflow,omitempty"`
	Deleted  bool            `json:"deleted,omitempty"`
}

// MarshalJSON writes the published form.
func (r ResultRow) MarshalJSON() ([]byte, error) {
	return NewResultPrefix(r.Pipeline, r.Window, r.Start, r.End, r.Edition).Append(nil, r.Revision, r.content()), nil
}

// UnmarshalJSON reads the published form. Fields it does not know are ignored: rows may gain attributes.
func (r *ResultRow) UnmarshalJSON(data []byte) error {
	var in resultRowJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("result row: %w", err)
	}
	start, err := window.ParseTime(in.Start)
	if err != nil {
		return fmt.Errorf("result row: start: %w", err)
	}
	end, err := window.ParseTime(in.End)
	if err != nil {
		return fmt.Errorf("result row: end: %w", err)
	}
	*r = ResultRow{
		Pipeline: in.Pipeline, Window: in.Window, Start: start, End: end, Edition: in.Edition, Key: in.Key,
		Revision: in.Revision, Values: in.Values, Overflow: in.Overflow, Deleted: in.Deleted,
	}
	return nil
}

// Supersedes reports whether r is of a later edition than o, or of a later revision of the same edition.
func (r ResultRow) Supersedes(o ResultRow) bool {
	mine, other := max(r.Edition, Edition), max(o.Edition, Edition)
	return mine > other || mine == other && r.Revision > o.Revision
}

func (r ResultRow) content() Content {
	return Content{Key: r.Key, Values: r.Values, Overflow: r.Overflow, Deleted: r.Deleted}
}

// ResultPrefix is the part of a result row that all rows of a window share, encoded once.
type ResultPrefix []byte

// NewResultPrefix encodes what the rows of a window share.
func NewResultPrefix(pipeline, name string, start, end int64, edition int) ResultPrefix {
	p := append([]byte(`{"pipeline":`), jsonString(pipeline)...)
	p = append(append(p, `,"window":`...), jsonString(name)...)
	p = window.AppendTime(append(p, `,"start":"`...), start)
	p = window.AppendTime(append(p, `","end":"`...), end)
	p = append(p, '"')
	if edition > Edition {
		p = strconv.AppendInt(append(p, `,"edition":`...), int64(edition), 10)
	}
	return append(p, `,"key":`...)
}

// rowRoom is for what stands in a row beside prefix, key and values.
const rowRoom = len(`,"revision":9223372036854775807,"values":,"overflow":true,"deleted":true}`)

// Append appends one row as JSON.
func (p ResultPrefix) Append(dst []byte, revision int, c Content) []byte {
	dst = slices.Grow(dst, len(p)+len(c.Key)+len(c.Values)+rowRoom)
	dst = append(dst, p...)
	dst = append(dst, c.Key...)
	dst = append(dst, `,"revision":`...)
	dst = strconv.AppendInt(dst, int64(revision), 10)
	dst = append(dst, `,"values":`...)
	dst = append(dst, c.Values...)
	if c.Overflow {
		dst = append(dst, `,"overflow":true`...)
	}
	if c.Deleted {
		dst = append(dst, `,"deleted":true`...)
	}
	return append(dst, '}')
}

func jsonString(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string always encodes
		return []byte(`""`)
	}
	return b
}
