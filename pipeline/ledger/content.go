package ledger

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"millrace/pipeline/window"
)

// Content is what a revision says about one key, without the window it belongs to. A deleted row says that the key has left
// the window: it counts neither into the keys nor into the checksum of the revision.
type Content struct {
	Key, Values       []byte
	Overflow, Deleted bool

	// State is the entry that Values were rendered from, to be merged into coarser windows. It is empty in pipelines without
	// roll-ups, and no part of the checksum.
	State []byte
}

// Rows are rows of a revision on their way from where they are merged to where they are published. They are valid during the
// call that they are passed to.
type Rows struct {
	Content []Content
	Hashes  []uint64 // of the lanes' keys, ascending; without meaning in a content that is not by hash
	Digests []Digest // of the rows that are not deleted
	Events  []int64  // in each row; without meaning in a content that is not by hash
}

// StateRow is one line of the states topic: the mergeable state of one key in one revision of a window. Its key in the topic
// is that of the result row. A revision that publishes what it changed says of keys that have left that they are deleted.
type StateRow struct {
	Pipeline string
	Window   string
	Start    int64 // ms
	Edition  int   // the first is left out, and read as 0
	Key      json.RawMessage
	Revision int
	State    []byte
	Deleted  bool // the key has left the window, and has no state
}

type stateRowJSON struct {
	Pipeline string          `json:"pipeline"`
	Window   string          `json:"window"`
	Start    string          `json:"start"`
	Edition  int             `json:"edition,omitempty"`
	Key      json.RawMessage `json:"key"`
	Revision int             `json:"revision"`
	State    []byte          `json:"state"`
	Deleted  bool            `json:"deleted"`
}

// AppendState appends one row of the states topic as JSON.
func (p ResultPrefix) AppendState(dst []byte, revision int, c Content) []byte {
	dst = append(append(dst, p...), c.Key...)
	dst = strconv.AppendInt(append(dst, `,"revision":`...), int64(revision), 10)
	if c.Deleted {
		return append(dst, `,"deleted":true}`...)
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, `,"state":"`...), c.State)
	return append(dst, `"}`...)
}

// UnmarshalJSON reads what AppendState wrote. Fields it does not know are ignored.
func (r *StateRow) UnmarshalJSON(data []byte) error {
	var in stateRowJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("state row: %w", err)
	}
	start, err := window.ParseTime(in.Start)
	if err != nil {
		return fmt.Errorf("state row: start: %w", err)
	}
	*r = StateRow{
		Pipeline: in.Pipeline, Window: in.Window, Start: start, Edition: in.Edition, Key: in.Key, Revision: in.Revision, State: in.State,
		Deleted: in.Deleted,
	}
	return nil
}
