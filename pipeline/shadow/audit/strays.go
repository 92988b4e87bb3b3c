package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// stray are records of the result topic that readers take for a window's, and that its publishing has not sent.
type stray struct {
	records int64
	keys    [][]byte                  // of the first few
	rows    map[string]ledger.Content // the last of each key
	first   source.TopicPartition
	offset  int64 // of the first
	highest int   // revision
}

// maxStrayKeys is how many keys of a window's strays are remembered.
const maxStrayKeys = 20

// FindStrays reads the result topic once, from where the oldest of the windows was published up to ends. It adds up what stands in
// the transactions that the windows' rows link to, and remembers the records that stand outside of them, unless a later revision
// has superseded them. A row is
// nil for a window that was never published. ends have to be older than the rows: what is published meanwhile belongs to no
// row that is known.
//
// It returns the windows of which a record names a later revision than their row. The transaction that wrote it may have become visible
// in the result topic before it is in the ledger: only when the ledger still says nothing of it is it a stray.
func (a *Auditor) FindStrays(ctx context.Context, edition int, rows map[ledger.WindowID]*ledger.Row,
	ends map[source.TopicPartition]int64) (later []ledger.WindowID, err error) {
	a.strays, a.published = make(map[ledger.WindowID]*stray), make(map[ledger.WindowID]*ledger.Checksum)
	from := startsOf(rows)
	for tp, end := range ends {
		if from[tp] >= end {
			continue
		}
		_, err := a.cfg.Kafka.ReadCommitted(ctx, tp, from[tp], func(rec source.Record) error {
			if rec.Offset >= end {
				return errEnd
			}
			a.judgeRecord(tp, &rec, edition, rows)
			return nil
		})
		if err != nil && !errors.Is(err, errEnd) {
			return nil, fmt.Errorf("look for strays in %s: %w", tp, err)
		}
	}
	for id, s := range a.strays {
		if row := rows[id]; row == nil || s.highest > row.Revision {
			later = append(later, id)
		}
	}
	return later, nil
}

var errEnd = errors.New("the end was reached")

// startsOf is where reading begins: no window has a record before.
func startsOf(rows map[ledger.WindowID]*ledger.Row) map[source.TopicPartition]int64 {
	from := make(map[source.TopicPartition]int64)
	for _, row := range rows {
		if row == nil {
			continue
		}
		for _, link := range row.Links {
			for _, span := range link.Partitions {
				tp := source.TopicPartition{Topic: row.PublishedTo, Partition: span.Partition}
				if first, ok := from[tp]; !ok || span.First < first {
					from[tp] = span.First
				}
			}
		}
	}
	return from
}

// judgeRecord remembers a record if it is a stray. What is no result row is no window's.
func (a *Auditor) judgeRecord(tp source.TopicPartition, rec *source.Record, edition int, rows map[ledger.WindowID]*ledger.Row) {
	var found ledger.ResultRow
	if rec.Value == nil || found.UnmarshalJSON(rec.Value) != nil || found.Pipeline != a.cfg.Spec.Name ||
		max(found.Edition, ledger.Edition) < edition {
		return
	}
	id := ledger.WindowID{Window: found.Window, Start: found.Start}
	row, wanted := rows[id]
	if !wanted || row != nil && !isStray(tp, rec.Offset, found.Revision, row) {
		if wanted && isWhole(row) && found.Revision == row.Revision {
			a.addPublished(id, &found)
		}
		return
	}
	s := a.strays[id]
	if s == nil {
		s = &stray{first: tp, offset: rec.Offset, rows: make(map[string]ledger.Content)}
		a.strays[id] = s
	}
	s.records++
	s.highest = max(s.highest, found.Revision)
	s.rows[string(found.Key)] = ledger.Content{
		Key: bytes.Clone(found.Key), Values: bytes.Clone(found.Values), Overflow: found.Overflow, Deleted: found.Deleted,
	}
	if len(s.keys) < maxStrayKeys {
		s.keys = append(s.keys, bytes.Clone(found.Key))
	}
}

// isWhole reports whether the last revision alone is the content of the window.
func isWhole(row *ledger.Row) bool {
	return len(row.Links) == 1 && row.Links[0].Whole && row.Links[0].Revision == row.Revision
}

func (a *Auditor) addPublished(id ledger.WindowID, found *ledger.ResultRow) {
	sum := a.published[id]
	if sum == nil {
		sum = new(ledger.Checksum)
		a.published[id] = sum
	}
	sum.AddContent(ledger.Content{Key: found.Key, Values: found.Values, Overflow: found.Overflow, Deleted: found.Deleted})
}

// isStray reports whether a record counts for readers, and stands where the row does not say that the window was published.
func isStray(tp source.TopicPartition, offset int64, revision int, row *ledger.Row) bool {
	if row.Version < 2 || tp.Topic != row.PublishedTo { // such rows do not say where their records stand
		return false
	}
	linked := revision >= row.Revision
	for _, link := range row.Links {
		if link.Revision != revision {
			continue
		}
		linked = true
		for _, span := range link.Partitions {
			if span.Partition == tp.Partition && span.First <= offset && offset <= span.Last {
				return false
			}
		}
	}
	return linked
}
