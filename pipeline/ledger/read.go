package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/pipeline/source"
)

// Log is how readers of what was published see Kafka; *source.Cluster is one.
type Log interface {
	Partitions(ctx context.Context, topic string) ([]int32, error)
	// ReadCommitted passes the records from offset from up to the last stable offset as of the call to fn, in order, and
	// returns the position after them. From below the log's start it begins there; from behind the last stable offset it
	// passes nothing and returns from; from above the log's end is source.ErrOffsetOutOfRange.
	ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (next int64, err error)
}

// Read passes every record that the ledger topic still holds to fn, up to its end as of now: partition by partition,
// oldest first. Compaction may have removed all but the latest row of a window.
func Read(ctx context.Context, log Log, pipeline string, fn func(Record) error) error {
	return readTopic(ctx, log, Topic(pipeline), func(tp source.TopicPartition, r source.Record) error {
		rec, err := ParseRecord(tp, r)
		if err != nil {
			return err
		}
		return fn(rec)
	})
}

// Latest returns the latest row of every window that still has one, by window name in the order of start.
func Latest(ctx context.Context, log Log, pipeline string) ([]Row, error) {
	latest := make(map[WindowID]Row)
	err := Read(ctx, log, pipeline, func(rec Record) error {
		switch {
		case rec.Row != nil:
			latest[rec.Row.ID()] = *rec.Row
		case rec.Tombstone != nil:
			delete(latest, *rec.Tombstone)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(latest), func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), cmp.Compare(a.Start, b.Start))
	}), nil
}

// Certificates returns the certificate of every window whose latest revision has one, ordered by window and start.
func Certificates(ctx context.Context, log Log, pipeline string) ([]Certificate, error) {
	rows := make(map[WindowID]*Row)
	certificates := make(map[WindowID]*Certificate)
	err := Read(ctx, log, pipeline, func(rec Record) error {
		switch {
		case rec.Row != nil:
			rows[rec.Row.ID()] = rec.Row
		case rec.Tombstone != nil:
			delete(rows, *rec.Tombstone)
		case rec.Certificate != nil:
			certificates[rec.Certificate.ID()] = rec.Certificate
		case rec.Uncertified != nil:
			delete(certificates, *rec.Uncertified)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var valid []Certificate
	for id, c := range certificates {
		// A revision that came after the certificate is another content, which nobody has counted again.
		if row := rows[id]; row != nil && row.Edition == c.Edition && row.Revision == c.Revision {
			valid = append(valid, *c)
		}
	}
	slices.SortFunc(valid, func(a, b Certificate) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), cmp.Compare(a.Start, b.Start))
	})
	return valid, nil
}

// ReadResults passes every row of a result topic to fn, up to its end as of now, partition by partition. Rows of other
// pipelines that share the topic are passed over. A row's bytes are the record's; copy what is kept for long.
func ReadResults(ctx context.Context, log Log, topic, pipeline string, fn func(ResultRow) error) error {
	return readTopic(ctx, log, topic, func(tp source.TopicPartition, r source.Record) error {
		if r.Value == nil {
			return nil
		}
		var row ResultRow
		if err := json.Unmarshal(r.Value, &row); err != nil {
			return fmt.Errorf("%s, offset %d: %w", tp, r.Offset, err)
		}
		if row.Pipeline != pipeline {
			return nil
		}
		return fn(row)
	})
}

// Results returns the last revision of every window and key in the latest edition that has published any, in the order of
// SortResults. It holds all of them in memory.
func Results(ctx context.Context, log Log, topic, pipeline string) ([]ResultRow, error) {
	type place struct {
		WindowID
		key string
	}
	latest := make(map[place]ResultRow)
	edition := Edition
	err := ReadResults(ctx, log, topic, pipeline, func(row ResultRow) error {
		of := max(row.Edition, Edition)
		if of < edition {
			return nil
		}
		if of > edition { // a key or a window that only an ended edition had is none of this one
			clear(latest)
			edition = of
		}
		p := place{WindowID{row.Window, row.Start}, string(row.Key)}
		if old, ok := latest[p]; !ok || row.Supersedes(old) {
			latest[p] = row
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows := make([]ResultRow, 0, len(latest))
	for _, row := range latest {
		if !row.Deleted {
			rows = append(rows, row)
		}
	}
	SortResults(rows)
	return rows, nil
}

// SortResults sorts by window, start and key.
func SortResults(rows []ResultRow) {
	slices.SortFunc(rows, func(a, b ResultRow) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), cmp.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key))
	})
}

func readTopic(ctx context.Context, log Log, topic string, fn func(source.TopicPartition, source.Record) error) error {
	partitions, err := log.Partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	for _, p := range slices.Sorted(slices.Values(partitions)) {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		if _, err := log.ReadCommitted(ctx, tp, 0, func(r source.Record) error { return fn(tp, r) }); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
	}
	return nil
}
