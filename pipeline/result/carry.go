package result

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	pages "millrace/pipeline/view"
)

// Job is work on windows beside closing them: whoever wants something written into the slots of the ledger asks the closer,
// which alone publishes there. Carrying a job out again changes nothing.
type Job struct {
	ID   string
	Kind string          // one of Config.Jobs
	Body json.RawMessage // what the kind is to do: names and ranges, never rows
	Done int             // windows that earlier attempts have booked
}

// JobKind carries jobs of one kind out.
type JobKind interface {
	// CarryOut does what the job asks for and books each window at the desk, in the same order at every attempt; the windows
	// that earlier attempts have booked come first and are left out. A window that fails is booked as failed, and the others
	// go on; an error means that Kafka or Redis is in trouble, and that the job is to be tried again. What can never be
	// carried out is a *RefusedJobError.
	CarryOut(ctx context.Context, d *Desk, job Job) error
}

// RefusedJobError says why a job cannot be carried out, now or later.
type RefusedJobError struct {
	Job string
	Why string
}

func (e *RefusedJobError) Error() string { return fmt.Sprintf("job %s is refused: %s", e.Job, e.Why) }

// Carried is what became of one window in a job.
type Carried struct {
	Window   ledger.WindowID
	Verdict  publish.Verdict // "" when it failed
	Revision int             // the window's latest, 0 without one
	Problem  string          // why it failed, or what the verdict does not say
	Bytes    int64           // of the file in which it was archived, 0 unless this job has done that
	Gone     bool            // nothing was left of it that could be archived

	// Rollup is what a job that rolls windows up has come to. Such a booking is the last one, and about no window.
	Rollup *report.Rollup
}

// Turn runs work while no other closer of the pipeline is at work, in any process.
type Turn func(ctx context.Context, work func(context.Context) error) error

// CarryOut carries a job out. It takes a turn for each window and none in between, so rounds go on beside it. book is called
// for every window, in the job's order.
func (c *Closer) CarryOut(ctx context.Context, job Job, turn Turn, book func(Carried)) error {
	kind, ok := c.cfg.Jobs[job.Kind]
	if !ok {
		return &RefusedJobError{job.ID, fmt.Sprintf("its kind is %q, this version of millrace carries out %s", job.Kind,
			strings.Join(slices.Sorted(maps.Keys(c.cfg.Jobs)), ", "))}
	}
	return kind.CarryOut(ctx, &Desk{closer: c, turn: turn, book: book}, job)
}

// Desk is where a job does its work: with what the closer publishes with, in the closer's slots. It is not safe for concurrent
// use.
type Desk struct {
	closer *Closer
	turn   Turn
	book   func(Carried)
}

// Pipeline is the name of the pipeline.
func (d *Desk) Pipeline() string { return d.closer.cfg.Spec.Name }

// NewRow is the part of a ledger row that says who publishes and where to.
func (d *Desk) NewRow(reason string) ledger.Row {
	c := d.closer
	row := ledger.Row{
		Version: ledger.RowVersion, Pipeline: c.cfg.Spec.Name, Spec: c.version, Build: c.cfg.Build, By: c.cfg.By, Reason: reason, Final: true,
	}
	if sink := c.cfg.Spec.Results.Kafka; sink != nil {
		row.PublishedTo = sink.Topic
	}
	return row
}

// Contents reads what was published of the pipeline.
func (d *Desk) Contents() (*publish.Contents, error) {
	c := d.closer
	renderer, err := agg.NewRenderer(c.cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("read contents of %s: %w", c.cfg.Spec.Name, err)
	}
	return &publish.Contents{Kafka: c.cfg.Kafka, State: c.cfg.State, Render: renderer.Render}, nil
}

// Topics are the topics that contents go to, as of now.
func (d *Desk) Topics(ctx context.Context) publish.TopicIDs {
	_, topics := d.closer.lookAtTopics(ctx)
	return topics
}

// Latest reads the latest row of a window, nil without one. It takes no turn and disturbs nobody, so the row may have been
// superseded when it returns.
func (d *Desk) Latest(ctx context.Context, id ledger.WindowID) (row *ledger.Row, err error) {
	slot := d.closer.slots[id.Slot(len(d.closer.slots))]
	for try := 1; ; try++ {
		row, err = slot.Latest(ctx, id)
		if !again(err) || try >= d.closer.cfg.Patience || ctx.Err() != nil {
			return row, err
		}
	}
}

// InSlot runs write while the slot of a window is locked and it is this closer's turn, and then shows in Redis what was
// published. A closer that was fenced takes the slot over and tries again, so write may run several times.
func (d *Desk) InSlot(ctx context.Context, id ledger.WindowID, write func(context.Context, *publish.Held) error) error {
	return d.turn(ctx, func(ctx context.Context) error {
		c := d.closer
		c.turn.Lock()
		defer c.turn.Unlock()
		ledgerID, _ := c.lookAtTopics(ctx)
		c.recognise(ledgerID)
		for try := 1; ; try++ {
			err := c.slots[id.Slot(len(c.slots))].Do(func(s *publish.Held) error {
				if err := write(ctx, s); err != nil {
					return err
				}
				if err := s.ShowRows(ctx); err != nil {
					c.warnView(err)
				}
				return nil
			})
			if !again(err) || try >= c.cfg.Patience || ctx.Err() != nil {
				return err
			}
		}
	})
}

// ContentReader reads what was published; *publish.Contents is one.
type ContentReader interface {
	Read(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
	ReadStates(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
}

// Correct publishes a correction in the slot of its window. What its base holds is read only where that is asked for, and
// while it is nobody's turn: a large content takes long. A base that stands nowhere any more is an error, unless the
// correction needs it for nothing but the keys that have left: then whoever reads the window later does not have it either.
func (d *Desk) Correct(ctx context.Context, c *publish.Correction, contents ContentReader) (done publish.Corrected, err error) {
	for {
		err = d.InSlot(ctx, c.Row.ID(), func(ctx context.Context, s *publish.Held) (err error) {
			done, err = s.Correct(ctx, c)
			return err
		})
		var unread *publish.BaseUnreadError
		if !errors.As(err, &unread) || c.Base != nil {
			return done, err
		}
		rows, err := readBase(ctx, contents, unread.Row, c.Forgets)
		var gone *publish.GoneError
		if err != nil && (!c.Forgets || !errors.As(err, &gone)) {
			return publish.Corrected{}, err
		}
		c.Base = &publish.Base{Rows: rows}
	}
}

// readBase reads the content of a revision, with its states when it has any. keys says that the keys do where these are gone.
func readBase(ctx context.Context, contents ContentReader, row *ledger.Row, keys bool) ([]ledger.Content, error) {
	if len(row.States) == 0 {
		return contents.Read(ctx, row)
	}
	rows, err := contents.ReadStates(ctx, row)
	var gone *publish.GoneError
	if keys && errors.As(err, &gone) {
		return contents.Read(ctx, row)
	}
	return rows, err
}

// Book says what became of a window.
func (d *Desk) Book(id ledger.WindowID, done publish.Corrected) { d.book(carriedAs(id, done)) }

func carriedAs(id ledger.WindowID, done publish.Corrected) Carried {
	carried := Carried{Window: id, Verdict: done.Verdict}
	if done.Row != nil {
		carried.Revision = done.Row.Revision
	}
	switch done.Verdict {
	case publish.VerdictOpen:
		carried.Problem = "the window is not final: lanes may still publish revisions of it"
	case publish.VerdictMoved:
		carried.Problem = "its row was given up, or another incarnation of the pipeline has begun"
		if done.Row != nil {
			carried.Problem = fmt.Sprintf("the ledger has revision %d, %s, by now", done.Row.Revision, done.Row.Reason)
		}
	}
	return carried
}

// BookFailure books a window as failed when err is about that window alone, and returns nil then. Anything else means that the
// job cannot go on.
func (d *Desk) BookFailure(id ledger.WindowID, err error) error {
	if !isOfOneWindow(err) {
		return err
	}
	d.book(Carried{Window: id, Problem: err.Error()})
	return nil
}

// isOfOneWindow reports whether trying again helps as little as it would with another window.
func isOfOneWindow(err error) bool {
	var gone *publish.GoneError
	return errors.As(err, &gone) || errors.Is(err, publish.ErrWrongContent) || errors.Is(err, pages.ErrCorrupt) ||
		errors.Is(err, source.ErrRecordTooLarge) || errors.Is(err, store.ErrCorrupt) || errors.Is(err, ledger.ErrCorrupt) ||
		errors.Is(err, agg.ErrEntryCorrupt) || errors.Is(err, agg.ErrEntryVersion)
}
