package ledger

import (
	"encoding/json"
	"errors"
	"fmt"

	"millrace/pipeline/window"
)

// RowVersion is the version of the rows that this version of millrace writes. Rows of version 1 are read.
const RowVersion = 2

// Edition is the edition of every pipeline today. A later one may run another spec beside the first.
const Edition = 1

// Reasons of a ledger row: what made the closer publish.
const (
	ReasonWatermark = "watermark" // every lane's committed watermark passed the window's end
	ReasonLate      = "late"      // late but allowed events changed a window that was published before
	ReasonFinal     = "final"     // nothing can change the window any more
	ReasonFlush     = "flush"     // asked for by the operator: what is committed now
	ReasonDrain     = "drain"     // the pipeline stops: what was committed up to the end offsets
	ReasonReplay    = "replay"    // an approved replay corrects what was published
	ReasonRollup    = "rollup"    // the window is merged from finer ones
)

// ErrCorrupt means that a record of the ledger topic cannot be read or contradicts the others.
var ErrCorrupt = errors.New("corrupt ledger")

// VersionError says that a row was written by a later version of millrace.
type VersionError struct{ Found int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("ledger row: version %d, this version of millrace reads up to %d; update millrace", e.Found, RowVersion)
}

// Row says what was published of one window: by whom and why, from which offsets, and what it adds up to. Times are
// milliseconds since the epoch; JSON writes them as RFC 3339 in UTC.
//
// A row is written in the Kafka transaction of the revision it describes. When a look at the window finds the same
// content as the last revision, no revision is published: the row alone is written again under the same revision
// number, with the offsets now covered and, when nothing can change any more, Final. So the latest row of a window is
// its state, and (Revision, Checksum) of different rows agree. A row that is written again keeps what it said of where its
// content comes from and where it went.
type Row struct {
	Version     int // of the row, RowVersion in new ones
	Pipeline    string
	Window      string
	Start, End  int64
	Edition     int    // of the pipeline; Edition in rows of version 1
	Spec        string // version of the spec that published, as spec.Spec.Version; "" in rows of version 1
	Build       string // of the program that published; "" when it is not known
	Revision    int    // from 1, without gaps
	Reason      string
	Final       bool // no further revision by lanes will follow; those of replays and roll-ups may
	Exact       bool // the content is exactly the events below the covered offsets; false only for early revisions
	By          string
	ClosedAt    int64
	Lanes       []Cover
	Keys        int64
	Events      int64
	Checksum    string // of keys and values, see Checksum
	Algorithm   string // of the checksum
	PublishedTo string // result topic, or "" when the pipeline has none
	Links       []Link // where the rows of the content stand, oldest first; empty in rows of version 1
	Changed     int64  // rows that the revision published, when these are only what it changed; see Link.Whole
	View        *View  // what Redis shows of the content; nil in rows of earlier releases

	Replay *ReplayOrigin // nil unless a replay published the revision
	// Mends names the places where the revision before was lost or wrong although its row may have been right: the ledger row, the
	// view, the results, the states. The content is then published again, whether it differs or not, and what stands of earlier
	// revisions is not to be relied on.
	Mends     string
	Children  []Child  // what a rolled-up window was merged from, by start
	ChildLate int64    // events that were late for the children, and so are in neither
	States    []Link   // where the states of the content stand in the states topic, oldest first; empty when none were published
	Archive   *Archive // nil unless the content was archived
}

type rowJSON struct {
	Version     int         `json:"version,omitempty"`
	Pipeline    string      `json:"pipeline"`
	Window      string      `json:"window"`
	Start       string      `json:"start"`
	End         string      `json:"end"`
	Edition     int         `json:"edition,omitempty"`
	Spec        string      `json:"spec,omitempty"`
	Build       string      `json:"build,omitempty"`
	Revision    int         `json:"revision"`
	Reason      string      `json:"reason"`
	Final       bool        `json:"final"`
	Exact       bool        `json:"exact"`
	By          string      `json:"by"`
	ClosedAt    string      `json:"closed_at"`
	Keys        int64       `json:"keys"`
	Events      int64       `json:"events"`
	Checksum    string      `json:"checksum"`
	Algorithm   string      `json:"checksum_algorithm,omitempty"`
	PublishedTo string      `json:"published_to,omitempty"`
	Links       []Link      `json:"links,omitempty"`
	Lanes       []coverJSON `json:"lanes"`
	attributesJSON
}

// MarshalJSON writes the form that stands in the ledger topic and in Redis. A row that was read as version 1 is written
// as it was.
func (r Row) MarshalJSON() ([]byte, error) {
	out := rowJSON{
		Pipeline: r.Pipeline, Window: r.Window, Start: window.FormatTime(r.Start), End: window.FormatTime(r.End),
		Revision: r.Revision, Reason: r.Reason, Final: r.Final, Exact: r.Exact, By: r.By,
		ClosedAt: window.FormatTime(r.ClosedAt), Keys: r.Keys, Events: r.Events, Checksum: r.Checksum,
		PublishedTo: r.PublishedTo,
	}
	if r.Version >= 2 {
		out.Version, out.Edition, out.Spec, out.Build = r.Version, r.Edition, r.Spec, r.Build
		out.Algorithm, out.Links = r.Algorithm, r.Links
		out.attributesJSON = r.encodeAttributes()
	}
	if r.Lanes != nil {
		out.Lanes = make([]coverJSON, len(r.Lanes))
	}
	for i := range r.Lanes {
		out.Lanes[i] = r.Lanes[i].encode(r.Version)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads rows of this and of all earlier versions; a row of a later one is a *VersionError. Fields it does
// not know are ignored: rows may gain attributes.
func (r *Row) UnmarshalJSON(data []byte) error {
	var in rowJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("ledger row: %w", err)
	}
	if in.Version > RowVersion {
		return &VersionError{Found: in.Version}
	}
	if in.Revision < 1 {
		return fmt.Errorf("ledger row: revision %d, want at least 1", in.Revision)
	}
	var times [3]int64
	for i, text := range []string{in.Start, in.End, in.ClosedAt} {
		ms, err := window.ParseTime(text)
		if err != nil {
			return fmt.Errorf("ledger row: %w", err)
		}
		times[i] = ms
	}
	*r = Row{
		Version: 1, Edition: Edition, Algorithm: ChecksumAlgorithm,
		Pipeline: in.Pipeline, Window: in.Window, Start: times[0], End: times[1], Revision: in.Revision,
		Reason: in.Reason, Final: in.Final, Exact: in.Exact, By: in.By, ClosedAt: times[2],
		Keys: in.Keys, Events: in.Events, Checksum: in.Checksum, PublishedTo: in.PublishedTo,
	}
	if in.Version >= 2 {
		r.Version, r.Edition, r.Spec, r.Build = in.Version, in.Edition, in.Spec, in.Build
		r.Algorithm = in.Algorithm
		if len(in.Links) > 0 {
			r.Links = in.Links
		}
		if err := r.decodeAttributes(&in.attributesJSON); err != nil {
			return fmt.Errorf("ledger row: %w", err)
		}
	}
	if in.Lanes != nil {
		r.Lanes = make([]Cover, len(in.Lanes))
	}
	for i := range in.Lanes {
		r.Lanes[i] = in.Lanes[i].decode(r.Version)
	}
	return nil
}

// ID is the window that the row is about.
func (r *Row) ID() WindowID { return WindowID{r.Window, r.Start} }

// Cover returns a lane's share, and false for a lane that did not exist then.
func (r *Row) Cover(topic string, partition int32) (Cover, bool) {
	for _, c := range r.Lanes {
		if c.Partition == partition && c.Topic == topic {
			return c, true
		}
	}
	return Cover{}, false
}
