package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

// Base is what the latest revision of a window holds, as somebody has read it.
type Base struct {
	Rows []ledger.Content // without keys that have left; nil when it does not stand anywhere any more
}

// BaseRow is a row of the latest revision.
type BaseRow struct {
	Values   string
	State    string
	Overflow bool
}

// BasePage is the rows that the latest revision holds in one page, by key.
type BasePage map[string]BaseRow

// base is the latest revision of a window, proved: its pages add up to what the ledger says.
type base struct {
	directory *view.Directory
	shown     store.View // the content in Redis that the pages stand under
	pages     []BasePage // of a base that Redis does not have; nil when it does
}

// findBase returns what proves the latest revision: the pages in Redis, else what was read of it; nil when nothing does.
func (h *Held) findBase(ctx context.Context, d *Draft) (*base, error) {
	b, err := h.readBase(ctx, d.Latest)
	if b != nil || err != nil || d.Base == nil || d.Row.PublishedTo == "" {
		return b, err
	}
	return h.rebuildBase(d.Latest, d.Base.Rows), nil
}

// readBase returns the directory of the latest revision, if Redis shows that revision and its pages
// add up to what the ledger says; nil otherwise.
func (h *Held) readBase(ctx context.Context, latest *ledger.Row) (*base, error) {
	if latest.View == nil {
		return nil, nil
	}
	shown, text, err := h.state.ReadDirectory(ctx, h.storeID(latest.ID()), latest.Revision)
	switch {
	case errors.Is(err, store.ErrNoRevision):
		return nil, nil
	case err != nil:
		return nil, err
	case !shown.Same(viewOf(latest)):
		return nil, nil
	}
	directory, err := view.ParseDirectory(text)
	if err != nil || !directory.ByHash {
		return nil, nil
	}
	if total := directory.Total(); total.Rows() != latest.Keys || total.String() != latest.Checksum {
		return nil, nil
	}
	return &base{directory: directory, shown: shown}, nil
}

// rebuildBase divides rows that were read of the latest revision into pages; nil when they do not
// add up to what the ledger says.
func (h *Held) rebuildBase(latest *ledger.Row, rows []ledger.Content) *base {
	bytes := int64(0)
	for i := range rows {
		bytes += contentBytes(&rows[i])
	}
	b := &base{directory: view.ByHash(bits.Len64(uint64(bytes / h.viewPage)))}
	b.pages = make([]BasePage, len(b.directory.Pages))
	var hasher ledger.Hasher
	for i := range rows {
		n := b.directory.PageOf(agg.HashOfJSON(rows[i].Key))
		if b.pages[n] == nil {
			b.pages[n] = make(BasePage)
		}
		b.pages[n].add(rows[i])
		b.directory.Pages[n].Revision = latest.Revision
		b.directory.Pages[n].Sum.AddDigest(hasher.Digest(rows[i]))
	}
	if total := b.directory.Total(); total.Rows() != latest.Keys || total.String() != latest.Checksum {
		return nil
	}
	return b
}

// contentBytes is about what a row takes in a page.
func contentBytes(c *ledger.Content) int64 {
	return int64(len(c.Key) + len(c.Values) + len(c.State) + 4)
}

func (p BasePage) add(c ledger.Content) {
	p[string(c.Key)] = BaseRow{Values: string(c.Values), State: string(c.State), Overflow: c.Overflow}
}

// content is a row of the page.
func (p BasePage) content(key string) ledger.Content {
	row := p[key]
	return ledger.Content{Key: []byte(key), Values: []byte(row.Values), Overflow: row.Overflow, State: []byte(row.State)}
}

// readPages returns the rows of pages, each checked against the directory.
func (s *search) readPages(ctx context.Context, pages []int) ([]BasePage, error) {
	all := make([]BasePage, len(pages))
	var fields []string
	var at []int
	for i, n := range pages {
		if s.base.pages != nil {
			all[i] = maps.Clone(s.base.pages[n])
		}
		if all[i] == nil {
			all[i] = make(BasePage)
		}
		if s.base.directory.Pages[n].Revision > 0 {
			fields, at = append(fields, s.base.directory.Field(n)), append(at, i)
		}
	}
	if len(fields) == 0 || s.base.pages != nil {
		return all, nil
	}
	err := s.h.state.ReadViewFields(ctx, s.id, s.base.shown.Whole, fields, func(i int, page []byte) error {
		var sum ledger.Checksum
		rows := all[at[i]]
		err := view.EachRow(page, func(c ledger.Content) error {
			if sum.AddContent(c); !c.Deleted {
				rows.add(c)
			}
			return nil
		})
		want := &s.base.directory.Pages[pages[at[i]]].Sum
		if err != nil || sum.Rows() != want.Rows() || sum.String() != want.String() {
			return fmt.Errorf("page %s: %w", fields[i], store.ErrNoRevision) // what stands there is not the latest revision
		}
		return nil
	})
	return all, err
}

// findGone lists what only the revision before the latest one refers to: nobody reads it once the
// new one is shown.
func (s *search) findGone(ctx context.Context, rev int) ([]string, error) {
	if s.base.pages != nil {
		return nil, nil
	}
	shown, text, err := s.h.state.ReadDirectory(ctx, s.id, rev)
	switch {
	case errors.Is(err, store.ErrNoRevision), err == nil && !shown.Same(s.base.shown):
		return nil, nil
	case err != nil:
		return nil, err
	}
	before, err := view.ParseDirectory(text)
	if err != nil || len(before.Pages) != len(s.base.directory.Pages) {
		return nil, nil
	}
	gone := []string{store.DirectoryField(rev)}
	for i := range before.Pages {
		if was := before.Pages[i].Revision; was > 0 && was != s.base.directory.Pages[i].Revision {
			gone = append(gone, before.Field(i))
		}
	}
	return gone, nil
}

// showAnew writes all pages of a revision whose base Redis does not have: those that were compared, and the others as they
// are in the base. It lets the row name them, and takes over what is to be undone if the revision is not published.
func (s *search) showAnew(c *Checked) error {
	x := s.changes
	w := s.h.newWholeDraftWriter(c.ctx, c.draft.Row)
	c.drafted = w
	for i := range x.written {
		w.add(x.written[i])
	}
	for n, page := range s.base.pages {
		if len(page) > 0 && !s.compared[n] {
			x.directory.Pages[n].Revision = s.rev
			var text []byte
			for _, key := range slices.SortedFunc(maps.Keys(page), byHash) {
				text = view.AppendRow(text, page.content(key))
			}
			w.add(store.ViewField{Name: x.directory.Field(n), Value: text})
		}
	}
	x.written, x.bytes = nil, 0
	return w.finishWhole(c.draft.Row, x.directory)
}

// byHash orders keys as they stand in pages.
func byHash(a, b string) int {
	return cmp.Or(cmp.Compare(agg.HashOfJSON([]byte(a)), agg.HashOfJSON([]byte(b))), cmp.Compare(a, b))
}
