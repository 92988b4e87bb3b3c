package result

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/source"
)

// Published is how readers see Kafka: partition lists and committed records.
type Published interface {
	Topics
	Log
}

// NewPublished returns a reader of published results. The cluster must outlive it.
func NewPublished(cluster *source.Cluster) Published { return &kafka{Cluster: cluster} }

// LedgerEntry is one record of the ledger topic.
type LedgerEntry struct {
	LedgerRow
	Partition int32
	Offset    int64
}

// ReadLedger passes every record that the ledger topic still holds to fn, up to its end as of now: partition by
// partition, oldest first. Compaction may have removed all but the latest row of a window.
func ReadLedger(ctx context.Context, k Published, pipeline string, fn func(LedgerEntry) error) error {
	return readAll(ctx, k, LedgerTopic(pipeline), func(tp source.TopicPartition, r source.Record) error {
		row, err := parseLedgerRecord(tp, r)
		if err != nil || row == nil {
			return err
		}
		return fn(LedgerEntry{LedgerRow: *row, Partition: tp.Partition, Offset: r.Offset})
	})
}

// Ledger returns the latest row of every window, by window name in the order of start.
func Ledger(ctx context.Context, k Published, pipeline string) ([]LedgerRow, error) {
	latest := make(map[windowID]LedgerRow)
	err := ReadLedger(ctx, k, pipeline, func(e LedgerEntry) error {
		latest[windowID{e.Window, e.Start}] = e.LedgerRow
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows := make([]LedgerRow, 0, len(latest))
	for _, row := range latest {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b LedgerRow) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), cmp.Compare(a.Start, b.Start))
	})
	return rows, nil
}

// ReadResults passes every row of a result topic to fn, up to its end as of now, partition by partition. Rows of other
// pipelines that share the topic are passed over. A row's bytes are the record's; copy what is kept for long.
func ReadResults(ctx context.Context, k Published, topic, pipeline string, fn func(Row) error) error {
	return readAll(ctx, k, topic, func(tp source.TopicPartition, r source.Record) error {
		if r.Value == nil {
			return nil
		}
		var row Row
		if err := json.Unmarshal(r.Value, &row); err != nil {
			return fmt.Errorf("%s, offset %d: %w", tp, r.Offset, err)
		}
		if row.Pipeline != pipeline {
			return nil
		}
		return fn(row)
	})
}

// Results returns the last revision of every window and key, sorted by window, start and key. It holds all of them in
// memory.
func Results(ctx context.Context, k Published, topic, pipeline string) ([]Row, error) {
	type place struct {
		windowID
		key string
	}
	latest := make(map[place]Row)
	err := ReadResults(ctx, k, topic, pipeline, func(row Row) error {
		p := place{windowID{row.Window, row.Start}, string(row.Key)}
		if old, ok := latest[p]; !ok || row.Revision > old.Revision {
			latest[p] = row
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rows := make([]Row, 0, len(latest))
	for _, row := range latest {
		if !row.Deleted {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), cmp.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key))
	})
	return rows, nil
}

func readAll(ctx context.Context, k Published, topic string, fn func(source.TopicPartition, source.Record) error) error {
	partitions, err := k.Partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	for _, p := range slices.Sorted(slices.Values(partitions)) {
		tp := source.TopicPartition{Topic: topic, Partition: p}
		if _, err := k.Read(ctx, tp, 0, func(r source.Record) error { return fn(tp, r) }); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
	}
	return nil
}
