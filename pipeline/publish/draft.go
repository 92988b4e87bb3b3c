package publish

import (
	"context"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
)

// Draft is a revision that is to be published.
type Draft struct {
	Row    *ledger.Row // without what its content will tell: events, exactness, keys, checksum, links
	Latest *ledger.Row // of the window, nil without one
	Topics TopicIDs    // as of the look at the lanes

	// Forgets says that keys of the latest revision may have left the window without the content
	// naming them: a lane has another past by an operator's decision, or the window is a roll-up.
	Forgets bool

	// A correction asks for what the latest revision holds where Redis does not prove it. Lanes do
	// not: publishing all rows again costs them less than reading the base back, and a closer's
	// memory bounds it.
	AsksBase bool
	Base     *Base // nil: it was not read

	// Checksum and Keys are those that the content must have. An empty Checksum leaves both open.
	Checksum string
	Keys     int64

	Again      bool // content that equals that of the latest revision is published, too
	UnlessSame bool // and otherwise nothing is written then

	// Prove is asked after another take-over whether the row still says what the lanes hold. A
	// correction needs none.
	Prove func(ctx context.Context) error

	stands int64 // where the latest row of the window stood when the draft was taken over, noRow without one
}

// lacksBase reports whether somebody has to read what the latest revision holds before anything
// can be published.
func (d *Draft) lacksBase() bool {
	return d.AsksBase && d.Base == nil && d.Latest != nil && d.Latest.Keys > 0
}

// checkSum is ErrWrongContent when a content adds up to something else than it must.
func (d *Draft) checkSum(sum *ledger.Checksum) error {
	if d.Checksum == "" || sum.String() == d.Checksum && sum.Rows() == d.Keys {
		return nil
	}
	return fmt.Errorf("correct window %s: %w: it has %d keys with checksum %s, want %d with %s", d.Row.ID(), ErrWrongContent,
		sum.Rows(), sum, d.Keys, d.Checksum)
}

// noRow is where the row of a window stands that has none.
const noRow = -1

// TopicIDs are the ids of the topics that contents go to; "" where one is not known.
type TopicIDs struct {
	Results string
	States  string
}

// Content is what a window holds, as lanes or a correction say it.
type Content interface {
	// ByHash reports whether rows come in ascending order of the hash of their keys. Only such a
	// content can be compared with the latest revision without reading all of it.
	ByHash() bool
	// Bytes is about what the rows take, 0 when it is not known.
	Bytes() int64
	// Events is how many events a content by hash holds. counted is false when its rows do not say
	// how many of them each holds.
	Events() (n int64, counted bool)
	// Whole passes all rows to emit, once each, and returns how many events they hold and whether
	// they are exactly what the row's lanes cover. What was emitted counts only when it returns
	// nil.
	Whole(ctx context.Context, emit func(*ledger.Rows) error) (events int64, exact bool, err error)
	// Changed returns the hashes of the keys that may have changed since the latest revision,
	// ascending; all when it cannot tell or when they are more than limit.
	Changed(ctx context.Context, limit int) (hashes []uint64, all bool, err error)
	// Ranges passes the rows in ranges of the hash to emit. The ranges ascend. base is what the
	// latest revision holds in them, for a content that is made of it.
	Ranges(ctx context.Context, ranges []page.HashRange, base []BasePage, emit func(*ledger.Rows) error) error
}

// Revision is what became of a draft.
type Revision struct {
	Row    *ledger.Row
	Amends bool // the content is that of the latest revision, which Row is about

	rows  int64 // that were published
	bytes int64 // of them
	asked bool  // its transaction was asked to commit: it may be published, whatever came back
}

// Amend returns the row of a revision with the content of the latest one, which is exact, and all
// else as row says.
func Amend(row, latest *ledger.Row) *ledger.Row {
	row.Revision, row.Exact, row.Keys, row.Events, row.Checksum = latest.Revision, true, latest.Keys, latest.Events, latest.Checksum
	row.Algorithm, row.Links = latest.Algorithm, latest.Links
	row.KeepAttributes(latest)
	return row
}

// latestEntry is the entry of a window's latest row, nil when it has none of this edition.
func (h *Held) latestEntry(id ledger.WindowID) *entry {
	e := h.index.entries[id]
	if e != nil && h.index.isPast(e) {
		return nil
	}
	return e
}

// latestStands is where the latest row of a window stands, noRow without one.
func (h *Held) latestStands(id ledger.WindowID) int64 {
	if e := h.latestEntry(id); e != nil {
		return e.offset
	}
	return noRow
}

// checkDraft is ErrFenced when the ledger has another latest row of the draft's window than the
// draft was made for: also one of the same revision, which may be the final one, or say more about
// the same content at the same time.
func (h *Held) checkDraft(d *Draft) error {
	id := d.Row.ID()
	e, l := h.latestEntry(id), d.Latest
	same := (e == nil) == (l == nil) && h.latestStands(id) == d.stands
	if e != nil && l != nil {
		same = same && e.revision == l.Revision && e.final == l.Final && e.closedAt == l.ClosedAt
	}
	if !same || d.Row.Edition != h.index.edition {
		return fmt.Errorf("revision %d of window %s: %w", d.Row.Revision, id, ErrFenced)
	}
	return nil
}
