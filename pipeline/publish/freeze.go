package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
)

// maxInMemory is how many bytes of a revision's content are kept in memory between freezing and publishing it. A larger
// one is read back from Redis page by page.
const maxInMemory = 1 << 20

// errSameContent ends the freezing of content that equals that of the latest revision.
var errSameContent = errors.New("same content as the latest revision")

// Content passes the rows of a window to emit, by key, and returns how many events they hold and whether they are exactly
// what the row's lanes cover.
type Content func(emit func(ledger.Content) error) (events int64, exact bool, err error)

// Draft is a revision that is to be frozen.
type Draft struct {
	Row    *ledger.Row // without what its content will tell: events, exactness, keys, checksum, links
	Latest *ledger.Row // of the window, nil without one
	Topics TopicIDs    // as of the look at the lanes
	Again  bool        // content that equals that of the latest revision is frozen, too

	// Prove is asked after another take-over whether the row still says what the lanes hold. A correction needs none.
	Prove func(ctx context.Context) error
}

// TopicIDs are the ids of the topics that contents go to; "" where one is not known.
type TopicIDs struct {
	Results string
	States  string
}

// Revision is a frozen revision of a window, or a row that says more about the content of the latest one.
type Revision struct {
	Row    *ledger.Row
	Frozen bool // by an earlier attempt, maybe from an older state

	amends bool     // the content is that of the latest revision, and is not published again
	pages  [][]byte // the content, when it is small and was read just now; nil when it is to be read back
	topics TopicIDs
	bytes  int64 // of the pages that were published
}

// Amend returns a revision with the content of the latest one, which is exact, and all else as row says.
func Amend(row, latest *ledger.Row) *Revision {
	row.Revision, row.Exact, row.Keys, row.Events, row.Checksum = latest.Revision, true, latest.Keys, latest.Events, latest.Checksum
	row.Algorithm, row.Links = latest.Algorithm, latest.Links
	row.KeepAttributes(latest)
	return &Revision{Row: row, amends: true}
}

// Freeze stores the content of the window's next revision, or returns what an earlier attempt has stored under its number,
// if that still belongs to the lanes and to the spec of now: then content is not called. Content that equals that of the
// latest revision amends it, unless the draft wants it again.
func (h *Held) Freeze(ctx context.Context, d Draft, content Content) (*Revision, error) {
	if err := h.catchUp(ctx); err != nil {
		return nil, err
	}
	if err := h.checkDraft(d); err != nil {
		return nil, err
	}
	r, attempt, err := h.prepare(ctx, d, content)
	if err != nil || !r.Frozen || isReusable(r.Row, d.Row) {
		return r, err
	}
	if err := h.discard(ctx, d, attempt); err != nil {
		return nil, err
	}
	r, _, err = h.prepare(ctx, d, content)
	if err == nil && r.Frozen && !isReusable(r.Row, d.Row) {
		return nil, fmt.Errorf("revision %d of window %s: %w", d.Row.Revision, d.Row.ID(), store.ErrSuperseded)
	}
	return r, err
}

// checkDraft is ErrFenced when the ledger has another latest row of the draft's window than the draft was made for.
func (h *Held) checkDraft(d Draft) error {
	latest := 0
	if e := h.index.entries[d.Row.ID()]; e != nil && !h.index.isPast(e) {
		latest = e.revision
	}
	known := 0
	if d.Latest != nil {
		known = d.Latest.Revision
	}
	if latest != known || d.Row.Edition != h.index.edition {
		return fmt.Errorf("revision %d of window %s: %w", d.Row.Revision, d.Row.ID(), ErrFenced)
	}
	return nil
}

// isReusable reports whether content that was frozen under row frozen may be published where row now is to be: it goes to
// the same topic, and every lane has the past that it had then and has not gone back since. Otherwise an operator's
// decision, a loss in Redis or another spec has come between. What a correction has frozen is that correction's alone.
func isReusable(frozen, now *ledger.Row) bool {
	if frozen.Edition != now.Edition || frozen.PublishedTo != now.PublishedTo {
		return false
	}
	if !frozen.ByLanes() || !now.ByLanes() {
		return isSameCorrection(frozen, now)
	}
	for _, then := range frozen.Lanes {
		c, _ := now.Cover(then.Topic, then.Partition)
		if then.Offset > 0 && (c.Era != then.Era || c.Offset < then.Offset || then.TopicID != "" && c.TopicID != then.TopicID) {
			return false
		}
	}
	return true
}

// discard takes back what an earlier attempt has frozen. Whether it was published shows when the slot is taken over anew: from
// then on nobody else can publish it.
func (h *Held) discard(ctx context.Context, d Draft, attempt string) error {
	h.GiveUpProducer()
	if err := h.TakeOver(ctx); err != nil {
		return err
	}
	if d.Prove != nil {
		if err := d.Prove(ctx); err != nil {
			return err
		}
	}
	if err := h.checkDraft(d); err != nil {
		return err
	}
	return h.state.Discard(ctx, h.storeID(d.Row.ID()), d.Row.Revision, attempt)
}

// prepare stores the content of the draft's revision, or returns what is stored under its number and by which attempt.
func (h *Held) prepare(ctx context.Context, d Draft, content Content) (r *Revision, attempt string, err error) {
	row := d.Row
	f := &freezer{}
	build := func(add func([]byte) error) ([]byte, error) {
		*f = freezer{add: add}
		events, exact, err := content(f.addRow)
		if err != nil {
			return nil, err
		}
		row.Events, row.Exact, row.Keys, row.Checksum = events, exact, f.sum.Rows(), f.sum.String()
		if !d.Again && d.Latest != nil && d.Latest.Checksum == row.Checksum && d.Latest.Keys == row.Keys {
			row.Revision, row.Links = d.Latest.Revision, d.Latest.Links
			row.KeepAttributes(d.Latest)
			return nil, errSameContent
		}
		if err := f.closePage(); err != nil {
			return nil, err
		}
		return json.Marshal(row)
	}
	prepared, fresh, err := h.state.Prepare(ctx, h.storeID(row.ID()), row.Revision, build)
	if errors.Is(err, errSameContent) {
		return &Revision{Row: row, amends: true}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if fresh {
		return &Revision{Row: row, pages: f.inMemory, topics: d.Topics}, prepared.Attempt, nil
	}
	frozen := new(ledger.Row)
	if err := json.Unmarshal(prepared.Header, frozen); err != nil {
		return nil, "", fmt.Errorf("revision %d prepared earlier: %w", prepared.Number, err)
	}
	if frozen.Window != row.Window || frozen.Start != row.Start || frozen.Revision != row.Revision {
		return nil, "", fmt.Errorf("revision %d prepared earlier belongs to window %s, revision %d: %w",
			prepared.Number, frozen.ID(), frozen.Revision, store.ErrCorrupt)
	}
	return &Revision{Row: frozen, Frozen: true, topics: d.Topics}, prepared.Attempt, nil
}

// freezer writes a window's content as pages.
type freezer struct {
	sum      ledger.Checksum
	page     []byte
	inMemory [][]byte // all pages, nil once they are too large
	size     int
	add      func(page []byte) error
}

func (f *freezer) addRow(row ledger.Content) error {
	f.sum.AddContent(row)
	f.page = appendRow(f.page, row)
	if len(f.page) < pageSize {
		return nil
	}
	return f.closePage()
}

func (f *freezer) closePage() error {
	if len(f.page) == 0 {
		return nil
	}
	if err := f.add(f.page); err != nil {
		return err
	}
	if f.size += len(f.page); f.size <= maxInMemory {
		f.inMemory = append(f.inMemory, f.page)
		f.page = nil
		return nil
	}
	f.inMemory = nil
	f.page = f.page[:0]
	return nil
}
