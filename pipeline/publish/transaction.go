package publish

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/measure"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
)

// sendRecords is how many result records are sent at a time; with their sizes it bounds the memory of a transaction.
const sendRecords = 1024

// PublishRevision sends the content and the ledger row of a revision in one transaction; the slot was taken over. Whatever
// goes wrong, a *RevisionError, gives the slot's producer up. What was published is shown by ShowRows.
//
// Where the span in ctx is recorded, the records carry its trace context.
func (h *Held) PublishRevision(ctx context.Context, r *Revision) error {
	began := h.keep.now()
	ctx, span := traces.Start(ctx, traces.SpanPublish, traces.Pipeline.String(h.pipeline), traces.Window.String(r.Row.ID().String()),
		traces.Revision.Int(r.Row.Revision), traces.Final.Bool(r.Row.Final), traces.Keys.Int64(r.Row.Keys))
	offset, err := h.sendRevision(ctx, r)
	traces.End(span, err)
	if err != nil {
		h.GiveUpProducer()
		return &RevisionError{Window: r.Row.Window, Start: r.Row.Start, Revision: r.Row.Revision, Err: err}
	}
	h.index.addRow(r.Row, offset)
	h.next, h.asOf = max(h.next, offset+1), began
	h.pending[r.Row.ID()] = r.Row
	h.measure.Published(measure.Revision{
		Reason: r.Row.Reason, Number: r.Row.Revision, Amends: r.amends, Final: r.Row.Final, Rows: r.Row.Keys, Bytes: r.bytes,
	})
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
	records := []Record{{Topic: h.topic.Topic, Partition: h.topic.Partition, Key: r.Row.ID().Key(), Value: text, Headers: traceHeaders(ctx)}}
	if err := h.producer.Send(ctx, records); err != nil {
		return 0, err
	}
	return records[0].Offset, h.producer.Commit()
}

// sendContent sends one record per row to the result topic, and one per state to the states topic, links the ledger row to
// them, and checks that the content is what the ledger row says.
func (h *Held) sendContent(ctx context.Context, r *Revision) error {
	row := r.Row
	s := newSending(r, traceHeaders(ctx))
	sendPage := func(page []byte) error {
		r.bytes += int64(len(page))
		err := eachRow(page, func(c ledger.Content) error {
			s.addRow(c)
			if len(s.records) < sendRecords {
				return nil
			}
			return s.send(ctx, h.producer)
		})
		if err != nil {
			return err
		}
		return s.send(ctx, h.producer) // the records alias the page
	}
	if err := h.eachPage(ctx, r, sendPage); err != nil {
		return err
	}
	if s.sum.Rows() != row.Keys || s.sum.String() != row.Checksum {
		return fmt.Errorf("content prepared in Redis has %d keys and checksum %s, its ledger row says %d and %s: %w",
			s.sum.Rows(), &s.sum, row.Keys, row.Checksum, store.ErrCorrupt)
	}
	if s.stateful > 0 && s.stateful < row.Keys {
		return fmt.Errorf("content prepared in Redis has %d keys, and states of %d of them: %w", row.Keys, s.stateful, store.ErrCorrupt)
	}
	row.Links, row.States = nil, nil
	if row.PublishedTo != "" {
		row.Links = []ledger.Link{s.results}
	}
	if s.stateful > 0 {
		row.States = &s.states
	}
	return nil
}

// sending is the content of a revision on its way to Kafka.
type sending struct {
	row             *ledger.Row
	prefix          ledger.ResultPrefix
	headers         []source.Header
	statesTopic     string
	records         []Record
	sum             ledger.Checksum
	stateful        int64 // rows with a state
	results, states ledger.Link
}

// traceHeaders carry the trace context of the span in ctx, if its trace is recorded.
func traceHeaders(ctx context.Context) []source.Header {
	if context := traces.Sampled(ctx); context != "" {
		return []source.Header{{Key: traces.Header, Value: []byte(context)}}
	}
	return nil
}

func newSending(r *Revision, more []source.Header) *sending {
	row := r.Row
	return &sending{
		row: row, prefix: ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition),
		headers:     append([]source.Header{{Key: "mr-window", Value: []byte(row.Window)}}, more...),
		statesTopic: ledger.StatesTopic(row.Pipeline),
		records:     make([]Record, 0, min(sendRecords, row.Keys)),
		results:     ledger.Link{Revision: row.Revision, TopicID: r.topics.Results, Whole: true},
		states:      ledger.Link{Revision: row.Revision, TopicID: r.topics.States, Whole: true},
	}
}

// addRow adds the records of one row. They alias it.
func (s *sending) addRow(c ledger.Content) {
	s.sum.AddContent(c)
	if s.row.PublishedTo != "" {
		s.records = append(s.records, Record{
			Topic: s.row.PublishedTo, Key: c.Key, Value: s.prefix.Append(nil, s.row.Revision, c), Headers: s.headers,
		})
	}
	if len(c.State) > 0 && !c.Deleted {
		s.stateful++
		s.records = append(s.records, Record{
			Topic: s.statesTopic, Key: c.Key, Value: s.prefix.AppendState(nil, s.row.Revision, c), Headers: s.headers,
		})
	}
}

// send sends the records that were added, and notes where they stand.
func (s *sending) send(ctx context.Context, p Producer) error {
	if len(s.records) == 0 {
		return nil
	}
	err := p.Send(ctx, s.records)
	for i := range s.records {
		link := &s.results
		if s.records[i].Topic == s.statesTopic {
			link = &s.states
		}
		link.Extend(s.records[i].Partition, s.records[i].Offset)
	}
	s.records = s.records[:0]
	return err
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
