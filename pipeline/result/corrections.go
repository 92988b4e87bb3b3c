package result

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
)

// Kinds of jobs about what a replay has found.
const (
	JobCorrections = "corrections" // publish what differs
	JobCertify     = "certify"     // certify what is equal
)

// ErrNoDifference means that what a replay has found is not kept any more.
var ErrNoDifference = errors.New("what the replay has found is gone")

// Differences keep what replays have found until they end.
type Differences interface {
	// Open returns what a replay of a pipeline has found, or ErrNoDifference.
	Open(ctx context.Context, pipeline, replay string) (Difference, error)
}

// Difference is what one replay has found.
type Difference interface {
	// Checksum is that of the whole difference.
	Checksum() string
	// Counted lists the windows that were compared, always in the same order.
	Counted() []Counted
	// Changes are the rows in which a window differs from the revision that it was compared with.
	Changes(ctx context.Context, id ledger.WindowID) ([]publish.Change, error)
	// Whole passes the content of a window that is mended to emit, in the order of the keys: all that was counted, and as
	// deleted rows the keys that were found in wrong places and were not counted.
	Whole(ctx context.Context, id ledger.WindowID, emit func(ledger.Content) error) error
}

// Counted is a window as a replay counted it.
type Counted struct {
	// Row is what was counted: window, start, end, edition, spec, lanes, keys, events and checksum.
	Row ledger.Row

	BaseRevision int // that it was compared with, 0 for a window that was never published
	BaseChecksum string
	Equal        bool // and so is every place that was looked at

	// Mends names the places that hold something else than was counted. Such a window is published again as a whole, above
	// the revision Taken, also when its ledger row is right.
	Mends string
	Taken int

	Scope string // one of ledger.Scope...
	Read  []ledger.CertifiedLane
}

// found is the body of a job about what a replay has found.
type found struct {
	Replay   string `json:"replay"`
	Checksum string `json:"checksum"` // of the difference
	Lateness string `json:"lateness"`
}

// openFound reads the body of a job, and what its replay has found: the windows that are equal, or those that are not, without
// those that earlier attempts have booked.
func openFound(ctx context.Context, d *Desk, from Differences, job Job, equal bool) (found, Difference, []Counted, error) {
	refuse := func(format string, args ...any) (found, Difference, []Counted, error) {
		return found{}, nil, nil, &RefusedJobError{job.ID, fmt.Sprintf(format, args...)}
	}
	var body found
	if err := json.Unmarshal(job.Body, &body); err != nil || body.Replay == "" {
		return refuse("it does not say which replay; want {\"replay\":\"...\",\"checksum\":\"...\",\"lateness\":\"...\"}")
	}
	if !slices.Contains([]string{ledger.LatenessAsRead, ledger.LatenessNone, ledger.LatenessFromLate}, body.Lateness) {
		return refuse("lateness is %q; want %s, %s or %s", body.Lateness, ledger.LatenessAsRead, ledger.LatenessNone, ledger.LatenessFromLate)
	}
	difference, err := from.Open(ctx, d.Pipeline(), body.Replay)
	switch {
	case errors.Is(err, ErrNoDifference):
		return refuse("%v; start the replay again under another id", err)
	case err != nil:
		return found{}, nil, nil, fmt.Errorf("read what replay %s has found: %w", body.Replay, err)
	case difference.Checksum() != body.Checksum:
		return refuse("what replay %s has found has checksum %s by now, the job is about %s", body.Replay, difference.Checksum(), body.Checksum)
	}
	counted := slices.DeleteFunc(slices.Clone(difference.Counted()), func(w Counted) bool { return w.Equal != equal })
	return body, difference, counted[min(job.Done, len(counted)):], nil
}

// Corrections publishes what approved replays have found, as the next revision of every window whose latest row still is the
// one that the replay compared with.
type Corrections struct{ From Differences }

// CarryOut implements JobKind.
func (k Corrections) CarryOut(ctx context.Context, d *Desk, job Job) error {
	body, difference, counted, err := openFound(ctx, d, k.From, job, false)
	if err != nil {
		return err
	}
	contents, err := d.Contents()
	if err != nil {
		return err
	}
	for i := range counted {
		w := &counted[i]
		done, err := k.correct(ctx, d, &body, difference, w, contents)
		if err != nil {
			if err = d.BookFailure(w.Row.ID(), err); err != nil {
				return err
			}
			continue
		}
		d.Book(w.Row.ID(), done)
	}
	return nil
}

func (k Corrections) correct(ctx context.Context, d *Desk, body *found, difference Difference, w *Counted,
	contents *publish.Contents) (done publish.Corrected, err error) {
	id := w.Row.ID()
	row := d.NewRow(ledger.ReasonReplay)
	row.Window, row.Start, row.End, row.Edition = w.Row.Window, w.Row.Start, w.Row.End, w.Row.Edition
	row.Spec, row.Lanes = w.Row.Spec, w.Row.Lanes
	row.Replay = &ledger.ReplayOrigin{
		ID: body.Replay, BaseRevision: w.BaseRevision, BaseChecksum: w.BaseChecksum, Lateness: body.Lateness, Diff: body.Checksum,
	}
	row.Mends = w.Mends
	c := &publish.Correction{
		Row: &row, BaseRevision: w.BaseRevision, BaseChecksum: w.BaseChecksum, Checksum: w.Row.Checksum, Keys: w.Row.Keys,
		Taken: w.Taken, Again: w.Mends != "", Topics: d.Topics(ctx),
	}
	if c.Again {
		// What was found wrong is published as a whole: rows that differ would be read together with what is wrong.
		c.Content = publish.InOrder{Rows: func(ctx context.Context, emit func(ledger.Content) error) (int64, error) {
			return w.Row.Events, difference.Whole(ctx, id, emit)
		}}
	} else {
		changes, err := difference.Changes(ctx, id)
		if err != nil {
			return publish.Corrected{}, err
		}
		c.Content = publish.NewPatch(w.Row.Events, changes)
	}
	return d.Correct(ctx, c, contents)
}

// Certify writes certificates of the windows that recounts have found equal.
type Certify struct{ From Differences }

// CarryOut implements JobKind.
func (k Certify) CarryOut(ctx context.Context, d *Desk, job Job) error {
	body, _, counted, err := openFound(ctx, d, k.From, job, true)
	if err != nil {
		return err
	}
	by := d.NewRow("").By
	for i := range counted {
		w := &counted[i]
		if w.BaseRevision == 0 {
			d.Book(w.Row.ID(), publish.Corrected{Verdict: publish.VerdictUnchanged}) // without a row there is nothing to certify
			continue
		}
		c := ledger.Certificate{
			Pipeline: d.Pipeline(), Window: w.Row.Window, Start: w.Row.Start, Edition: w.Row.Edition, Revision: w.BaseRevision,
			Replay: body.Replay, By: by, Keys: w.Row.Keys, Events: w.Row.Events, Checksum: w.BaseChecksum, Scope: w.Scope, Lanes: w.Read,
		}
		var done publish.Corrected
		err := d.InSlot(ctx, w.Row.ID(), func(ctx context.Context, s *publish.Held) (err error) {
			done, err = s.Certify(ctx, c)
			return err
		})
		if err != nil {
			if err = d.BookFailure(w.Row.ID(), err); err != nil {
				return err
			}
			continue
		}
		d.Book(w.Row.ID(), done)
	}
	return nil
}
