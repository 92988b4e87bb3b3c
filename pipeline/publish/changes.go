package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

const (
	// maxLinks is how many revisions a reader follows for one content at most: the next one is
	// whole then.
	maxLinks = 16

	// changedShare is what part of the rows may change before all of them are published: 16 links
	// hold twice as many then. A few rows always may.
	changedShare = 8
	changedFew   = 64

	// maxChanges bounds the bytes of pages that are written anew.
	maxChanges = 32 << 20

	// pagesAtOnce is how many pages are compared at a time.
	pagesAtOnce = 64
)

// changes are the rows in which a content differs from the latest revision, found by comparing the
// pages that hold keys of which the lanes have read more.
type changes struct {
	page      []byte // the rows that differ, those of keys that have left as deleted
	rows      int64
	directory *view.Directory
	written   []store.ViewField // pages
	bytes     int               // of them
	gone      []string          // fields that nobody reads once the revision is shown
	events    int64
	recounted bool // the directory of the latest revision knows of fewer or more
}

// fields are what Redis is told when the revision is shown.
func (c *changes) fields(rev int) []store.ViewField {
	return append(c.written, store.ViewField{Name: store.DirectoryField(rev), Value: c.directory.Append(nil)})
}

// errManyChanges ends the search when publishing everything is cheaper.
var errManyChanges = errors.New("too much has changed")

// errMissing says that the pages of the content do not hold all events that lanes have folded:
// merging all of it finds what is missing, and says where.
var errMissing = errors.New("the pages do not add up to the events")

// errStates says that rows have states, of which the latest revision published none: all of them
// are to be published.
var errStates = errors.New("rows have states by now")

// findChanges returns nil when the revision has to be whole: when nothing proves what the latest
// one is, or when too much has changed since.
func (h *Held) findChanges(c *Checked, content Content) (*changes, error) {
	ctx, d := c.ctx, c.draft
	if !canDiffer(d) || !content.ByHash() {
		return nil, nil
	}
	base, shown, err := h.readBase(ctx, d.Latest)
	if base == nil || err != nil {
		return nil, err
	}
	limit := max(d.Latest.Keys/changedShare, changedFew)
	hashes, all, err := content.Changed(ctx, int(limit))
	if err != nil {
		return nil, err
	}
	s := &search{
		h: h, id: h.storeID(d.Row.ID()), rev: d.Row.Revision, view: shown, base: base, content: content, limit: limit,
		changes: &changes{directory: base.Clone(), events: content.Events()},
	}
	err = s.compare(ctx, pagesOf(base, hashes, all))
	if err == nil && s.changes.directory.Events() != s.changes.events {
		err = errMissing
	}
	if err == nil {
		s.changes.recounted = base.Events() != s.changes.events
		s.changes.gone, err = s.findGone(ctx, d.Latest.Revision-1)
	}
	if err == nil && s.changes.rows > 0 && d.Row.PublishedTo == "" {
		// Nothing but Redis has the content: whoever shows the revision must find it there if this
		// closer does not live to.
		c.drafted = h.newDraftWriter(ctx, d.Row)
		c.drafted.write(s.changes.fields(s.rev))
		err = c.drafted.err
	}
	switch {
	case errors.Is(err, errManyChanges), errors.Is(err, errMissing), errors.Is(err, errStates), errors.Is(err, store.ErrNoRevision),
		isSuperseded(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return s.changes, nil
}

// canDiffer reports whether a draft may be published as what it changes.
func canDiffer(d *Draft) bool {
	l := d.Latest
	if d.Again || l == nil || !l.Exact || l.View == nil || l.States != nil || !l.ByLanes() || !d.Row.ByLanes() ||
		l.Algorithm != ledger.ChecksumAlgorithm || d.Row.Revision-l.View.Whole >= maxLinks || l.PublishedTo != d.Row.PublishedTo {
		return false
	}
	if l.PublishedTo == "" {
		return true
	}
	// Without its id a topic that was made again cannot be told from the one that the links lead
	// to.
	return len(l.Links) > 0 && l.Links[0].Whole && d.Topics.Results != "" && l.Links[0].TopicID == d.Topics.Results
}

// readBase returns the directory of the latest revision, if Redis shows that revision and its pages
// add up to what the ledger says; nil otherwise.
func (h *Held) readBase(ctx context.Context, latest *ledger.Row) (*view.Directory, store.View, error) {
	shown, text, err := h.state.ReadDirectory(ctx, h.storeID(latest.ID()), latest.Revision)
	switch {
	case errors.Is(err, store.ErrNoRevision):
		return nil, store.View{}, nil
	case err != nil:
		return nil, store.View{}, err
	case !shown.Same(viewOf(latest)):
		return nil, store.View{}, nil
	}
	base, err := view.ParseDirectory(text)
	if err != nil || !base.ByHash {
		return nil, store.View{}, nil
	}
	if total := base.Total(); total.Rows() != latest.Keys || total.String() != latest.Checksum {
		return nil, store.View{}, nil
	}
	return base, shown, nil
}

// viewOf is the content in Redis that a row belongs to.
func viewOf(row *ledger.Row) store.View {
	if row.View == nil {
		return store.View{}
	}
	return store.View{Whole: row.View.Whole, Attempt: row.View.Attempt, Change: row.View.Change}
}

// pagesOf are the numbers of the pages that keys with the given hashes belong to.
func pagesOf(d *view.Directory, hashes []uint64, all bool) (pages []int) {
	if all {
		for i := range d.Pages {
			pages = append(pages, i)
		}
		return pages
	}
	for _, hash := range hashes {
		if n := d.PageOf(hash); len(pages) == 0 || pages[len(pages)-1] != n {
			pages = append(pages, n)
		}
	}
	return pages
}

// search compares pages of the latest revision with what the content has in their ranges.
type search struct {
	h       *Held
	id      store.WindowID
	rev     int // of the new revision
	view    store.View
	base    *view.Directory // of the latest revision
	content Content
	limit   int64
	changes *changes
}

// compare compares pages, some at a time.
func (s *search) compare(ctx context.Context, pages []int) error {
	for some := range slices.Chunk(pages, pagesAtOnce) {
		before, err := s.readPages(ctx, some)
		if err != nil {
			return err
		}
		var ranges []page.HashRange
		for _, n := range some {
			first, last := s.base.Range(n)
			if k := len(ranges) - 1; k >= 0 && ranges[k].Last+1 == first {
				ranges[k].Last = last
				continue
			}
			ranges = append(ranges, page.HashRange{First: first, Last: last})
		}
		next := 0 // of some: the page that rows are added to
		page := &newPage{base: before[0]}
		closeUpTo := func(n int) error {
			for next < len(some) && some[next] < n {
				if err := s.closePage(some[next], page); err != nil {
					return err
				}
				if next++; next < len(some) {
					page = &newPage{base: before[next]}
				}
			}
			return nil
		}
		err = s.content.Ranges(ctx, ranges, func(rows *ledger.Rows) error {
			for i, c := range rows.Content {
				if err := closeUpTo(s.base.PageOf(rows.Hashes[i])); err != nil {
					return err
				}
				if len(c.State) > 0 {
					return errStates
				}
				page.events += rows.Events[i]
				if s.addRow(page, c, rows.Digests[i]); s.changes.rows > s.limit {
					return errManyChanges
				}
			}
			return nil
		})
		if err == nil {
			err = closeUpTo(len(s.base.Pages))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newPage is a page of the new revision, and the rows that the latest one has in its range, by key.
type newPage struct {
	base   map[string]baseRow
	bytes  []byte
	sum    ledger.Checksum
	events int64
	moved  bool // it differs
}

// baseRow is a row of the latest revision.
type baseRow struct {
	values   string
	overflow bool
}

func (s *search) addRow(p *newPage, c ledger.Content, digest ledger.Digest) {
	p.bytes = view.AppendRow(p.bytes, c)
	p.sum.AddDigest(digest)
	old, ok := p.base[string(c.Key)]
	if ok {
		delete(p.base, string(c.Key))
	}
	if !ok || old.overflow != c.Overflow || old.values != string(c.Values) {
		s.change(p, c)
	}
}

func (s *search) change(p *newPage, c ledger.Content) {
	p.moved = true
	s.changes.rows++
	s.changes.page = view.AppendRow(s.changes.page, c)
}

// closePage notes the keys that have left, and the page if it differs.
func (s *search) closePage(n int, p *newPage) error {
	for _, key := range slices.Sorted(maps.Keys(p.base)) {
		s.change(p, ledger.Content{Key: []byte(key), Values: []byte("{}"), Deleted: true})
	}
	head := &s.changes.directory.Pages[n]
	if head.Events = p.events; !p.moved {
		return nil
	}
	if *head = (view.Head{}); p.sum.Rows() > 0 {
		*head = view.Head{Revision: s.rev, Events: p.events, Sum: p.sum}
		s.changes.written = append(s.changes.written, store.ViewField{Name: s.changes.directory.Field(n), Value: p.bytes})
	}
	if s.changes.bytes += len(p.bytes); s.changes.bytes > maxChanges || s.changes.rows > s.limit {
		return errManyChanges
	}
	return nil
}

// readPages returns the rows of pages of the latest revision, each checked against the directory.
func (s *search) readPages(ctx context.Context, pages []int) ([]map[string]baseRow, error) {
	all := make([]map[string]baseRow, len(pages))
	var fields []string
	var at []int
	for i, n := range pages {
		if all[i] = make(map[string]baseRow); s.base.Pages[n].Revision > 0 {
			fields, at = append(fields, s.base.Field(n)), append(at, i)
		}
	}
	if len(fields) == 0 {
		return all, nil
	}
	err := s.h.state.ReadViewFields(ctx, s.id, s.view.Whole, fields, func(i int, page []byte) error {
		var sum ledger.Checksum
		rows := all[at[i]]
		err := view.EachRow(page, func(c ledger.Content) error {
			sum.AddContent(c)
			rows[string(c.Key)] = baseRow{string(c.Values), c.Overflow}
			return nil
		})
		want := &s.base.Pages[pages[at[i]]].Sum
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
	shown, text, err := s.h.state.ReadDirectory(ctx, s.id, rev)
	switch {
	case errors.Is(err, store.ErrNoRevision), err == nil && !shown.Same(s.view):
		return nil, nil
	case err != nil:
		return nil, err
	}
	before, err := view.ParseDirectory(text)
	if err != nil || len(before.Pages) != len(s.base.Pages) {
		return nil, nil
	}
	gone := []string{store.DirectoryField(rev)}
	for i := range before.Pages {
		if was := before.Pages[i].Revision; was > 0 && was != s.base.Pages[i].Revision {
			gone = append(gone, before.Field(i))
		}
	}
	return gone, nil
}
