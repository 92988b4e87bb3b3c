package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// EachState passes the states of a revision to fn as they stand in the states topic, in no order, and keeps none of them; key and
// state are valid during the call. Only when it returns nil were they all of the content, once each: keys and checksum are those
// of the row. Anything else is a *GoneError, and ReadStates may still find them elsewhere.
func (r *Contents) EachState(ctx context.Context, row *ledger.Row, fn func(key, state []byte) error) error {
	if len(row.States) == 0 || r.Render == nil {
		return &GoneError{Window: row.ID(), Revision: row.Revision, Missing: []string{"its states were not published"}}
	}
	sum := new(ledger.Checksum)
	err := r.eachRendered(ctx, row, func(found ledger.Content) error {
		sum.AddContent(found)
		return fn(found.Key, found.State)
	})
	var gone loss
	switch {
	case errors.Is(err, source.ErrUnknownTopic):
		gone = loss{err.Error(), true}
	case err != nil:
		return fmt.Errorf("read revision %d of window %s: %w", row.Revision, row.ID(), err)
	case sum.Rows() == row.Keys && sum.String() == row.Checksum:
		return nil
	default:
		if gone, err = r.explainLoss(ctx, row, ledger.StatesTopic(row.Pipeline), row.States, sum); err != nil {
			return err
		}
	}
	return &GoneError{row.ID(), row.Revision, []string{gone.text}, gone.expired}
}

// eachRendered passes what the states topic holds of a row's content to fn, with the values that Render makes of the states. The
// row must have States, and Render must be set. It reads the links from the last one on, and passes a key where it meets it
// first: only the keys that the later revisions have changed are kept in mind.
func (r *Contents) eachRendered(ctx context.Context, row *ledger.Row, fn func(ledger.Content) error) error {
	later := make(map[string]struct{}) // keys that revisions after the link's have changed
	for i := len(row.States) - 1; i >= 0; i-- {
		link := &row.States[i]
		changed := make(map[string]struct{})
		err := r.eachRenderedOf(ctx, row, link, func(key []byte) bool {
			if !link.Whole {
				changed[string(key)] = struct{}{}
			}
			_, found := later[string(key)]
			return !found
		}, fn)
		if err != nil {
			return err
		}
		maps.Copy(later, changed)
	}
	return nil
}

// eachRenderedOf passes the states of the keys that want accepts and that one revision has published.
func (r *Contents) eachRenderedOf(ctx context.Context, row *ledger.Row, link *ledger.Link, want func(key []byte) bool,
	fn func(ledger.Content) error) error {
	topic := ledger.StatesTopic(row.Pipeline)
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	return r.readLinks(ctx, topic, []ledger.Link{*link}, func(rec source.Record) error {
		if !bytes.HasPrefix(rec.Value, prefix) {
			return nil
		}
		var found ledger.StateRow
		if err := found.UnmarshalJSON(rec.Value); err != nil {
			return fmt.Errorf("topic %s, offset %d: %w", topic, rec.Offset, err)
		}
		if found.Revision != link.Revision || !want(found.Key) || found.Deleted {
			return nil
		}
		values, overflow, err := r.Render(found.State)
		if err != nil {
			return fmt.Errorf("topic %s, offset %d: key %s: %w", topic, rec.Offset, found.Key, err)
		}
		return fn(ledger.Content{Key: found.Key, Values: values, Overflow: overflow, State: found.State})
	})
}
