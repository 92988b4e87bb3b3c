package result

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Reasons of a ledger row: what made the closer publish.
const (
	ReasonWatermark = "watermark" // every lane's committed watermark passed the window's end
	ReasonLate      = "late"      // late but allowed events changed a window that was published before
	ReasonFinal     = "final"     // nothing can change the window any more
	ReasonFlush     = "flush"     // asked for by the operator: what is committed now
	ReasonDrain     = "drain"     // the pipeline stops: what was committed up to the end offsets
)

// LedgerRow says what was published of one window: by whom and why, from which offsets, and what it adds up to. Times
// are milliseconds since the epoch; JSON writes them as RFC 3339 in UTC.
//
// A row is written in the Kafka transaction of the revision it describes. When a look at the window finds the same
// content as the last revision, no revision is published: the row alone is written again under the same revision
// number, with the offsets now covered and, when nothing can change any more, Final. So the latest row of a window is
// its state, and (Revision, Checksum) of different rows agree.
type LedgerRow struct {
	Pipeline    string
	Window      string
	Start, End  int64
	Revision    int // from 1, without gaps
	Reason      string
	Final       bool // no further revision will follow
	Exact       bool // the content is exactly the events below the covered offsets; false only for early revisions
	By          string
	ClosedAt    int64
	Lanes       []LaneCover
	Keys        int64
	Events      int64
	Checksum    string // of keys and values, see Checksum
	PublishedTo string // result topic, or "" when the pipeline has none
}

// LaneCover is one lane's share of a revision.
type LaneCover struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`      // every event of the window below this offset is in the revision
	LastOffset int64  `json:"last_offset"` // of the window's last event in this lane; -1 without one
	Folded     int64  `json:"folded"`      // events of this lane in the window

	// Era tells pasts of a lane apart: offsets and counts of two of them say nothing about each other.
	Era int64 `json:"era,omitempty"`
}

type ledgerJSON struct {
	Pipeline    string      `json:"pipeline"`
	Window      string      `json:"window"`
	Start       string      `json:"start"`
	End         string      `json:"end"`
	Revision    int         `json:"revision"`
	Reason      string      `json:"reason"`
	Final       bool        `json:"final"`
	Exact       bool        `json:"exact"`
	By          string      `json:"by"`
	ClosedAt    string      `json:"closed_at"`
	Keys        int64       `json:"keys"`
	Events      int64       `json:"events"`
	Checksum    string      `json:"checksum"`
	PublishedTo string      `json:"published_to,omitempty"`
	Lanes       []LaneCover `json:"lanes"`
}

// MarshalJSON writes the form that stands in the ledger topic and in Redis.
func (l LedgerRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(ledgerJSON{
		Pipeline: l.Pipeline, Window: l.Window, Start: formatTime(l.Start), End: formatTime(l.End),
		Revision: l.Revision, Reason: l.Reason, Final: l.Final, Exact: l.Exact, By: l.By,
		ClosedAt: formatTime(l.ClosedAt), Keys: l.Keys, Events: l.Events, Checksum: l.Checksum,
		PublishedTo: l.PublishedTo, Lanes: l.Lanes,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote. Fields it does not know are ignored: rows may gain attributes.
func (l *LedgerRow) UnmarshalJSON(data []byte) error {
	var in ledgerJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("ledger row: %w", err)
	}
	if in.Revision < 1 {
		return fmt.Errorf("ledger row: revision %d, want at least 1", in.Revision)
	}
	var times [3]int64
	for i, text := range []string{in.Start, in.End, in.ClosedAt} {
		ms, err := parseTime(text)
		if err != nil {
			return fmt.Errorf("ledger row: %w", err)
		}
		times[i] = ms
	}
	*l = LedgerRow{
		Pipeline: in.Pipeline, Window: in.Window, Start: times[0], End: times[1], Revision: in.Revision,
		Reason: in.Reason, Final: in.Final, Exact: in.Exact, By: in.By, ClosedAt: times[2], Lanes: in.Lanes,
		Keys: in.Keys, Events: in.Events, Checksum: in.Checksum, PublishedTo: in.PublishedTo,
	}
	return nil
}

// cover returns the lane's share, and false for a lane that did not exist then.
func (l *LedgerRow) cover(topic string, partition int32) (LaneCover, bool) {
	for _, c := range l.Lanes {
		if c.Partition == partition && c.Topic == topic {
			return c, true
		}
	}
	return LaneCover{}, false
}

// LedgerTopic is the compacted topic that holds a pipeline's ledger, one partition per slot.
func LedgerTopic(pipeline string) string { return pipeline + ".ledger" }

// TransactionalID is fixed per window slot, never per process: whoever publishes next fences whoever published before.
func TransactionalID(pipeline string, slot int) string {
	return "millrace." + pipeline + ".close." + strconv.Itoa(slot)
}

// windowID names one window of a pipeline for the ledger's record key, the slot and maps.
type windowID struct {
	Window string
	Start  int64
}

func (w windowID) String() string { return w.Window + "/" + formatTime(w.Start) }

// slot spreads windows over the ledger's partitions. It must never change: the slot is where the ledger is looked for.
func (w windowID) slot(slots int) int {
	return int(xxhash.Sum64String(w.Window+"\x00"+strconv.FormatInt(w.Start, 10)) % uint64(slots))
}

// key is the key of the window's ledger records.
func (w windowID) key() []byte {
	k := append([]byte(`{"window":`), jsonString(w.Window)...)
	k = appendTime(append(k, `,"start":"`...), w.Start)
	return append(k, `"}`...)
}
