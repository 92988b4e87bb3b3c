package publish

import (
	"context"
	"errors"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

// With Config.PlainRows every content in Redis has a plain hash of its rows beside it, for programs that know nothing of
// pages. Millrace itself never reads it, but to verify it. The hash of a whole revision is staged as its pages are written,
// and takes the place of the one before in the call that shows the revision; a difference changes its rows in that call. A
// hash that is neither is made from the pages.

// rowsAmiss reports whether the plain rows that Redis shows are not what they should be, and could be.
func (h *Held) rowsAmiss(p store.Published) bool {
	if h.plainRows {
		return p.HasContent && p.Rows != p.Current.Revision
	}
	return p.Rows != 0
}

// rowsFor is what leads to the plain rows of a row that is to be shown; nil when there are to be none.
func (h *Held) rowsFor(ctx context.Context, id store.WindowID, u *unshown) (*store.Rows, error) {
	if !h.plainRows {
		return nil, nil
	}
	rows := &store.Rows{}
	switch {
	case u.row.View == nil:
		return rows, nil
	case u.row.View.Whole == u.row.Revision:
		rows.Staged = u.row.View.Attempt
		return rows, nil
	case len(u.page) > callBytes:
		var err error
		rows.Staged, err = h.stageChanged(ctx, id, u)
		return rows, err
	case u.fields == nil: // nobody knows any more what the revision has changed
		return rows, nil
	}
	rows.Base = u.row.Revision - 1
	if len(u.page) == 0 { // it has changed nothing but states
		return rows, nil
	}
	err := view.EachRow(u.page, func(c ledger.Content) error {
		if c.Deleted {
			rows.Gone = append(rows.Gone, string(c.Key))
			return nil
		}
		rows.Changed = append(rows.Changed, plainRow(c))
		return nil
	})
	return rows, err
}

// plainRow is a row as it stands in the plain hash; it aliases c.
func plainRow(c ledger.Content) store.ViewField {
	return store.ViewField{Name: string(c.Key), Value: c.Values}
}

// stageChanged stages all rows of a revision that changes more rows than one call takes. It returns the token, "" when
// that cannot be done.
func (h *Held) stageChanged(ctx context.Context, id store.WindowID, u *unshown) (string, error) {
	changed := make(map[string][]byte, len(u.fields))
	for _, f := range u.fields {
		changed[f.Name] = f.Value
	}
	directory, err := view.ParseDirectory(changed[store.DirectoryField(u.row.Revision)])
	if err != nil {
		return "", err
	}
	return h.stagePages(ctx, id, u.row, directory, changed)
}

// remakeRows makes the plain rows of a revision that is shown without them, if Redis has its content.
func (h *Held) remakeRows(ctx context.Context, id store.WindowID, row *ledger.Row, text []byte) error {
	token, err := h.stageShown(ctx, id, row)
	if err != nil || token == "" {
		return err
	}
	err = h.state.Flip(ctx, id, versionOf(row), row.Final, text, viewOf(row), nil, nil, &store.Rows{Staged: token})
	if errors.Is(err, store.ErrNoRows) { // another closer makes them, too
		return nil
	}
	return err
}

// stageShown stages all rows of a revision that is shown. It returns the token, "" when Redis does not have the content.
func (h *Held) stageShown(ctx context.Context, id store.WindowID, row *ledger.Row) (string, error) {
	shown, text, err := h.state.ReadDirectory(ctx, id, row.Revision)
	switch {
	case errors.Is(err, store.ErrNoRevision), err == nil && !shown.Same(viewOf(row)):
		return "", nil
	case err != nil:
		return "", err
	}
	directory, err := view.ParseDirectory(text)
	if err != nil {
		return "", nil // it is no content that anybody could read
	}
	return h.stagePages(ctx, id, row, directory, nil)
}

// stagePages stages the rows of all pages of a directory, of which some are at hand. It returns the token, "" when the
// pages are not what the ledger row says, or when somebody else is about to show something later.
func (h *Held) stagePages(ctx context.Context, id store.WindowID, row *ledger.Row, directory *view.Directory,
	atHand map[string][]byte) (string, error) {
	s := h.newStager(ctx, id, row, newAttempt())
	var sum ledger.Checksum
	var stored []string
	addPage := func(page []byte) error {
		return view.EachRow(page, func(c ledger.Content) error {
			sum.AddContent(c)
			c.Values = append([]byte(nil), c.Values...) // a page that is read is valid only now
			return s.addRow(c)
		})
	}
	for i := range directory.Pages {
		if directory.Pages[i].Revision == 0 {
			continue
		}
		name := directory.Field(i)
		page, ok := atHand[name]
		if !ok {
			stored = append(stored, name)
			continue
		}
		if err := addPage(page); err != nil {
			return "", ignoreLost(err)
		}
	}
	err := h.state.ReadViewFields(ctx, id, row.View.Whole, stored, func(_ int, page []byte) error { return addPage(page) })
	if err == nil && (sum.Rows() != row.Keys || sum.String() != row.Checksum) {
		err = store.ErrNoRevision
	}
	if err == nil {
		err = s.flush(true)
	}
	if err != nil {
		return "", ignoreLost(err)
	}
	return s.token, nil
}

// ignoreLost leaves out errors that say that there is nothing to make plain rows from, or nobody to show them to: without
// them there are none until the next revision. Rows that Redis lost while they were written are made again.
func ignoreLost(err error) error {
	if errors.Is(err, store.ErrDraftGone) {
		return err
	}
	if errors.Is(err, store.ErrNoRevision) || errors.Is(err, view.ErrCorrupt) || isSuperseded(err) {
		return nil
	}
	return err
}

// stager writes the plain rows of a revision that is not shown yet. Only one goroutine may use it at a time.
type stager struct {
	ctx     context.Context
	state   State
	id      store.WindowID
	version store.Version
	token   string

	written int               // rows
	rows    []store.ViewField // that Redis does not have yet
	bytes   int
}

func (h *Held) newStager(ctx context.Context, id store.WindowID, row *ledger.Row, token string) *stager {
	return &stager{ctx: ctx, state: h.state, id: id, version: versionOf(row), token: token}
}

// addFields takes pages as they are written to the view of a whole revision. The directory, which is the last, completes the
// rows.
func (s *stager) addFields(fields []store.ViewField) error {
	for _, f := range fields {
		if f.Name == store.DirectoryField(s.version.Revision) {
			return s.flush(true)
		}
		if err := view.EachRow(f.Value, s.addRow); err != nil {
			return err
		}
	}
	return nil
}

// addRow takes a row, which must stay as it is until flush.
func (s *stager) addRow(c ledger.Content) error {
	if c.Deleted {
		return nil
	}
	s.rows = append(s.rows, plainRow(c))
	if s.bytes += len(c.Key) + len(c.Values); s.bytes < callBytes {
		return nil
	}
	return s.flush(false)
}

// flush writes the rows that Redis does not have yet; end says that these are all.
func (s *stager) flush(end bool) error {
	err := s.state.StageRows(s.ctx, s.id, s.version, s.token, s.written, end, s.rows)
	s.written, s.rows, s.bytes = s.written+len(s.rows), s.rows[:0], 0
	return err
}
