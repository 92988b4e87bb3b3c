package publish

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// sendRecords is how many result records are sent at a time; with their sizes it bounds the memory of a transaction.
const sendRecords = 1024

// PublishRevision sends the content and the ledger row of a revision in one transaction; the slot was taken over. Whatever
// goes wrong, a *RevisionError, gives the slot's producer up. What was published is shown by ShowRows.
func (h *Held) PublishRevision(ctx context.Context, r *Revision) error {
	began := h.keep.now()
	offset, err := h.sendRevision(ctx, r)
	if err != nil {
		h.GiveUpProducer()
		return &RevisionError{Window: r.Row.Window, Start: r.Row.Start, Revision: r.Row.Revision, Err: err}
	}
	h.index.addRow(r.Row, offset)
	h.next, h.asOf = max(h.next, offset+1), began
	h.pending[r.Row.ID()] = r.Row
	return nil
}

// sendRevision is one transaction. It returns the offset of the ledger row.
func (h *Held) sendRevision(ctx context.Context, r *Revision) (int64, error) {
	if err := h.producer.Begin(); err != nil {
		return 0, err
	}
	if !r.amends {
		if err := h.sendContent(ctx, r); err != nil {
			return 0, err
		}
	}
	text, err := json.Marshal(r.Row) // where the content stands is known now
	if err != nil {
		return 0, err
	}
	records := []Record{{Topic: h.topic.Topic, Partition: h.topic.Partition, Key: r.Row.ID().Key(), Value: text}}
	if err := h.producer.Send(ctx, records); err != nil {
		return 0, err
	}
	return records[0].Offset, h.producer.Commit()
}

// sendContent sends one record per row to the result topic, links the ledger row to them, and checks that the content is
// what the ledger row says.
func (h *Held) sendContent(ctx context.Context, r *Revision) error {
	row := r.Row
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	headers := []source.Header{{Key: "mr-window", Value: []byte(row.Window)}}
	var sum ledger.Checksum
	link := ledger.Link{Revision: row.Revision, TopicID: r.topicID, Whole: true}
	records := make([]Record, 0, min(sendRecords, row.Keys))
	sendBuffered := func() error {
		if len(records) == 0 || row.PublishedTo == "" {
			records = records[:0]
			return nil
		}
		err := h.producer.Send(ctx, records)
		for i := range records {
			link.Extend(records[i].Partition, records[i].Offset)
		}
		records = records[:0]
		return err
	}
	sendPage := func(page []byte) error {
		err := eachRow(page, func(c ledger.Content) error {
			sum.AddContent(c)
			records = append(records, Record{
				Topic: row.PublishedTo, Key: c.Key, Value: prefix.Append(nil, row.Revision, c), Headers: headers,
			})
			if len(records) < sendRecords {
				return nil
			}
			return sendBuffered()
		})
		if err != nil {
			return err
		}
		return sendBuffered() // the records alias the page
	}
	if err := h.eachPage(ctx, r, sendPage); err != nil {
		return err
	}
	if sum.Rows() != row.Keys || sum.String() != row.Checksum {
		return fmt.Errorf("content prepared in Redis has %d keys and checksum %s, its ledger row says %d and %s: %w",
			sum.Rows(), &sum, row.Keys, row.Checksum, store.ErrCorrupt)
	}
	if row.Links = nil; row.PublishedTo != "" {
		row.Links = []ledger.Link{link}
	}
	return nil
}

// eachPage passes the pages of a revision to fn: from memory, or as Redis has them.
func (h *Held) eachPage(ctx context.Context, r *Revision, fn func(page []byte) error) error {
	if r.pages == nil {
		_, err := h.state.ReadRevision(ctx, h.storeID(r.Row.ID()), r.Row.Revision, fn)
		return err
	}
	for _, page := range r.pages {
		if err := fn(page); err != nil {
			return err
		}
	}
	return nil
}
