package shadow

import (
	"context"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/store"
)

// Reader reads what a shadow has found out. It needs Redis only, and is safe for concurrent use.
type Reader struct {
	store *store.Store
	id    store.ShadowID
}

// NewReader returns a reader of a shadow's differences.
func NewReader(st *store.Store, pipeline, id string) *Reader {
	return &Reader{store: st, id: store.ShadowID{Pipeline: pipeline, ID: id}}
}

// Manifest is everything a shadow has found out, but for the rows.
type Manifest struct {
	Plan    *plan.Plan
	Headers []*diff.Header // in the order of the plan's windows; nil for one that was not compared yet
	// Checksum is over all headers, and is what an approval names; "" before every window was compared.
	Checksum string
}

// Manifest reads it. store.ErrNoShadow when there is no such shadow.
func (r *Reader) Manifest(ctx context.Context) (*Manifest, error) {
	p, err := Load(ctx, r.store, r.id.Pipeline, r.id.ID)
	if err != nil {
		return nil, err
	}
	stored, err := r.store.ShadowHeaders(ctx, r.id)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Plan: p, Headers: make([]*diff.Header, len(p.Windows))}
	var sum diff.Digest
	missing := 0
	for i := range p.Windows {
		b, ok := stored[windowName(p.Windows[i].ID())]
		if !ok {
			missing++
			continue
		}
		sum.Add(b)
		if m.Headers[i], err = diff.ParseHeader(b); err != nil {
			return nil, fmt.Errorf("shadow %s: %w", r.id, err)
		}
	}
	if missing == 0 {
		m.Checksum = sum.String()
	}
	return m, nil
}

// Result sums the manifest up.
func (m *Manifest) Result() Result {
	out := Result{Plan: m.Plan, Windows: len(m.Plan.Windows), Refused: len(m.Plan.Refused), Checksum: m.Checksum, Scope: m.Plan.Scope}
	for _, h := range m.Headers {
		switch {
		case h == nil:
		case h.Problem != "":
			out.Refused++
		case h.Agrees():
			out.Equal++
		default:
			out.Differ++
			out.Added, out.Changed, out.Removed = out.Added+h.Added, out.Changed+h.Changed, out.Removed+h.Removed
		}
	}
	return out
}

// Header returns what was found out about a window, nil before it was compared.
func (r *Reader) Header(ctx context.Context, id ledger.WindowID) (*diff.Header, error) {
	b, err := r.store.ShadowHeader(ctx, r.id, windowName(id))
	if err != nil || b == nil {
		return nil, err
	}
	return diff.ParseHeader(b)
}

// Page returns the rows of one page of a window's difference, sorted by key. Pages are numbered from 0; the header says how
// many there are.
func (r *Reader) Page(ctx context.Context, id ledger.WindowID, number int) ([]diff.Row, error) {
	page, err := r.store.ShadowPage(ctx, r.id, windowName(id), number)
	if err != nil {
		return nil, err
	}
	if page == nil {
		return nil, fmt.Errorf("shadow %s has no page %d of %s", r.id, number, id)
	}
	var rows []diff.Row
	err = diff.ReadPage(page, func(row diff.Row) error {
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// Rows returns the whole difference of a window, sorted by key, held against its header.
func (r *Reader) Rows(ctx context.Context, h *diff.Header) ([]diff.Row, error) {
	var rows []diff.Row
	var digest diff.Digest
	for n := range h.Pages {
		page, err := r.store.ShadowPage(ctx, r.id, windowName(h.ID()), n)
		if err != nil {
			return nil, err
		}
		digest.Add(page)
		if page == nil {
			return nil, fmt.Errorf("shadow %s has no page %d of %s, the header says %d pages", r.id, n, h.ID(), h.Pages)
		}
		err = diff.ReadPage(page, func(row diff.Row) error {
			rows = append(rows, row)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("shadow %s, %s: %w", r.id, h.ID(), err)
		}
	}
	if h.Pages > 0 && digest.String() != h.Digest {
		return nil, fmt.Errorf("%w: the pages of %s have digest %s, the header says %s", diff.ErrCorrupt, h.ID(), &digest, h.Digest)
	}
	if n := int64(len(rows)); n != h.Rows()+h.Unchanged {
		return nil, fmt.Errorf("%w: %s has %d rows, the header says %d", diff.ErrCorrupt, h.ID(), n, h.Rows()+h.Unchanged)
	}
	return rows, nil
}
