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
	topic := ledger.StatesTopic(row.Pipeline)
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	links := []ledger.Link{*row.States}
	sum := new(ledger.Checksum)
	err := r.readLinks(ctx, topic, links, func(rec source.Record) error {
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
		sum.AddContent(ledger.Content{Key: found.Key, Values: values, Overflow: overflow})
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
		if gone, err = r.explainLoss(ctx, row, topic, links, sum); err != nil {
			return err
		}
	}
	return &GoneError{row.ID(), row.Revision, []string{gone.text}, gone.expired}
}
