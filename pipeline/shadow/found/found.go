// Package found hands what shadows have found to the closer of their pipeline, which publishes or certifies it.
package found

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/store"
)

// Differences are what the shadows in a Redis have found.
type Differences struct{ Store *store.Store }

var _ result.Differences = Differences{}

// Open implements result.Differences.
func (d Differences) Open(ctx context.Context, pipeline, replay string) (result.Difference, error) {
	r := shadow.NewReader(d.Store, pipeline, replay)
	m, err := r.Manifest(ctx)
	if errors.Is(err, store.ErrNoShadow) {
		return nil, result.ErrNoDifference
	}
	if err != nil {
		return nil, err
	}
	out := &difference{reader: r, checksum: m.Checksum, headers: make(map[ledger.WindowID]*diff.Header)}
	var read []ledger.CertifiedLane
	for i := range m.Plan.Lanes {
		l := &m.Plan.Lanes[i]
		read = append(read, ledger.CertifiedLane{
			Topic: l.Topic, Partition: l.Partition, From: l.Start, To: l.End, TopicID: l.TopicID, Era: l.Era,
		})
	}
	for _, h := range m.Headers {
		if h == nil || h.Problem != "" { // it was published anew before it was compared
			continue
		}
		out.headers[h.ID()] = h
		out.counted = append(out.counted, result.Counted{
			Row: h.Row, BaseRevision: h.BaseRevision, BaseChecksum: h.BaseChecksum, Equal: h.Agrees(), Scope: h.Scope, Read: read,
			Mends: h.WrongPlaces(), Taken: h.Taken,
		})
	}
	return out, nil
}

// difference is what one shadow has found.
type difference struct {
	reader   *shadow.Reader
	checksum string
	counted  []result.Counted
	headers  map[ledger.WindowID]*diff.Header
}

func (d *difference) Checksum() string          { return d.checksum }
func (d *difference) Counted() []result.Counted { return d.counted }

// Changes implements result.Difference.
func (d *difference) Changes(ctx context.Context, id ledger.WindowID) ([]publish.Change, error) {
	rows, _, err := d.rows(ctx, id)
	if err != nil {
		return nil, err
	}
	return Changes(rows), nil
}

// Whole implements result.Difference.
func (d *difference) Whole(ctx context.Context, id ledger.WindowID, emit func(ledger.Content) error) error {
	rows, h, err := d.rows(ctx, id)
	if err != nil {
		return err
	}
	return wrongContent(diff.EmitWhole(rows, h, emit))
}

func (d *difference) rows(ctx context.Context, id ledger.WindowID) ([]diff.Row, *diff.Header, error) {
	h := d.headers[id]
	if h == nil {
		return nil, nil, fmt.Errorf("%w: window %s was not compared", publish.ErrWrongContent, id)
	}
	rows, err := d.reader.Rows(ctx, h)
	return rows, h, err
}

// Changes says what rows of a difference change.
func Changes(rows []diff.Row) []publish.Change {
	changes := make([]publish.Change, len(rows))
	for i := range rows {
		changes[i] = publish.Change{Old: rows[i].Old, OldOverflow: rows[i].OldOverflow, New: rows[i].Content()}
	}
	return changes
}

// wrongContent marks an error that says that a difference and its base do not belong together.
func wrongContent(err error) error {
	if errors.Is(err, diff.ErrBase) {
		return fmt.Errorf("%w: %w", publish.ErrWrongContent, err)
	}
	return err
}
