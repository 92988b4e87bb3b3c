// Package spec reads the description of a pipeline: what to read, how to map an event, which windows and aggregates to
// compute and where results go. It parses strictly, applies defaults, and names file, line, field, value and what
// would be valid for everything it refuses. It holds no connections and no secrets.
package spec

import "time"

// Spec is one validated pipeline with all defaults applied. Treat it as read-only.
type Spec struct {
	Name            string      `json:"name"`
	Source          Source      `json:"source"`
	Event           Event       `json:"event"`
	Where           string      `json:"where,omitempty"` // expr-lang expression over the event's fields; "" folds every event
	Aggregates      []Aggregate `json:"aggregates"`      // in the order of the file, which is the order of published values
	Windows         []Window    `json:"windows"`
	Watermark       Watermark   `json:"watermark"`
	AllowedLateness Duration    `json:"allowed_lateness"` // whole milliseconds
	Results         Results     `json:"results"`
	Late            Sink        `json:"late"`
	DeadLetter      Sink        `json:"dead_letter"`
	Retention       Retention   `json:"retention"`
	Rollups         []Rollup    `json:"rollups,omitempty"` // each stands behind those it is made from
	Archive         *Archive    `json:"archive,omitempty"` // nil: what expires is not archived
	Lane            Lane        `json:"lane"`
	Replicas        int         `json:"replicas"` // hot paths to place, at least 1
}

// Source names the topics that are read. All of them carry the same kind of event.
type Source struct {
	Topics []string `json:"topics"`
	Format string   `json:"format"` // "json"
}

// Event maps a record's value to a key, an event time and the fields that aggregates need. Field names are dotted paths.
type Event struct {
	Key         []string  `json:"key"`
	Time        EventTime `json:"time"`
	MaxFuture   Duration  `json:"max_future"`         // how far an event time may lie beyond the record's own timestamp
	MaxPast     Duration  `json:"max_past,omitempty"` // how far it may lie before that timestamp; 0: as far as it likes
	MaxKeyBytes int       `json:"max_key_bytes"`      // longest encoded key that is accepted, in bytes

	// MaxValueBytes is the longest text, or integer beyond int64, that first and last take, in bytes as it is published:
	// with quotes and escapes. 0 when no aggregate takes any.
	MaxValueBytes int `json:"max_value_bytes,omitempty"`

	// MaxJump is how far one event may move its lane's watermark forward; 0: as far as it likes. MaxJumpStreak is how many
	// events in a row are refused for that before the lane asks the operator; 0 without MaxJump.
	MaxJump       Duration `json:"max_jump,omitempty"`
	MaxJumpStreak int      `json:"max_jump_streak,omitempty"`
}

// EventTime says where the event time stands and in which unit: s, ms, us, ns or rfc3339.
type EventTime struct {
	Field string `json:"field"`
	Unit  string `json:"unit"`
}

// Aggregate is one published value per window and key.
type Aggregate struct {
	Name  string `json:"name"`
	Func  string `json:"func"`            // the name of one of Functions
	Field string `json:"field,omitempty"` // empty when the function takes none
	Type  string `json:"type,omitempty"`  // one of the function's
}

// Window is one family of windows [start, start+size) with start = offset + k*slide. Slide equals Size for tumbling
// windows. Size, Slide and Offset are whole milliseconds.
type Window struct {
	Name   string   `json:"name"`
	Size   Duration `json:"size"`
	Slide  Duration `json:"slide"`
	Offset Duration `json:"offset,omitempty"`
}

// Watermark bounds disorder: a lane's watermark is its largest event time so far minus OutOfOrderness.
type Watermark struct {
	OutOfOrderness Duration `json:"out_of_orderness"`
	IdleTimeout    Duration `json:"idle_timeout"` // 0: a lane is never left out as idle
}

// Sink is where records of one kind are published. A nil Kafka means they are not published.
type Sink struct {
	Kafka *KafkaSink `json:"kafka,omitempty"`
}

// KafkaSink is a Kafka topic; the pipeline creates it when it is missing.
type KafkaSink struct {
	Topic string `json:"topic"`
}

// Results is where the rows of windows are published, and how Redis holds them.
type Results struct {
	Sink
	Redis *RedisResults `json:"redis,omitempty"` // nil: all its defaults
}

// RedisResults says how Redis holds the rows of windows.
type RedisResults struct {
	Layout string `json:"layout"` // LayoutRows; LayoutPages is a nil RedisResults
}

// Layouts of the rows of windows in Redis.
const (
	LayoutPages = "pages" // pages, which Millrace itself reads
	LayoutRows  = "rows"  // and beside them a plain hash of the current rows, for other programs
)

// PlainRows reports whether Redis also holds the rows of windows as plain hashes.
func (r *Results) PlainRows() bool { return r.Redis != nil && r.Redis.Layout == LayoutRows }

// Retention says how long what was published of a final window is kept, counted from when its final row was written
// (closed_at), never from event time: old data that is loaded today would expire at once. Both are whole seconds.
type Retention struct {
	Results Duration `json:"results"` // contents and view in Redis
	Ledger  Duration `json:"ledger"`  // the row in the ledger topic, at least Results
}

// Left is how much longer Redis keeps contents and view of a window that was made final at closedAt (ms); not positive when
// they are due to go.
func (r Retention) Left(closedAt int64, now time.Time) time.Duration {
	return time.UnixMilli(closedAt).Add(r.Results.Std()).Sub(now)
}

// Lane holds the tunables of the hot path. Their defaults are measured; see docs/performance.md.
type Lane struct {
	CommitInterval Duration `json:"commit_interval"` // how often dirty entries and the offset become durable
	ChunkFields    int      `json:"chunk_fields"`    // entries in one Redis call at the most
	CommitQueue    int      `json:"commit_queue"`    // commits waiting behind the one in flight: 1 or 2
	MemoryLimit    int64    `json:"memory_limit"`    // bytes of lane state per replica; above it lanes block
	Buckets        int      `json:"buckets"`         // hash keys per slice generation, a power of two
	FetchBatches   int      `json:"fetch_batches"`   // record batches read ahead per lane
	FetchBytes     int      `json:"fetch_bytes"`     // bytes asked of the broker per fetch
	Overflow       string   `json:"overflow"`        // OverflowBlock or OverflowJournal: what a lane does when Redis cannot take its commits
}

// What a lane does with commits that Redis cannot take.
const (
	OverflowBlock   = "block"   // it waits, and Kafka holds the rest
	OverflowJournal = "journal" // it puts them into the worker's write-ahead log and goes on
)

// Duration is written as text such as 1h30m or 250ms.
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Millis returns d in whole milliseconds.
func (d Duration) Millis() int64 { return time.Duration(d).Milliseconds() }
