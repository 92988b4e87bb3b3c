package source

import (
	"time"

	"millrace/pipeline/stage"
)

// Reader brings the records of one partition in order. Its methods may be called from any goroutine.
type Reader interface {
	// Batches delivers batches in order and is closed when the reader ends: on a permanent error, see Err, or on Close.
	Batches() <-chan Batch
	// Err is why Batches was closed: an *OutOfRangeError, *DecodeError (also of ErrLegacyFormat) or *OtherTopicError; nil while
	// reading and after Close. Trouble with brokers is never an error: the reader tries for ever and says so in Status.
	Err() error
	// Status tells what the reader does now.
	Status() ReaderStatus
	// Pause stops fetching: batches already fetched stay in the channel, a fetch under way still arrives. Resume goes on.
	Pause()
	Resume()
	// Close ends the reader and returns when nothing of it runs any more. It does not wait for a broker. Closing again
	// does nothing.
	Close() error
}

// ReaderStatus is a snapshot for people and metrics.
type ReaderStatus struct {
	// Position is the next offset to fetch; batches below it may still wait in the channel.
	Position int64
	// HighWatermark and LastStable as of the last fetch, -1 before the first.
	HighWatermark, LastStable int64
	// LastFetch is when a broker last answered a fetch.
	LastFetch time.Time
	Paused    bool
	// Retries counts failures in a row and Trouble is the last of them; 0 and nil while all is well.
	Retries int
	Trouble error
}

// ReaderConfig says what to read. The zero value of an optional field is its default.
type ReaderConfig struct {
	// Cluster answers where the partition's leader is. It must outlive the reader.
	Cluster   *Cluster
	Topic     string
	Partition int32
	// Offset of the first record wanted.
	Offset int64
	// TopicID, when set, is the incarnation the offset belongs to: with another one the reader ends with an
	// *OtherTopicError and delivers nothing of the other log. The first batch, and the first one after every pause, blocked
	// hand-over or trouble, is delivered only once the broker has named this id in answer to a later request. Empty reads
	// whatever log has the topic's name.
	TopicID string
	// FetchBytes is what one fetch asks for at most (default 1 MiB); a larger record batch is fetched all the same.
	FetchBytes int
	// FetchBatches is how many fetched batches may wait for the lane (default 2). One more is in the reader's hands, so
	// a lane that falls behind holds about FetchBytes * (FetchBatches + 2), uncompressed.
	FetchBatches int
	// Headers asks for the records' headers too. Nothing is spent on them otherwise.
	Headers bool
	// Traces asks for the records that carry a trace context. Nothing is spent on them otherwise.
	Traces bool
	// OnTrouble, when set, is called from the reader's goroutine for every failed try, and with nil once it is over. It
	// must not block.
	OnTrouble func(err error)
	// Pipeline is whom the reader's goroutine works for in profiles. Empty leaves it the labels of whoever opened the reader.
	Pipeline string
	// Clock books the time of the reader's goroutine. Nil for none.
	Clock *stage.Clock

	now func() time.Time // what the proof of the topic's id goes by; time.Now but in tests
}

func (c ReaderConfig) withDefaults() ReaderConfig {
	if c.FetchBytes <= 0 {
		c.FetchBytes = 1 << 20
	}
	if c.FetchBatches <= 0 {
		c.FetchBatches = 2
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// OpenReader starts to read at cfg.Offset. It returns at once; trouble shows in Status, permanent errors in Err.
func OpenReader(cfg ReaderConfig) Reader {
	return openFetcher(cfg.withDefaults())
}
