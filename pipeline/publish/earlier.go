package publish

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// ReadUpTo returns the content of an earlier revision from the links of a later row, followed up to
// that revision: for a reader who finds no ledger row of the revision itself any more. The content
// is sorted by key, without the keys that had left the window. Nothing says what it should add up
// to, so a loss shows only where the topic was cut or made again: that is a *GoneError, and so is a
// revision that row does not link to.
func (r *Contents) ReadUpTo(ctx context.Context, row *ledger.Row, revision int) ([]ledger.Content, error) {
	earlier := *row
	earlier.Revision = revision
	n := linkOf(row, revision)
	if n < 0 {
		return nil, &GoneError{
			Window: row.ID(), Revision: revision,
			Missing: []string{fmt.Sprintf("revision %d has no link to it", row.Revision)},
		}
	}
	earlier.Links = row.Links[:n+1]
	readLinked := func(ctx context.Context, earlier *ledger.Row) ([]ledger.Content, bool, loss, error) {
		rows, looked, gone, err := r.readResults(ctx, earlier)
		if !gone.expired {
			return rows, looked, loss{}, err // keys and checksum, which differ, are those of the later row
		}
		what := fmt.Sprintf("its ledger row is gone, and so are rows in topic %s that revision %d links to",
			earlier.PublishedTo, row.Revision)
		return nil, looked, loss{what, true}, nil
	}
	return r.readFrom(ctx, &earlier, readLinked)
}

// ReadPublished returns the rows that a revision of the row's window and edition published, those of
// deleted keys too, in no order: what it changed, unless it is whole. They are read from where the
// row links to the revision, else from the whole topic. Rows that are gone are left out.
func (r *Contents) ReadPublished(ctx context.Context, row *ledger.Row, revision int) ([]ledger.ResultRow, error) {
	var rows []ledger.ResultRow
	var links []ledger.Link
	if n := linkOf(row, revision); n >= 0 {
		links = row.Links[n : n+1]
	}
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	err := r.readLinks(ctx, row.PublishedTo, links, func(rec source.Record) error {
		if !bytes.HasPrefix(rec.Value, prefix) {
			return nil
		}
		var found ledger.ResultRow
		if err := found.UnmarshalJSON(rec.Value); err != nil {
			return fmt.Errorf("topic %s, offset %d: %w", row.PublishedTo, rec.Offset, err)
		}
		if found.Revision == revision {
			rows = append(rows, found)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read what revision %d of window %s published: %w", revision, row.ID(), err)
	}
	return rows, nil
}

// linkOf returns the index of the link to a revision, -1 without one.
func linkOf(row *ledger.Row, revision int) int {
	return slices.IndexFunc(row.Links, func(l ledger.Link) bool { return l.Revision == revision })
}
