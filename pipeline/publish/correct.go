package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/traces"
)

// Correction is a revision that no lane publishes: an approved replay corrects a final window, or finer windows are rolled up
// into a coarser one.
type Correction struct {
	// Row is the ledger row of the new revision, with ledger.ReasonReplay or ReasonRollup, and the edition that the correction
	// was made in: another one has another past. Revision, exactness, events, keys, checksum, links and closing time are
	// filled in.
	Row *ledger.Row

	// BaseRevision and BaseChecksum are those of the row that is corrected. Revision 0: the window must not have a row, and a
	// replay publishes one only at and below the floor.
	BaseRevision int
	BaseChecksum string

	// Taken is a revision that somebody has used without the ledger: this one is published above it.
	Taken int
	// Again publishes the content also when it is that of the base: what stands of the base is not what its row says.
	Again bool

	// Checksum and Keys are those that the new content must have. An empty Checksum leaves both open.
	Checksum string
	Keys     int64

	// Content passes the rows of the new revision to emit, in the order of their keys: all of its keys, and those of the base
	// that are gone as deleted rows. It returns how many events they hold. base is nil without one. It runs while the slot is
	// locked, and may be called again.
	Content func(ctx context.Context, base *ledger.Row, emit func(ledger.Content) error) (events int64, err error)

	Topics TopicIDs
}

// Verdict is what became of a correction.
type Verdict string

const (
	VerdictPublished Verdict = "published" // just now
	VerdictDone      Verdict = "done"      // earlier: the window's latest row is that of the correction
	VerdictMoved     Verdict = "moved"     // the window's latest row is not the correction's base, or not any more
	VerdictOpen      Verdict = "open"      // lanes may still publish revisions of the window
	VerdictUnchanged Verdict = "unchanged" // the content is that of the base
)

// Corrected is the answer to a correction.
type Corrected struct {
	Verdict Verdict
	Row     *ledger.Row // the window's latest; nil when it has none, or has none any more
}

// Correct publishes a correction as the window's next revision, also at and below floors, if the window still is what the
// correction was made for. It takes the slot over and reads the ledger on first, so the answer does not depend on what the
// slot remembers, and repeating a correction whose outcome is not known is safe. The row is shown in Redis by ShowRows.
func (h *Held) Correct(ctx context.Context, c *Correction) (made Corrected, err error) {
	ctx, span := traces.Start(ctx, traces.SpanCorrect, traces.Pipeline.String(h.pipeline), traces.Window.String(c.Row.ID().String()),
		traces.Reason.String(c.Row.Reason))
	defer func() {
		span.SetAttributes(traces.Outcome.String(string(made.Verdict)))
		traces.End(span, err)
	}()
	return h.correct(ctx, c)
}

func (h *Held) correct(ctx context.Context, c *Correction) (Corrected, error) {
	latest, err := h.readLatest(ctx, c.Row.ID())
	if err != nil {
		return Corrected{}, err
	}
	if verdict := h.judgeBase(c, latest); verdict != "" {
		return Corrected{verdict, latest}, nil
	}
	row := *c.Row
	row.Version, row.Algorithm = ledger.RowVersion, ledger.ChecksumAlgorithm
	row.Revision, row.Final, row.Exact, row.ClosedAt = max(c.BaseRevision, c.Taken)+1, true, true, h.keep.now().UnixMilli()
	row.Checksum, row.Keys = c.Checksum, c.Keys
	draft := &Draft{Row: &row, Latest: latest, Topics: c.Topics, Again: c.Again, UnlessSame: true}
	r, err := h.Publish(ctx, draft, &correctionContent{correction: c, base: latest})
	if err != nil {
		return Corrected{}, err
	}
	if r.Amends {
		return Corrected{VerdictUnchanged, latest}, nil
	}
	return Corrected{VerdictPublished, r.Row}, nil
}

// readLatest takes the slot over, reads its ledger to the end and returns the latest row of a window.
func (h *Held) readLatest(ctx context.Context, id ledger.WindowID) (*ledger.Row, error) {
	if h.producer == nil {
		if err := h.TakeOver(ctx); err != nil {
			return nil, err
		}
	} else if err := h.readLedger(ctx); err != nil {
		return nil, &SlotError{Slot: h.n, Err: err}
	}
	return h.LatestRow(ctx, id)
}

// judgeBase says why a correction is not to be published; "" when it is.
func (h *Held) judgeBase(c *Correction, latest *ledger.Row) Verdict {
	switch {
	case c.Row.Edition != h.index.edition:
		return VerdictMoved
	case latest == nil && c.BaseRevision == 0 && c.Row.Reason == ledger.ReasonReplay &&
		h.index.floorAbove(c.Row.Window, c.Row.End) == nil:
		return VerdictOpen
	case latest == nil && c.BaseRevision == 0:
		return ""
	case latest == nil:
		return VerdictMoved
	case c.Row.Replay != nil && latest.Replay != nil && *latest.Replay == *c.Row.Replay: // an id alone may be used again
		return VerdictDone
	case latest.Revision != c.BaseRevision || latest.Checksum != c.BaseChecksum:
		return VerdictMoved
	case !h.index.isFinal(latest.ID(), h.index.entries[latest.ID()]):
		return VerdictOpen
	case c.Checksum == latest.Checksum && c.Keys == latest.Keys && !c.Again:
		return VerdictUnchanged
	}
	return ""
}

// correctionContent is the content of a correction. It comes in the order of the keys.
type correctionContent struct {
	correction *Correction
	base       *ledger.Row
}

func (*correctionContent) ByHash() bool  { return false }
func (*correctionContent) Bytes() int64  { return 0 }
func (*correctionContent) Events() int64 { return 0 }

func (*correctionContent) Changed(context.Context, int) ([]uint64, bool, error) {
	return nil, true, nil
}

func (*correctionContent) Ranges(context.Context, []page.HashRange, func(*ledger.Rows) error) error {
	return errors.ErrUnsupported
}

// Whole checks that the rows are sorted, without a key twice, and add up.
func (x *correctionContent) Whole(ctx context.Context, emit func(*ledger.Rows) error) (events int64, exact bool, err error) {
	c := x.correction
	var sum ledger.Checksum
	var hasher ledger.Hasher
	var before []byte
	rows := &ledger.Rows{Content: make([]ledger.Content, 1), Digests: make([]ledger.Digest, 1)}
	first := true
	events, err = c.Content(ctx, x.base, func(row ledger.Content) error {
		if !first && slices.Compare(before, row.Key) >= 0 {
			return fmt.Errorf("correct window %s: key %s follows %s", c.Row.ID(), row.Key, before)
		}
		first, before = false, append(before[:0], row.Key...)
		if rows.Content[0] = row; !row.Deleted {
			rows.Digests[0] = hasher.Digest(row)
			sum.AddDigest(rows.Digests[0])
		}
		return emit(rows)
	})
	if err != nil {
		return 0, false, err
	}
	if c.Checksum != "" && (sum.String() != c.Checksum || sum.Rows() != c.Keys) {
		return 0, false, fmt.Errorf("correct window %s: %w: it has %d keys with checksum %s, want %d with %s",
			c.Row.ID(), ErrWrongContent, sum.Rows(), &sum, c.Keys, c.Checksum)
	}
	return events, true, nil
}

// AmendLatest writes the latest row of a window again under the same revision, with what change says of it: where its content
// was archived, or that other children gave the same content. It changes nothing, and answers VerdictMoved, unless the row
// has the given revision and checksum; change reports whether there is anything to write, else the answer is VerdictDone.
func (h *Held) AmendLatest(ctx context.Context, id ledger.WindowID, revision int, checksum string,
	change func(*ledger.Row) bool) (Corrected, error) {
	latest, err := h.readLatest(ctx, id)
	if err != nil {
		return Corrected{}, err
	}
	if latest == nil || latest.Revision != revision || latest.Checksum != checksum {
		return Corrected{VerdictMoved, latest}, nil
	}
	row := *latest
	row.Version = ledger.RowVersion
	if !change(&row) {
		return Corrected{VerdictDone, latest}, nil
	}
	if _, err := h.Say(ctx, &Draft{Row: &row, Latest: latest}); err != nil {
		return Corrected{}, err
	}
	return Corrected{VerdictPublished, &row}, nil
}
