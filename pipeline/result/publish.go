package result

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// keepPages is how many bytes of a revision's content are kept in memory between preparing and publishing it. A larger
// one is read back from Redis page by page.
const keepPages = 1 << 20

// sendRecords is how many result records are sent at a time; with their sizes it bounds the memory of a transaction.
const sendRecords = 1024

// errSame ends a preparation whose content equals that of the last revision.
var errSame = errors.New("same content as the last revision")

// prepared is a frozen revision.
type prepared struct {
	row    *ledger.Row
	pages  [][]byte // the content, when it is small and was read just now
	frozen bool     // by an earlier attempt, maybe from an older state

	topicID string // of the result topic, as of the look at the lanes
}

// freezer writes a window's content as pages.
type freezer struct {
	sum  ledger.Checksum
	page []byte
	kept [][]byte
	size int
	full bool // kept is not everything
	add  func(page []byte) error
}

func (f *freezer) emit(row ledger.Content) error {
	f.sum.AddContent(row)
	f.page = appendPageRow(f.page, row)
	if len(f.page) < maxPage {
		return nil
	}
	return f.flush()
}

func (f *freezer) flush() error {
	if len(f.page) == 0 {
		return nil
	}
	if err := f.add(f.page); err != nil {
		return err
	}
	if f.size += len(f.page); f.size <= keepPages {
		f.kept = append(f.kept, f.page)
		f.page = nil
		return nil
	}
	f.kept, f.full = nil, true
	f.page = f.page[:0]
	return nil
}

// prepare freezes the next revision of a window, or returns the one an earlier attempt froze. errSame comes with the row
// that the last revision gets instead.
func (c *Closer) prepare(ctx context.Context, t *task, last *ledger.Row, exact bool) (*prepared, error) {
	row := c.newRow(t, last)
	f := &freezer{}
	rev, fresh, err := c.cfg.State.Prepare(ctx, c.storeID(t.ref), row.Revision, func(add func([]byte) error) ([]byte, error) {
		*f = freezer{add: add}
		events, isExact, err := c.mergeWindow(ctx, t, exact, f.emit)
		if err != nil {
			return nil, err
		}
		row.Events, row.Exact, row.Keys, row.Checksum = events, isExact, f.sum.Rows(), f.sum.String()
		if last != nil && last.Checksum == row.Checksum && last.Keys == row.Keys {
			row.Revision, row.Links = last.Revision, last.Links
			return nil, errSame
		}
		if err := f.flush(); err != nil {
			return nil, err
		}
		return json.Marshal(row)
	})
	if errors.Is(err, errSame) {
		return &prepared{row: row}, errSame
	}
	if err != nil {
		return nil, err
	}
	if fresh {
		p := &prepared{row: row, topicID: t.view.resultID}
		if !f.full {
			p.pages = f.kept
		}
		return p, nil
	}
	frozen := new(ledger.Row)
	if err := json.Unmarshal(rev.Header, frozen); err != nil {
		return nil, fmt.Errorf("revision %d prepared earlier: %w", rev.Number, err)
	}
	if frozen.Window != row.Window || frozen.Start != row.Start || frozen.Revision != row.Revision {
		return nil, fmt.Errorf("revision %d prepared earlier belongs to window %s, revision %d: %w",
			rev.Number, frozen.ID(), frozen.Revision, store.ErrCorrupt)
	}
	return &prepared{row: frozen, frozen: true, topicID: t.view.resultID}, nil
}

// mergeWindow merges the task's window. A lane whose entries do not add up is asked to write them again.
func (c *Closer) mergeWindow(ctx context.Context, t *task, exact bool, emit func(ledger.Content) error) (events int64, isExact bool, err error) {
	events, isExact, err = c.merger.Window(ctx, t.view.View, t.ref, exact, emit)
	var missing *merge.MissingError
	if errors.As(err, &missing) {
		err = c.askForEntries(ctx, missing)
	}
	return events, isExact, err
}

// publish sends the content and the ledger row in one transaction. A nil p.pages of a new revision means that the
// content is read back from Redis; amend publishes the row alone. Whatever goes wrong, the slot's producer is given up.
func (s *slot) publish(ctx context.Context, p *prepared, amend bool) error {
	offset, err := s.transact(ctx, p, amend)
	if err != nil {
		s.discard()
		return &PublishError{Window: p.row.Window, Start: p.row.Start, Revision: p.row.Revision, Err: err}
	}
	s.index.put(p.row, offset)
	s.next = max(s.next, offset+1)
	s.views[p.row.ID()] = p.row
	return nil
}

// transact returns the offset of the ledger row.
func (s *slot) transact(ctx context.Context, p *prepared, amend bool) (int64, error) {
	if err := s.producer.Begin(); err != nil {
		return 0, err
	}
	if !amend {
		if err := s.sendContent(ctx, p); err != nil {
			return 0, err
		}
	}
	text, err := json.Marshal(p.row) // where the content stands is known now
	if err != nil {
		return 0, err
	}
	records := []Record{{Topic: s.topic.Topic, Partition: s.topic.Partition, Key: p.row.ID().Key(), Value: text}}
	if err := s.producer.Send(ctx, records); err != nil {
		return 0, err
	}
	return records[0].Offset, s.producer.Commit()
}

// sendContent sends one record per row to the result topic, links the ledger row to them, and checks that the content is
// what the ledger row says.
func (s *slot) sendContent(ctx context.Context, p *prepared) error {
	row := p.row
	prefix := ledger.NewResultPrefix(row.Pipeline, row.Window, row.Start, row.End, row.Edition)
	headers := []source.Header{{Key: "mr-window", Value: []byte(row.Window)}}
	var sum ledger.Checksum
	link := ledger.Link{Revision: row.Revision, TopicID: p.topicID, Whole: true}
	records := make([]Record, 0, min(sendRecords, row.Keys))
	send := func() error {
		if len(records) == 0 || row.PublishedTo == "" {
			records = records[:0]
			return nil
		}
		err := s.producer.Send(ctx, records)
		for i := range records {
			link.Extend(records[i].Partition, records[i].Offset)
		}
		records = records[:0]
		return err
	}
	page := func(page []byte) error {
		err := eachPageRow(page, func(c ledger.Content) error {
			sum.AddContent(c)
			records = append(records, Record{
				Topic: row.PublishedTo, Key: c.Key, Value: prefix.Append(nil, row.Revision, c), Headers: headers,
			})
			if len(records) < sendRecords {
				return nil
			}
			return send()
		})
		if err != nil {
			return err
		}
		return send() // the records alias the page
	}
	var err error
	if p.pages != nil {
		for _, b := range p.pages {
			if err = page(b); err != nil {
				return err
			}
		}
	} else {
		id := store.WindowID{Pipeline: row.Pipeline, Window: row.Window, Start: row.Start}
		_, err = s.state.ReadRevision(ctx, id, row.Revision, page)
	}
	if err != nil {
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
