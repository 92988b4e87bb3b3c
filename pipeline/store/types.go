package store

import (
	"math"
	"time"

	"millrace/pipeline/page"
)

const (
	// Format is the version of the server's keys as a whole. Another version found in Redis is a FormatError.
	Format = 1

	// FieldFormat and PageFormat are the versions of a lane's state: entries as fields of hashes, or in pages. A lane of a
	// newer one is a FormatError.
	FieldFormat = 1
	PageFormat  = page.Format

	// NoCommit is Meta.Done of a lane of which no commit in pages has ended: commits are numbered from 1.
	NoCommit = 0

	// NoTime stands for "no time yet" in watermarks, seals and requests (milliseconds).
	NoTime = math.MinInt64

	// NotStarted is Meta.Offset of a lane that has been acquired but has never committed.
	NotStarted = -1

	// NotIdle is Meta.IdleEnd of a lane that is not idle.
	NotIdle = -1

	// AcceptJump is Meta.Jumps of a lane that accepts the next jump whatever its width.
	AcceptJump = -1

	// NoOffset is FirstOffset and LastOffset of a slice whose first commit is still under way.
	NoOffset = -1
)

// Counters says what became of every record a lane has read. They are committed together with the offset:
// Read = Invalid + Ahead + Past + Jumped + Filtered + Duplicate + Late + Folded.
type Counters struct {
	Read      int64 `json:"read"`
	Invalid   int64 `json:"invalid"`
	Ahead     int64 `json:"ahead"` // event time too far ahead of the record's own timestamp
	Filtered  int64 `json:"filtered"`
	Duplicate int64 `json:"duplicate"`
	Late      int64 `json:"late"` // late for every window
	Folded    int64 `json:"folded"`

	Past   int64 `json:"past,omitempty"`   // event time too far before the record's own timestamp
	Jumped int64 `json:"jumped,omitempty"` // would have moved the watermark too far at once

	// Skipped is how many records were given up by an operator's decision: never read, or read and then dropped with the
	// slices that held them. They are not in Read.
	Skipped int64 `json:"skipped,omitempty"`
}

// Moves is how many of the records that were read could move the watermark: all that were not refused.
func (c *Counters) Moves() int64 { return c.Read - c.Refused() }

// Refused is how many records were refused: they belong on the dead-letter topic and leave the watermark alone.
func (c *Counters) Refused() int64 { return c.Invalid + c.Ahead + c.Past + c.Jumped }

// Sum is how many records the outcomes account for: Read, if nothing is wrong.
func (c *Counters) Sum() int64 { return c.Refused() + c.Filtered + c.Duplicate + c.Late + c.Folded }

// Add sums up the counters of several lanes.
func (c *Counters) Add(o Counters) {
	c.Read += o.Read
	c.Invalid += o.Invalid
	c.Ahead += o.Ahead
	c.Filtered += o.Filtered
	c.Duplicate += o.Duplicate
	c.Late += o.Late
	c.Folded += o.Folded
	c.Skipped += o.Skipped
	c.Past += o.Past
	c.Jumped += o.Jumped
}

// Basis is what a lane had come to just before it decided the record at some offset: reading again from there under it
// decides as the first read did.
type Basis struct {
	Known     bool  // false in what older versions wrote
	Watermark int64 // ms, NoTime before the first event
	Sealed    int64 // ms, NoTime when no seal was adopted
	Counters  Counters
}

// Seal is a seal that changed what a lane calls late: every record at or above Offset is decided under it.
type Seal struct {
	Offset int64
	Before int64 // ms
}

// SliceStat is what a lane folded into one slice generation.
type SliceStat struct {
	SliceID
	FirstOffset int64 // lowest offset of an event folded, NoOffset before the first commit's meta
	LastOffset  int64 // highest offset of an event folded, not a stamp
	Folded      int64 // events folded
	Basis       Basis // just before FirstOffset

	// Paged means that all entries are in pages: no fields of an earlier format lie beneath them.
	Paged bool
	// Spread means that pages stand in all hashes of the slice, not in its own alone.
	Spread bool
}

// Meta is the truth about a lane: who owns it and up to where its state is complete.
type Meta struct {
	Format    int // FieldFormat or PageFormat
	StateID   string
	Owner     Token
	Cursor    Cursor
	Done      int64 // number of the last commit in pages that has ended, NoCommit before the first
	Offset    int64 // the next record to read; everything below is in the state. NotStarted before the first commit
	Watermark int64 // ms, NoTime before the first event
	MaxTime   int64 // greatest event time, ms, NoTime before the first event; 0 in what versions before 0.3 wrote
	Sealed    int64 // ms; lateness uses max(Watermark, Sealed). NoTime when no seal was adopted
	IdleEnd   int64 // broker's end offset at which the lane is idle, or NotIdle
	Counters  Counters
	TopicID   string
	CtlGen    int64 // generation of the pipeline's desired state that the lane has adopted
	SpecGen   int64
	UpdatedAt int64 // ms, the writer's clock; for people only, nothing is decided by it
	Decided   int64 // records below were decided before and are read again: nothing new is adopted among them
	Era       int64 // id of the lane's past: when an operator's decision gave it another one, ms; 0 for its first
	Seals     []Seal
	Balance   Balance
	Begun     int64   // where the lane's first state began; 0 at the start of its log
	Jumps     int64   // refused jumps in a row; AcceptJump when the operator has accepted the next
	Accepted  []int64 // offsets of jumps that were accepted, which a rebuild has to accept again
}

// MetaUpdate is what the last call of a commit writes. Owner, cursor, format and state id are kept by the scripts.
type MetaUpdate struct {
	Offset    int64
	Watermark int64
	MaxTime   int64
	Sealed    int64
	IdleEnd   int64
	Counters  Counters
	TopicID   string
	CtlGen    int64
	SpecGen   int64
	UpdatedAt int64
	Decided   int64
	Era       int64
	Seals     []Seal
	Slices    []SliceStat // absolute values of the slices touched since the last meta call
	Whole     bool        // Slices are all there are: what folds hold of others goes
	Balance   Balance     // not known in journals of earlier versions: then neither is that of the meta any more
	Jumps     int64
	Accepted  []int64
	Begun     int64  // 0 leaves the one that is there, unless the update is Whole
	Hint      string // metadata of the group's offset once this is committed; Redis does not keep it
}

// Write puts entries into one bucket of one slice generation.
type Write struct {
	Slice  SliceID
	Bucket int
	// Fields is key, entry, key, entry, ... in canonical binary form. The strings may alias pooled memory: they are
	// read until Apply returns and never after.
	Fields []string
}

// PageHash says in which hash of its slice a page stands: 0 is the slice's own, 1 to SpreadHashes are those that a large slice
// is spread over.
type PageHash int

// SpreadHashes is how many hashes a large slice is spread over.
const SpreadHashes = 16

// PageWrite puts one page of a slice generation into one of the slice's hashes.
type PageWrite struct {
	Slice SliceID
	Hash  PageHash
	Name  string
	// Value may alias pooled memory: it is read until Apply returns and never after.
	Value   string
	Entries int // that it holds
}

// PageDelete removes pages that later ones have replaced, or that a commit has left that never ended. Those that are gone are
// passed over.
type PageDelete struct {
	Slice SliceID
	Hash  PageHash
	Names []string
}

// SliceDrop asks to delete a slice generation for good. Deadline (ms) is the greatest of the windows that contain it.
type SliceDrop struct {
	SliceID
	Deadline int64
}

// Call is one link in the chain of a lane's commits. It is applied only if the stored cursor equals Prev, and moves the
// cursor to Next in the same step. Sections may be combined; within a call they apply in the order of the fields. The
// first entries of a slice that is not registered replace whatever stands under its keys.
type Call struct {
	Prev, Next Cursor
	// Registered is how many slices there must be, with folds, before the call. With any other number the call changes
	// nothing and ErrPartialLoss says so. 0 does not check.
	Registered int
	Writes     []Write
	Drop       []SliceDrop // refused with ErrNotSealed until max(committed watermark, committed seal) >= deadline
	Purge      []SliceID   // dropped unconditionally: stored slices that a re-seeding lane does not have
	Buckets    int         // buckets per slice generation in FieldFormat
	Meta       *MetaUpdate // the last call of a commit

	// Pages, Delete and Unfield need Format PageFormat, and Writes need FieldFormat. A call of PageFormat makes the lane one of
	// that format.
	Format  int
	Delete  []PageDelete
	Unfield []SliceID // slices whose fields of FieldFormat go: pages of an earlier commit have replaced them
	Pages   []PageWrite
}

// Guard is what every page of entries is read together with.
type Guard struct {
	Owner  Token
	Cursor Cursor
	Offset int64
}

// Follows reports whether g may have been read after earlier with nothing lost in between: the same owner, and neither
// cursor nor offset lower.
func (g Guard) Follows(earlier Guard) bool {
	return g.Owner == earlier.Owner && !g.Cursor.Less(earlier.Cursor) && g.Offset >= earlier.Offset
}

// Guard returns the guard that a page read together with m would carry.
func (m Meta) Guard() Guard { return Guard{Owner: m.Owner, Cursor: m.Cursor, Offset: m.Offset} }

// Ctl holds the closer's requests to the owner of one lane. Seal and drop only ever grow.
type Ctl struct {
	SealBefore int64 // ms, NoTime when nothing was asked
	DropBefore int64 // ms, NoTime when nothing was asked: slices whose last deadline is at or below may be dropped
	Rewrite    Rewrite
}

// Rewrite asks an owner to write all its entries again: at commit Seq of its chain the entries in Redis did not add up to
// what it had folded. The zero value asks nobody.
type Rewrite struct {
	Owner Token
	Seq   int64
}

// PipelineCtl is the desired state of a pipeline. Owners adopt it at a snapshot and answer with Meta.CtlGen.
type PipelineCtl struct {
	Gen           int64 // 0: nothing was ever desired
	Paused        bool
	Stopping      bool
	CommitNow     string // request id of the latest flush; a lane that sees a new one commits at once
	Begun         string // id of the start that has begun the lanes
	WatermarkHold int64  // ms, NoTime for no hold
	Spec          []byte // canonical JSON of the spec, nil before it was set
	SpecGen       int64  // generation in which Spec was last set
	Orders        []byte // overrides of levels, as the control plane writes them; nil before there were any
}

// CtlChange is one change of the desired state; nil fields stay as they are.
type CtlChange struct {
	RequestID     string // repeating a request id changes nothing and answers with the generation it got
	Above         int64  // the new generation is greater than this one too, also after Redis forgot it
	Paused        *bool
	Stopping      *bool
	CommitNow     *string
	Begun         *string
	WatermarkHold *int64
	Spec          []byte
	Orders        []byte
}

// Lease says which worker runs a replica. It only avoids needless moves; safety rests on the owner tokens.
type Lease struct {
	Worker string        // worker id, for people
	Queue  string        // task queue on which the holder answers
	Token  string        // who holds it: equality decides
	TTL    time.Duration // remaining by the server's clock, when read
}

// Version orders what was published of a window: by edition, and within one by revision.
type Version struct {
	Edition  int
	Revision int
}

// Less reports whether v was published before w.
func (v Version) Less(w Version) bool {
	return v.Edition < w.Edition || v.Edition == w.Edition && v.Revision < w.Revision
}

// Published is the Redis view of a window's ledger. The Kafka ledger topic is the truth.
type Published struct {
	Current Version // highest that was flipped
	Row     []byte  // its ledger row

	HasContent bool // Redis has the content of that
	Rows       int  // revision that the plain hash shows, 0 without one
}
