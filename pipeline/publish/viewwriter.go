package publish

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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

// viewWriter writes the pages of a content to Redis: one call after the other until goBeside, and
// beside what goes to Kafka from then on. They show nothing before the revision is flipped.
type viewWriter struct {
	ctx     context.Context
	state   State
	id      store.WindowID
	version store.Version
	view    store.View
	rows    *stager // nil without plain rows

	fields []store.ViewField // pages that no call has taken yet
	bytes  int               // of them

	began bool
	err   error                  // guarded by done while a goroutine writes
	calls chan []store.ViewField // nil unless it does
	done  chan struct{}
}

// newViewWriter returns one for all pages of a revision, whatever Redis has of the one before.
func (h *Held) newViewWriter(ctx context.Context, row *ledger.Row) *viewWriter {
	w := &viewWriter{
		ctx: ctx, state: h.state, id: h.storeID(row.ID()), version: versionOf(row),
		view: store.View{Whole: row.Revision, Attempt: newAttempt()},
	}
	if h.plainRows {
		w.rows = h.newStager(ctx, w.id, row, w.view.Attempt)
	}
	return w
}

func newAttempt() string {
	var random [16]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// add takes a page. What fails is told by finish.
func (w *viewWriter) add(field store.ViewField) {
	w.fields = append(w.fields, field)
	if w.bytes += len(field.Value); w.bytes >= callBytes {
		w.write()
	}
}

// finish writes the directory and waits until Redis has everything. It returns what a row names it by; nil when something
// newer is shown, or about to be.
func (w *viewWriter) finish(rev int, directory *view.Directory) (*ledger.View, error) {
	w.fields = append(w.fields, store.ViewField{Name: store.DirectoryField(rev), Value: directory.Append(nil)})
	w.write()
	if shown, err := w.close(); err != nil || !shown {
		return nil, err
	}
	return &ledger.View{Whole: w.view.Whole, Attempt: w.view.Attempt}, nil
}

func (w *viewWriter) goBeside() {
	w.calls, w.done = make(chan []store.ViewField, writesAhead), make(chan struct{})
	go func() {
		defer close(w.done)
		for fields := range w.calls {
			w.call(fields)
		}
	}()
}

// write begins a call with the pages that none has taken.
func (w *viewWriter) write() {
	fields := w.fields
	w.fields, w.bytes = nil, 0
	if w.calls != nil {
		w.calls <- fields
		return
	}
	w.call(fields)
}

func (w *viewWriter) call(fields []store.ViewField) {
	if w.err == nil {
		w.err = w.state.WriteView(w.ctx, w.id, w.version, w.view, !w.began, fields)
		w.began = true
	}
	if w.err == nil && w.rows != nil {
		w.err = w.rows.addFields(fields)
	}
}

// close waits for Redis. shown is false when something newer is shown, or about to be: that is no
// error.
func (w *viewWriter) close() (shown bool, err error) {
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

func (w *viewWriter) discard(ctx context.Context) {
	if w.began {
		_ = w.state.DiscardView(ctx, w.id, w.view)
	}
}
