package publish

import (
	"context"
	"errors"
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
// pages that hold keys which may have changed.
type changes struct {
	page      []byte // the rows that differ, those of keys that have left as deleted
	rows      int64
	states    []byte // rows of which nothing but the state differs
	unseen    int64  // these rows
	directory *view.Directory
	written   []store.ViewField // pages
	bytes     int               // of them
	gone      []string          // fields that nobody reads once the revision is shown
	events    int64
	recounted bool // the directory of the latest revision knows of fewer or more

	anew bool // Redis was told all pages anew, for it does not have those of the base
}

// any reports whether anything differs.
func (c *changes) any() bool { return c.rows > 0 || c.unseen > 0 }

// fields are what Redis is told when the revision is shown.
func (c *changes) fields(rev int) []store.ViewField {
	return append(c.written, store.ViewField{Name: store.DirectoryField(rev), Value: c.directory.Append(nil)})
}

// errManyChanges ends the search when publishing everything is cheaper.
var errManyChanges = errors.New("too much has changed")

// errMissing says that the pages of the content do not hold all events that lanes have folded:
// merging all of it finds what is missing, and says where.
var errMissing = errors.New("the pages do not add up to the events")

// errStates says that rows have states of which the latest revision published none, or have none
// any more: all of them are to be published.
var errStates = errors.New("the states are not those of the latest revision")

// findChanges returns nil when the revision has to be whole: when nothing proves what the latest
// one is, or when too much has changed since.
func (h *Held) findChanges(c *Checked, content Content) (*changes, error) {
	ctx, d := c.ctx, c.draft
	if !h.canDiffer(d) || !content.ByHash() {
		return nil, nil
	}
	if outlives, err := h.outlives(ctx, d); err != nil || !outlives {
		return nil, err
	}
	base, err := h.findBase(ctx, d)
	if base == nil || err != nil {
		return nil, err
	}
	limit := max(d.Latest.Keys/changedShare, changedFew)
	hashes, all, err := content.Changed(ctx, int(limit))
	if err != nil {
		return nil, err
	}
	events, counted := content.Events()
	s := &search{
		h: h, id: h.storeID(d.Row.ID()), rev: d.Row.Revision, base: base, content: content, limit: limit,
		counted: counted, states: len(d.Latest.States) > 0, compared: make(map[int]bool),
		changes: &changes{directory: base.directory.Clone(), events: events, anew: base.pages != nil},
	}
	err = s.compare(ctx, pagesOf(base.directory, hashes, all))
	total := s.changes.directory.Total()
	switch {
	case err != nil:
	case counted && s.changes.directory.Events() != events:
		err = errMissing
	default:
		err = d.checkSum(&total)
	}
	if err == nil {
		s.changes.recounted = counted && base.directory.Events() != events
		s.changes.gone, err = s.findGone(ctx, d.Latest.Revision-1)
	}
	if err == nil && s.changes.any() {
		err = s.tellAhead(c)
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

// tellAhead tells Redis before the revision is published what it has to have then. That is all of
// the content when it does not have the base. And it is what has changed when whoever shows the
// revision must find it there if this closer does not live to: because nothing but Redis has the
// content, or because a correction need not be followed by a revision that shows all of it again.
func (s *search) tellAhead(c *Checked) error {
	switch {
	case s.changes.anew:
		return s.showAnew(c)
	case c.draft.Row.PublishedTo == "", !c.draft.Row.ByLanes():
		c.drafted = s.h.newDraftWriter(c.ctx, c.draft.Row)
		c.drafted.fields = slices.Clip(s.changes.written)
		c.drafted.addDirectory(s.changes.directory)
		return c.drafted.err
	}
	return nil
}

// canDiffer reports whether a draft may be published as what it changes. A correction may build on
// any revision, lanes only on what lanes have counted. What mends a content that was found wrong is
// whole: its base is not to be relied on, whatever it adds up to.
func (h *Held) canDiffer(d *Draft) bool {
	l := d.Latest
	if d.Again || l == nil || !l.Exact || l.Algorithm != ledger.ChecksumAlgorithm || l.PublishedTo != d.Row.PublishedTo {
		return false
	}
	byLanes, states := d.Row.ByLanes(), len(l.States) > 0
	if byLanes && (!l.ByLanes() || l.View == nil) || (!byLanes || states) && h.keepsWhole() != "" {
		return false
	}
	if states && !canLink(l.States, d.Topics.States) {
		return false
	}
	if l.PublishedTo == "" {
		return l.View != nil && d.Row.Revision-l.View.Whole < maxLinks
	}
	return canLink(l.Links, d.Topics.Results)
}

// canLink reports whether one more link may follow. Without its id a topic that was made again
// cannot be told from the one that the links lead to.
func canLink(links []ledger.Link, topicID string) bool {
	return len(links) > 0 && len(links) < maxLinks && links[0].Whole && topicID != "" && links[0].TopicID == topicID
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
	base    *base
	content Content
	counted bool // rows say how many events they hold
	states  bool // the latest revision has published states
	limit   int64
	changes *changes

	compared map[int]bool // pages, of a base that Redis does not have
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
			first, last := s.base.directory.Range(n)
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
		err = s.content.Ranges(ctx, ranges, before, func(rows *ledger.Rows) error {
			for i, c := range rows.Content {
				if err := closeUpTo(s.base.directory.PageOf(rows.Hashes[i])); err != nil {
					return err
				}
				if (len(c.State) > 0) != s.states {
					return errStates
				}
				if s.counted {
					page.events += rows.Events[i]
				}
				s.addRow(page, c, rows.Digests[i])
				if s.changes.rows+s.changes.unseen > s.limit {
					return errManyChanges
				}
			}
			return nil
		})
		if err == nil {
			err = closeUpTo(len(s.base.directory.Pages))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newPage is a page of the new revision, and the rows that the latest one has in its range, by key.
type newPage struct {
	base   BasePage
	bytes  []byte
	sum    ledger.Checksum
	events int64
	moved  bool // it differs
}

func (s *search) addRow(p *newPage, c ledger.Content, digest ledger.Digest) {
	p.bytes = view.AppendRow(p.bytes, c)
	p.sum.AddDigest(digest)
	old, ok := p.base[string(c.Key)]
	if ok {
		delete(p.base, string(c.Key))
	}
	switch {
	case !ok, old.Overflow != c.Overflow, old.Values != string(c.Values):
		s.change(p, c)
	case old.State != string(c.State):
		p.moved = true
		s.changes.unseen++
		s.changes.states = view.AppendRow(s.changes.states, c)
	}
}

func (s *search) change(p *newPage, c ledger.Content) {
	p.moved = true
	s.changes.rows++
	s.changes.page = view.AppendRow(s.changes.page, c)
}

// closePage notes the keys that have left, and the page if it differs or Redis lacks it.
func (s *search) closePage(n int, p *newPage) error {
	for _, key := range slices.Sorted(maps.Keys(p.base)) {
		s.change(p, ledger.Content{Key: []byte(key), Values: []byte("{}"), Deleted: true})
	}
	head := &s.changes.directory.Pages[n]
	if head.Events = p.events; !p.moved && !s.changes.anew {
		return nil
	}
	if s.changes.anew {
		s.compared[n] = true
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
