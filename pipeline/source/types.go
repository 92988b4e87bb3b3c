package source

import (
	"errors"
	"fmt"
	"time"
)

// TopicPartition names one partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is "topic/partition".
func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

// Topic is what the cluster says about a topic now.
type Topic struct {
	Name string
	// ID is the broker's id of this incarnation of the topic, as Kafka's tools print it. A topic that was deleted and
	// made again has another one. Empty when the broker knows no topic ids.
	ID string
	// Partitions in ascending order.
	Partitions []int32
}

// Ends are the bounds of what a read_committed reader can see of a partition.
type Ends struct {
	// Start is the lowest offset still in the log.
	Start int64
	// End is the last stable offset: everything below it is decided, nothing at or above it is delivered yet.
	End int64
	// HighWatermark is the end of the replicated log, at or above End. Open transactions lie between the two.
	HighWatermark int64
}

// Committed is a consumer group's offset for one partition.
type Committed struct {
	// Offset of the next record, -1 when the group has none.
	Offset   int64
	Metadata string
}

// Record is one record of a lane. Its bytes are immutable and stay valid as long as they are referenced; a reference
// to one of them keeps its whole fetch response (about FetchBytes) in memory, so copy what is kept for long.
type Record struct {
	Offset int64
	// Timestamp in ms since the epoch: the log's append time if the topic says so, else what the producer set.
	Timestamp int64
	// Key and Value are nil when the record has none; a nil Value is a tombstone.
	Key, Value []byte
}

// Batch is what one fetch brought. Records may be empty: then only the position moved, past control records, aborted
// transactions or compacted offsets.
type Batch struct {
	Records []Record
	// Headers has the headers of each of Records when ReaderConfig.Headers asks for them, and is nil otherwise.
	Headers [][]Header
	// Traced are the first of Records that carry the context of a trace that their sender records, at most MostTraced, when
	// ReaderConfig.Traces asks for them.
	Traced []Traced
	// Asked is when the fetch was sent, and Fetched when its answer was there.
	Asked, Fetched time.Time
	// Stamps say when records of the batch were stamped: a sample in which every record has its weight. Nothing is decided by them.
	Stamps []Stamp
	// Next is the position after the batch. "Everything below E has been read" is exactly Next >= E.
	Next int64
	// HighWatermark, LastStable and LogStart as of this fetch; -1 when the broker did not say.
	HighWatermark, LastStable, LogStart int64

	pool *recordPool // where Release gives Records back
}

// MostTraced bounds how many records of one batch are followed by their traces.
const MostTraced = 8

// Traced is a record that is to be followed.
type Traced struct {
	Index  int    // in Batch.Records
	Parent string // W3C trace context out of the record's header
}

var (
	// ErrUnreachable means no broker of the list answered. Retryable.
	ErrUnreachable = errors.New("no Kafka broker reachable")
	// ErrUnknownTopic means the cluster has no such topic.
	ErrUnknownTopic = errors.New("unknown topic")
	// ErrUnknownPartition means the topic has no such partition.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrOffsetOutOfRange is what errors.Is finds in an *OutOfRangeError.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrOtherTopic is what errors.Is finds in an *OtherTopicError.
	ErrOtherTopic = errors.New("topic was deleted and made again")
	// ErrFencedInstance ends a membership for good: another process joined with the same instance id.
	ErrFencedInstance = errors.New("consumer group instance id was taken over by another member")
	// ErrGroupGone ends a membership for good: its consumer group was deleted, as a removal of the pipeline does. Joining
	// would make the group again.
	ErrGroupGone = errors.New("consumer group was deleted")
	// ErrClosed is returned by calls on something closed.
	ErrClosed = errors.New("closed")
)

// OutOfRangeError says that the wanted offset is not in the log: below Start (deleted: a gap) or above End (the log
// was truncated). It is permanent for this offset.
type OutOfRangeError struct {
	TopicPartition
	Offset int64
	Ends   Ends
}

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("%s: offset %d is outside the log [%d, %d)", e.TopicPartition, e.Offset, e.Ends.Start, e.Ends.HighWatermark)
}

// Is makes errors.Is(err, ErrOffsetOutOfRange) true.
func (e *OutOfRangeError) Is(target error) bool { return target == ErrOffsetOutOfRange }

// DecodeError says that the batch holding Offset could not be decoded several times in a row. It is permanent until an
// operator decides.
type DecodeError struct {
	TopicPartition
	Offset int64
	Next   int64 // first offset behind it from which the log can be read on, the log's end when there is none
	Err    error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("%s: the record batch at offset %d cannot be decoded: %v", e.TopicPartition, e.Offset, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// OtherTopicError says that the topic of this name is no longer the one whose offsets are known.
type OtherTopicError struct {
	Topic      string
	Want, Have string
}

func (e *OtherTopicError) Error() string {
	return fmt.Sprintf("topic %s: id is %s, expected %s: it was deleted and made again", e.Topic, e.Have, e.Want)
}

// Is makes errors.Is(err, ErrOtherTopic) true.
func (e *OtherTopicError) Is(target error) bool { return target == ErrOtherTopic }
