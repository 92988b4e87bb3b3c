package publish

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

const (
	// callBytes is how many bytes of pages go to Redis in one call.
	callBytes = 512 << 10

	// writesAhead is how many calls with pages wait for Redis at a time.
	writesAhead = 4
)

// draftWriter writes pages to the draft of a revision in Redis: one call after the other until
// goBeside, and beside what goes to Kafka from then on. They show nothing before the revision is
// flipped.
type draftWriter struct {
	ctx     context.Context
	state   State
	id      store.WindowID
	version store.Version
	attempt string
	rows    *stager // nil without plain rows

	fields []store.ViewField // pages that no call has taken yet
	bytes  int               // of them

	began   bool
	written int                    // fields
	err     error                  // guarded by done while a goroutine writes
	calls   chan []store.ViewField // nil unless it does
	done    chan struct{}
}

// newDraftWriter returns one for the pages that a revision changes.
func (h *Held) newDraftWriter(ctx context.Context, row *ledger.Row) *draftWriter {
	return &draftWriter{
		ctx: ctx, state: h.state, id: h.storeID(row.ID()), version: versionOf(row), attempt: newAttempt(),
	}
}

// newWholeDraftWriter returns one for all pages of a revision, whatever Redis has of the one before.
func (h *Held) newWholeDraftWriter(ctx context.Context, row *ledger.Row) *draftWriter {
	w := h.newDraftWriter(ctx, row)
	if h.plainRows {
		w.rows = h.newStager(ctx, w.id, row, w.attempt)
	}
	return w
}

func newAttempt() string {
	var random [16]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// add takes a page. What fails is told by finish.
func (w *draftWriter) add(field store.ViewField) {
	w.fields = append(w.fields, field)
	if w.bytes += len(field.Value); w.bytes >= callBytes {
		w.write()
	}
}

// addDirectory writes the directory, which completes the draft. What fails is told by close.
func (w *draftWriter) addDirectory(directory *view.Directory) {
	w.fields = append(w.fields, store.ViewField{Name: store.DirectoryField(w.version.Revision), Value: directory.Append(nil)})
	w.write()
}

// finishWhole completes a draft of all pages, waits until Redis has it and lets the row name it, unless something newer is
// shown. A content that no topic takes is not published when Redis has lost some of it meanwhile.
func (w *draftWriter) finishWhole(row *ledger.Row, directory *view.Directory) error {
	w.addDirectory(directory)
	complete, err := w.close()
	switch row.View = nil; {
	case err != nil:
		return err
	case complete:
		row.View = &ledger.View{Whole: row.Revision, Attempt: w.attempt}
	case row.PublishedTo == "" && errors.Is(w.err, store.ErrDraftGone):
		return w.err
	}
	return nil
}

func (w *draftWriter) goBeside() {
	w.calls, w.done = make(chan []store.ViewField, writesAhead), make(chan struct{})
	go func() {
		defer close(w.done)
		for fields := range w.calls {
			w.call(fields)
		}
	}()
}

// write begins a call with the pages that none has taken.
func (w *draftWriter) write() {
	fields := w.fields
	w.fields, w.bytes = nil, 0
	if w.calls != nil {
		w.calls <- fields
		return
	}
	w.call(fields)
}

func (w *draftWriter) call(fields []store.ViewField) {
	if w.err == nil {
		w.err = w.state.WriteDraft(w.ctx, w.id, w.version, w.attempt, w.written, fields)
		w.began, w.written = true, w.written+len(fields)
	}
	if w.err == nil && w.rows != nil {
		w.err = w.rows.addFields(fields)
	}
}

// close waits for Redis. complete is false when something newer is shown, or Redis has lost some of the
// draft: that is no error.
func (w *draftWriter) close() (complete bool, err error) {
	if w.calls != nil {
		close(w.calls)
		<-w.done
		w.calls = nil
	}
	if isSuperseded(w.err) {
		return false, nil
	}
	return w.err == nil, w.err
}

// discardTimeout bounds the attempt to remove what was not published. It expires otherwise.
const discardTimeout = 3 * time.Second

func (w *draftWriter) discard(ctx context.Context) {
	if w.began {
		_ = w.state.DiscardDraft(ctx, w.id, w.version, w.attempt)
	}
}
