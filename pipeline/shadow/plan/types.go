package plan

import (
	"encoding/json"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// Lateness says which events count that came after their window's deadline.
type Lateness string

// How late events count.
const (
	AsRead   Lateness = ledger.LatenessAsRead   // an event is late where it was late when the pipeline read it
	None     Lateness = ledger.LatenessNone     // no event is late: everything that ever arrived counts
	FromLate Lateness = ledger.LatenessFromLate // as read, and what the late topic holds for the windows counts too
)

// Valid reports whether l is one of the three.
func (l Lateness) Valid() bool { return l == AsRead || l == None || l == FromLate }

// Scope says from where the events of the windows were looked for.
type Scope string

// Scopes of a plan.
const (
	// Whole begins at or below the first offset that an event of the windows may have, by the timestamps of the log.
	Whole Scope = ledger.ScopeWhole
	// FromFirstOffset begins at the first event that the pipeline itself has counted.
	FromFirstOffset Scope = ledger.ScopeFromFirst
)

// Version is the version of plans that this program writes and reads.
const Version = 1

// Plan is what one shadow reads. It is kept in Redis as JSON: whoever goes on with a shadow follows the plan it was begun
// with. Offsets are exclusive at their ends, times are ms.
type Plan struct {
	Version  int      `json:"version"`
	Pipeline string   `json:"pipeline"`
	ID       string   `json:"id"`
	Edition  int      `json:"edition"` // of the pipeline
	Lateness Lateness `json:"lateness"`
	Scope    Scope    `json:"scope"`
	From     int64    `json:"from"`
	To       int64    `json:"to"`

	Spec        json.RawMessage `json:"spec"`         // canonical JSON of the spec that counts
	SpecVersion string          `json:"spec_version"` // of Spec
	SameSpec    bool            `json:"same_spec"`    // Spec keeps the same lane state as the pipeline's own

	Lanes   []Lane    `json:"lanes"`   // by topic and partition
	Windows []Window  `json:"windows"` // by deadline, then by family in the order of the spec, then by start
	Refused []Refusal `json:"refused,omitempty"`

	Figures Figures `json:"figures"`
}

// Lane is one partition that the shadow reads.
type Lane struct {
	Topic     string       `json:"topic"`
	Partition int32        `json:"partition"`
	TopicID   string       `json:"topic_id,omitempty"`
	Era       int64        `json:"era,omitempty"`
	Start     int64        `json:"start"`
	End       int64        `json:"end"` // equal to Start: nothing of this lane is read
	Basis     store.Basis  `json:"basis"`
	Seals     []store.Seal `json:"seals,omitempty"`    // rising in both
	Accepted  []int64      `json:"accepted,omitempty"` // offsets of jumps that an operator accepted
	Late      []int64      `json:"late,omitempty"`     // offsets of late records that count all the same, rising
}

// Offsets is how far the lane is from its start to its end.
func (l *Lane) Offsets() int64 { return l.End - l.Start }

// Window is one window that is counted again.
type Window struct {
	Name     string  `json:"name"`
	Start    int64   `json:"start"`
	End      int64   `json:"end"`
	Deadline int64   `json:"deadline"` // under the spec that counts
	Base     *Base   `json:"base"`     // nil: the window is final and was never published, so it is empty
	Ends     []int64 `json:"ends"`     // by lane: no event of the window at or above counts
	// Covered says, by lane, up to where the pipeline's own lanes had read when the window became final, whatever counts now.
	Covered []int64 `json:"covered"`
}

// ID names the window.
func (w *Window) ID() ledger.WindowID { return ledger.WindowID{Window: w.Name, Start: w.Start} }

// Base is the published revision that a window is compared with.
type Base struct {
	Edition  int    `json:"edition"`
	Revision int    `json:"revision"`
	Checksum string `json:"checksum"`
	Keys     int64  `json:"keys"`
	Events   int64  `json:"events"`
	Spec     string `json:"spec,omitempty"` // version of the spec that published it
}

// Figures are what the plan is expected to cost.
type Figures struct {
	Records    int64   `json:"records"`     // offsets to read; a log may hold fewer records
	Bytes      int64   `json:"bytes"`       // of their keys and values, from a sample of each lane
	RedisBytes int64   `json:"redis_bytes"` // at the most at any time, as estimated from the keys of the windows
	Rate       float64 `json:"rate"`        // records per second that Minutes was computed with
	Minutes    float64 `json:"minutes"`
}

// Facts are what is known of one source partition, as the broker and Redis say now.
type Facts struct {
	Topic     string
	Partition int32
	TopicID   string
	LogStart  int64
	LogEnd    int64 // asked before everything else
	// First is the offset of the first record that may belong to a window of the plan: whose timestamp is not before the
	// earliest start minus max_future. OffsetsOf asks for it.
	First int64
	// FirstTime is the timestamp of the first record that the log still has, ms; ledger's NoTime when it has none.
	FirstTime int64
	Meta      *store.Meta // of the live lane; nil when it cannot be read
	// Sampled records of the plan's range hold SampleBytes bytes; 0 when nothing was sampled.
	Sampled, SampleBytes int64
	Late                 []LateRecord // of this partition, for FromLate
}

// LateRecord is a record of the late topic.
type LateRecord struct {
	Offset  int64 // in the source partition
	Windows []ledger.WindowID
	More    bool // Windows is not complete
}

// Ask is what somebody wants to be counted again.
type Ask struct {
	Pipeline string
	ID       string
	From, To int64    // windows that begin at or after From and end at or before To
	Families []string // none: all
	Lateness Lateness
	Scope    Scope // "": the plan chooses
	// Live is the pipeline's own spec, Spec the one to count with. They may be the same.
	Live, Spec *spec.Spec
	// Recount leaves out what a replay has published on purpose: with other events, or with another spec than Live.
	Recount bool
	// MaxRate bounds the records read per second; 0 leaves it open.
	MaxRate int64
	Now     time.Time
}

// Book is what the ledger holds of a pipeline.
type Book struct {
	Edition    int
	Rows       map[ledger.WindowID]*ledger.Row
	Tombstones map[ledger.WindowID]bool // rows that were given up, as far as compaction has left the tombstones
	Floors     map[FloorID]*ledger.Floor
	Slots      int
}

// FloorID names a floor: of one family in one slot.
type FloorID struct {
	Slot   int
	Family string
}

// floorOf returns the floor that a window lies at or below, nil without one.
func (b *Book) floorOf(id ledger.WindowID, end int64) *ledger.Floor {
	f := b.Floors[FloorID{id.Slot(b.Slots), id.Window}]
	if f == nil || end > f.End {
		return nil
	}
	return f
}
