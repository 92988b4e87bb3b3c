package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

// OpenTransaction is an open transaction that the rows of a large window go out in as they come.
type OpenTransaction struct {
	Window   ledger.WindowID
	Revision int
	Since    time.Time

	rows atomic.Int64
}

// Rows is how many have gone out so far.
func (s *OpenTransaction) Rows() int64 { return s.rows.Load() }

const (
	// MaxHeld is how many bytes of a content are held before its transaction is begun: a smaller
	// one is sent when all of it is known to be right.
	MaxHeld = 4 << 20

	// pageBytes is the size that pages by hash are made for: what a correction of one key reads and
	// writes again.
	pageBytes = 16 << 10

	// sequenceBytes is the size after which a page is closed in a content that is not by hash.
	sequenceBytes = 256 << 10

	// longBytes is from which size on a content may take longer than transactions usually do.
	longBytes = 128 << 20
)

// whole is the content of a revision that publishes all of its rows, while it passes by.
type whole struct {
	h         *Held
	checked   *Checked
	ctx       context.Context
	draft     *Draft
	size      int64 // of the content, about
	directory *view.Directory

	number int // of the open page
	page   []byte
	sum    ledger.Checksum // of its rows
	events int64           // in them

	held      [][]byte // closed pages, unless the content streams
	heldBytes int
	streams   bool  // rows are sent as they come
	failed    error // of Kafka

	writer *draftWriter

	rows, bytes int64
	stateful    int64 // rows with a state

	left map[string]struct{} // keys of the latest revision that have not come; nil unless some may have left
	gone []ledger.Content    // those that have left, by key
}

// checkWhole finds out what all rows of a content are. They go to Kafka as they come once they are
// more than what is held, so that memory is bounded; the transaction is aborted when the content
// turns out not to be what it should, and is committed here.
func (h *Held) checkWhole(c *Checked, content Content) error {
	began := h.keep.now()
	w := h.newWhole(c, content)
	defer h.open.Store(nil)
	err := w.take(content)
	if err == nil && w.streams && !c.made.Amends {
		err = h.endTransaction(w.ctx, []*Checked{c})
		w.failed = err
	}
	switch {
	case w.failed != nil:
		if took := h.keep.now().Sub(began); w.streams && took > transactionTimeout && errors.Is(w.failed, ErrFenced) {
			w.failed = fmt.Errorf("%w, or the broker has ended a transaction that took %s: it allows transaction.max.timeout.ms",
				w.failed, took.Round(time.Second))
		}
		h.GiveUpProducer()
		return revisionError(c.draft.Row, w.failed)
	case w.streams && (err != nil || c.made.Amends): // the transaction was begun in vain
		h.GiveUpProducer()
	case w.streams:
		if c.done = true; h.long {
			h.GiveUpProducer()
		}
	}
	return err
}

func (h *Held) newWhole(c *Checked, content Content) *whole {
	d := c.draft
	w := &whole{
		h: h, checked: c, ctx: c.ctx, draft: d, size: content.Bytes(), directory: new(view.Directory), number: -1,
	}
	if content.ByHash() {
		w.directory = view.ByHash(bits.Len64(uint64(content.Bytes() / h.viewPage)))
	}
	w.writer = h.newWholeDraftWriter(c.ctx, d.Row)
	c.drafted = w.writer
	return w
}

// take takes the content, and completes the row but for where its content stands.
func (w *whole) take(content Content) error {
	if err := w.rememberKeys(); err != nil {
		return err
	}
	events, exact, err := content.Whole(w.ctx, w.addRows)
	if err == nil {
		err = w.closePage()
	}
	if err == nil {
		err = w.addGone()
	}
	if err != nil {
		return err
	}
	c, d, total := w.checked, w.draft, w.directory.Total()
	row := d.Row
	row.Events, row.Exact, row.Keys, row.Checksum = events, exact, total.Rows(), total.String()
	l := d.Latest
	same := l != nil && l.Checksum == row.Checksum && l.Keys == row.Keys
	if same && !d.Again && w.stateful > 0 && len(l.States) > 0 && l.Events != row.Events {
		// No value shows the events that have come, and what is merged into coarser windows holds them: the states of the
		// latest revision are not those of the window any more.
		same, row.Mends = false, report.PlaceStates
	}
	if same && !d.Again {
		_, _ = w.writer.close()
		discardAll(c)
		c.amend()
		return nil
	}
	if err := d.checkSum(&total); err != nil {
		return err
	}
	if w.stateful > 0 && w.stateful < row.Keys {
		w.failed = fmt.Errorf("the content has %d keys, and states of %d of them: %w", row.Keys, w.stateful, store.ErrCorrupt)
		return w.failed
	}
	if err := w.writer.finishWhole(row, w.directory); err != nil {
		return err
	}
	c.made.rows, c.made.bytes = w.rows, w.bytes
	c.pages, c.left = w.held, w.gone
	row.Changed = 0
	return nil
}

// addRows takes rows of the content.
func (w *whole) addRows(rows *ledger.Rows) error {
	for i, c := range rows.Content {
		if c.Deleted {
			w.gone = append(w.gone, ledger.Content{Key: bytes.Clone(c.Key), Values: bytes.Clone(c.Values), Overflow: c.Overflow, Deleted: true})
			continue
		}
		if w.directory.ByHash {
			if n := w.directory.PageOf(rows.Hashes[i]); n != w.number {
				if err := w.closePage(); err != nil {
					return err
				}
				w.number = n
			}
			w.events += rows.Events[i]
		}
		w.sum.AddDigest(rows.Digests[i])
		if len(c.State) > 0 {
			w.stateful++
		}
		w.rows++
		delete(w.left, string(c.Key))
		w.page = view.AppendRow(w.page, c)
		if w.streams {
			if w.failed = w.checked.sending.addRow(w.ctx, w.h.producer, c); w.failed != nil {
				return w.failed
			}
		}
		if !w.directory.ByHash && len(w.page) >= sequenceBytes {
			if err := w.closePage(); err != nil {
				return err
			}
		}
	}
	if w.streams {
		w.h.open.Load().rows.Store(w.rows)
	}
	return nil
}

// closePage hands the open page over to Redis, and holds it as long as nothing is sent.
func (w *whole) closePage() error {
	if len(w.page) == 0 {
		return nil
	}
	head := view.Head{Revision: w.draft.Row.Revision, Events: w.events, Sum: w.sum}
	if w.directory.ByHash {
		w.directory.Pages[w.number] = head
	} else {
		w.number = len(w.directory.Pages)
		w.directory.Pages = append(w.directory.Pages, head)
	}
	w.bytes += int64(len(w.page))
	w.writer.add(store.ViewField{Name: w.directory.Field(w.number), Value: w.page})
	if !w.streams {
		w.held = append(w.held, w.page)
		w.heldBytes += len(w.page)
	}
	w.page, w.sum, w.events = make([]byte, 0, len(w.page)+len(w.page)/8), ledger.Checksum{}, 0
	if w.heldBytes <= MaxHeld {
		return nil
	}
	w.writer.goBeside()
	if w.size > longBytes || w.size == 0 { // nobody knows how large it is
		if err := w.h.takeOverLong(w.ctx, w.draft); err != nil {
			return err
		}
	}
	w.h.open.Store(&OpenTransaction{Window: w.draft.Row.ID(), Revision: w.draft.Row.Revision, Since: w.h.keep.now()})
	w.checked.pages = w.held
	if w.failed = w.h.producer.Begin(); w.failed == nil {
		w.failed = w.checked.send(w.ctx, w.h.producer)
	}
	w.checked.pages, w.held, w.heldBytes, w.streams = nil, nil, 0, true
	return w.failed
}

// rememberKeys notes the keys of the latest revision where some may leave the window, as far as
// they can be read.
func (w *whole) rememberKeys() error {
	if !w.draft.Forgets || w.draft.Latest == nil {
		return nil
	}
	var rows []ledger.Content
	if base := w.draft.Base; base != nil {
		rows = base.Rows
	} else {
		var err error
		contents := Contents{Kafka: w.h.kafka, State: w.h.state}
		rows, err = contents.Read(w.ctx, w.draft.Latest)
		var gone *GoneError
		if errors.As(err, &gone) || errors.Is(err, view.ErrCorrupt) {
			return nil // nobody can read them any more
		}
		if err != nil {
			return err
		}
	}
	w.left = make(map[string]struct{}, len(rows))
	for i := range rows {
		w.left[string(rows[i].Key)] = struct{}{}
	}
	return nil
}

// addGone publishes rows that say which keys have left. Pages and directory do not have them.
func (w *whole) addGone() error {
	for _, key := range slices.Sorted(maps.Keys(w.left)) {
		w.gone = append(w.gone, ledger.Content{Key: []byte(key), Values: []byte("{}"), Deleted: true})
	}
	w.rows += int64(len(w.gone))
	if !w.streams {
		return nil
	}
	for _, c := range w.gone {
		if w.failed = w.checked.sending.addRow(w.ctx, w.h.producer, c); w.failed != nil {
			return w.failed
		}
	}
	return nil
}
