package publish

import (
	"context"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// State is what a slot needs of Redis; *store.Store is one.
type State interface {
	Prepare(ctx context.Context, id store.WindowID, rev int,
		build func(add func(page []byte) error) (header []byte, err error)) (r store.Revision, fresh bool, err error)
	Discard(ctx context.Context, id store.WindowID, rev int, attempt string) error
	ReadRevision(ctx context.Context, id store.WindowID, rev int, fn func(page []byte) error) (store.Revision, error)
	Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte) error
	Published(ctx context.Context, id store.WindowID) (p store.Published, found bool, err error)
	Trim(ctx context.Context, id store.WindowID) (unlinked int, err error)
	ExpireWindow(ctx context.Context, id store.WindowID, v store.Version, d time.Duration) (shown bool, err error)
}

// Producers makes the transactional producers of slots.
type Producers interface {
	// Open returns a producer for the slot's transactional id after InitProducerId: every earlier producer of the slot is
	// fenced, and its open transaction is decided and visible to readers.
	Open(ctx context.Context, slot int) (Producer, error)
}

// Producer publishes transactions of one slot, one after the other. After an error it is of no use but to be closed.
// It is not safe for concurrent use.
type Producer interface {
	Begin() error
	// Send returns when all records are acknowledged as part of the open transaction, and sets their Partition and Offset
	// to where they stand.
	Send(ctx context.Context, records []Record) error
	// Commit ends the transaction. After an error the outcome is unknown.
	Commit() error
	// Close aborts an open transaction as far as it still can and releases the producer.
	Close() error
}

// Record is a record to publish. Partition is used for the ledger topic only; results are spread by key.
type Record struct {
	Topic      string
	Partition  int32
	Key, Value []byte
	Headers    []source.Header
	Offset     int64 // set by Send
}

// Kafka is what a slot needs of Kafka; NewClient connects to one.
type Kafka interface {
	ledger.Log
	Producers
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
}
