package publish

import (
	"context"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// State is what a slot needs of Redis; *store.Store is one.
type State interface {
	WriteDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string, written int, fields []store.ViewField) error
	DiscardDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string) error
	WriteView(ctx context.Context, id store.WindowID, v store.Version, view store.View, fields []store.ViewField) error
	ReadDirectory(ctx context.Context, id store.WindowID, rev int) (store.View, []byte, error)
	ReadViewFields(ctx context.Context, id store.WindowID, whole int, names []string, fn func(i int, value []byte) error) error
	Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte, view store.View,
		fields []store.ViewField, gone []string, rows *store.Rows) error
	StageRows(ctx context.Context, id store.WindowID, v store.Version, token string, written int, end bool, rows []store.ViewField) error
	ReadRevision(ctx context.Context, id store.WindowID, rev int, fn func(page []byte) error) error
	Published(ctx context.Context, id store.WindowID) (p store.Published, found bool, err error)
	Trim(ctx context.Context, id store.WindowID) (unlinked int, err error)
	ExpireWindow(ctx context.Context, id store.WindowID, v store.Version, d time.Duration) (shown bool, err error)
}

// Producers makes the transactional producers of slots.
type Producers interface {
	// Open returns a producer for the slot's transactional id after InitProducerId: every earlier producer of the slot is
	// fenced, and its open transaction is decided and visible to readers.
	Open(ctx context.Context, slot int) (Producer, error)
	// OpenLong is Open for a producer whose transaction takes long: brokers wait longer for one that died in it.
	OpenLong(ctx context.Context, slot int) (Producer, error)
}

// Producer publishes transactions of one slot, one after the other. After an error it is of no use but to be closed.
// It is not safe for concurrent use.
type Producer interface {
	Begin() error
	// Append adds a record to the open transaction and sets its Partition to where it goes. It keeps nothing of the record. An
	// error may be that of a record before it. Send appends a few records and waits for them.
	Append(ctx context.Context, r *Record) error
	// Flush returns when all records of the transaction are acknowledged, and where those stand that were appended since the
	// last Flush: batch by batch, those of one partition in order. What it returns is valid until the next call.
	Flush(ctx context.Context) ([]source.Appended, error)
	// Commit ends the transaction, which was flushed. After an error the outcome is unknown.
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
	ContentLog
	Producers
	TopicSettings(ctx context.Context, topic string, names ...string) (map[string]string, error)
}
