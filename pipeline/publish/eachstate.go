package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// EachState passes the states of a revision to fn as they stand in the states topic, in no order, and keeps none of them; key and
// state are valid during the call. Only when it returns nil were they all of the content, once each: keys and checksum are those
// of the row. Anything else is a *GoneError, and ReadStates may still find them elsewhere.
func (r *Contents) EachState(ctx context.Context, row *ledger.Row, fn func(key, state []byte) error) error {
	if row.States == nil || r.Render == nil {
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
		if gone, err = r.explainLoss(ctx, row, ledger.StatesTopic(row.Pipeline), []ledger.Link{*row.States}, sum); err != nil {
			return err
		}
	}
	return &GoneError{row.ID(), row.Revision, []string{gone.text}, gone.expired}
}

// eachRendered passes what the states topic holds of a row's revision to fn, with the values that Render makes of the states. The
// row must have States, and Render must be set.
func (r *Contents) eachRendered(ctx context.Context, row *ledger.Row, fn func(ledger.Content) error) error {
	topic := ledger.StatesTopic(row.Pipeline)
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	return r.readLinks(ctx, topic, []ledger.Link{*row.States}, func(rec source.Record) error {
		if !bytes.HasPrefix(rec.Value, prefix) {
			return nil
		}
		var found ledger.StateRow
		if err := found.UnmarshalJSON(rec.Value); err != nil {
			return fmt.Errorf("topic %s, offset %d: %w", topic, rec.Offset, err)
		}
		if found.Revision != row.States.Revision {
			return nil
		}
		values, overflow, err := r.Render(found.State)
		if err != nil {
			return fmt.Errorf("topic %s, offset %d: key %s: %w", topic, rec.Offset, found.Key, err)
		}
		return fn(ledger.Content{Key: found.Key, Values: values, Overflow: overflow, State: found.State})
	})
}
