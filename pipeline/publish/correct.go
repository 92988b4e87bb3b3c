package publish

import (
	"bytes"
	"context"
	"slices"

	"millrace/pipeline/ledger"
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

	// Content is what the window is to hold. It is asked while the slot is locked, and may be asked again. Of a content by hash,
	// as a Patch is, only what it changes is published where the base is proved.
	Content Content
	// Forgets says that keys of the base may have left the window without Content naming them.
	Forgets bool
	// Base is what the base holds, once a *BaseUnreadError has asked for it.
	Base *Base

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
// slot remembers, and repeating a correction whose outcome is not known is safe. The row is shown in Redis by ShowRows. A
// *BaseUnreadError asks for what the base holds; nothing was published then.
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
	draft := &Draft{
		Row: &row, Latest: latest, Topics: c.Topics, Again: c.Again, UnlessSame: true, Forgets: c.Forgets, Base: c.Base,
		Checksum: c.Checksum, Keys: c.Keys,
	}
	content := c.Content
	if patch, ok := content.(*Patch); ok {
		draft.AsksBase, content = true, patch.On(c.Base)
	}
	draft.AsksBase = draft.AsksBase || c.Forgets
	r, err := h.Publish(ctx, draft, content)
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
	case c.Checksum == latest.Checksum && c.Keys == latest.Keys && !c.Again && !c.changesStates():
		return VerdictUnchanged
	}
	return ""
}

// changesStates reports whether the content says of any key that its state is another one, and its row is not.
func (c *Correction) changesStates() bool {
	patch, ok := c.Content.(*Patch)
	return ok && slices.ContainsFunc(patch.changes, func(r hashedRow) bool {
		was := patch.old[string(r.Key)]
		return len(r.State) > 0 && was.Old != nil && bytes.Equal(was.Old, r.Values) && was.OldOverflow == r.Overflow
	})
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
