package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

// View is what an audit reads of Redis; *store.Store is one.
type View interface {
	publish.RevisionReader
	Published(ctx context.Context, id store.WindowID) (p store.Published, found bool, err error)
}

// Config says whose windows are compared, and where they stand.
type Config struct {
	Spec  *spec.Spec // of the pipeline
	Kafka publish.ContentLog
	View  View
	Now   func() time.Time // decides what may have expired (default time.Now)
}

// Auditor compares windows. One goroutine uses it.
type Auditor struct {
	cfg      Config
	contents *publish.Contents
	strays   map[ledger.WindowID]*stray
	// published is what FindStrays has read of the windows whose last revision has all rows.
	published map[ledger.WindowID]*ledger.Checksum
}

// New makes an Auditor; FindStrays is called before the first Compare.
func New(cfg Config) *Auditor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Auditor{cfg: cfg, contents: &publish.Contents{Kafka: cfg.Kafka, State: cfg.View}}
	if renderer, err := agg.NewRenderer(cfg.Spec); err == nil { // the spec is valid
		a.contents.Render = renderer.Render
	}
	return a
}

// Counted is what a window holds, as counted.
type Counted struct {
	ID       ledger.WindowID
	Keys     int64
	Events   int64
	Checksum string
	// RollsUp says that a roll-up is still to be made from the window, or to be made anew.
	RollsUp bool
	// Rows passes the content to fn, sorted by key. It may be called more than once.
	Rows func(fn func(ledger.Content) error) error
}

// isIn reports whether a ledger row says the same.
func (c *Counted) isIn(row *ledger.Row) bool {
	return c.Keys == row.Keys && c.Events == row.Events && c.Checksum == row.Checksum
}

// Finding is what an audit says of one window.
type Finding struct {
	Wrong []diff.Wrong // the places that hold something else than was counted

	// Shown is what wrong places show of the window, by key; nil when none of them shows another content.
	Shown map[string]ledger.Content
	// Stray are the records of the result topic that the window's publishing has not sent, by key, as Shown.
	Stray map[string]ledger.Content
	// Taken is the highest revision above the row's that a place names; 0 without one.
	Taken int
}

// maxTaken is how far above the window's revision one that is named elsewhere is taken account of.
const maxTaken = 1000

// shows adds what a wrong place shows.
func (f *Finding) shows(rows []ledger.Content) {
	if f.Shown == nil {
		f.Shown = make(map[string]ledger.Content, len(rows))
	}
	for _, row := range rows {
		f.Shown[string(row.Key)] = row
	}
}

// takes notes a revision that a place names.
func (f *Finding) takes(revision int, row *ledger.Row) {
	latest := 0
	if row != nil {
		latest = row.Revision
	}
	if revision > latest && revision <= latest+maxTaken {
		f.Taken = max(f.Taken, revision)
	}
}

// Compare finds the places that hold something else than was counted. row is the latest of the window in the ledger, nil when it
// has none. Contents that retention has taken, or Redis has lost, are not wrong.
func (a *Auditor) Compare(ctx context.Context, row *ledger.Row, counted *Counted) (*Finding, error) {
	f := new(Finding)
	if w := inLedger(row, counted); w != nil {
		f.Wrong = append(f.Wrong, *w)
	}
	for _, compare := range []func(context.Context, *ledger.Row, *Counted, *Finding) (*diff.Wrong, error){a.inView, a.inResults, a.inStates} {
		w, err := compare(ctx, row, counted, f)
		if err != nil {
			return nil, err
		}
		if w != nil {
			f.Wrong = append(f.Wrong, *w)
		}
	}
	return f, nil
}

func inLedger(row *ledger.Row, counted *Counted) *diff.Wrong {
	switch {
	case row == nil && counted.Keys == 0:
		return nil
	case row == nil:
		return &diff.Wrong{Place: report.PlaceLedger, Detail: fmt.Sprintf("it has no row, and %d keys with %d events were counted",
			counted.Keys, counted.Events)}
	case counted.isIn(row):
		return nil
	}
	return &diff.Wrong{Place: report.PlaceLedger, Detail: fmt.Sprintf(
		"revision %d says %d keys, %d events and checksum %s; counted were %d, %d and %s", row.Revision, row.Keys, row.Events, row.Checksum,
		counted.Keys, counted.Events, counted.Checksum)}
}

// expirySlack is how far from its due time a view may be gone already.
const expirySlack = time.Minute

// inView compares what Redis shows of the window.
func (a *Auditor) inView(ctx context.Context, row *ledger.Row, counted *Counted, f *Finding) (*diff.Wrong, error) {
	w := &diff.Wrong{Place: report.PlaceView}
	id := store.WindowID{Pipeline: a.cfg.Spec.Name, Window: counted.ID.Window, Start: counted.ID.Start}
	shown, found, err := a.cfg.View.Published(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case row == nil && !found:
		return nil, nil
	case row == nil:
		f.takes(shown.Current.Revision, nil)
		w.Detail = "Redis shows the window, and it has no row in the ledger"
		return w, nil
	case a.cfg.Spec.Keeps(row.Window).Left(row.ClosedAt, a.cfg.Now()) < expirySlack:
		return nil, nil
	}
	f.takes(shown.Current.Revision, row)
	in, err := a.contents.InView(ctx, expected(row, counted))
	if errors.Is(err, view.ErrCorrupt) {
		w.Detail = err.Error()
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	var details []string
	if in.Missing != "" && !in.Expired {
		if err := nameKeys(w, in.Rows, counted); err != nil {
			return nil, err
		}
		f.shows(in.Rows)
		details = append(details, describeKeys(w))
	}
	if text := misshown(shown.Row, found, row, counted); text != "" {
		details = append(details, text)
	}
	if w.Detail = strings.Join(details, "; "); w.Detail == "" {
		return nil, nil
	}
	return w, nil
}

// misshown says how the ledger row that Redis shows differs from the window's.
func misshown(text []byte, found bool, row *ledger.Row, counted *Counted) string {
	if !found {
		return "Redis does not show the window"
	}
	var shown ledger.Row
	switch err := json.Unmarshal(text, &shown); {
	case err != nil:
		return "Redis shows something that is no ledger row: " + err.Error()
	case shown.Revision != row.Revision:
		return fmt.Sprintf("Redis shows revision %d, the ledger has %d", shown.Revision, row.Revision)
	case !counted.isIn(&shown):
		return fmt.Sprintf("Redis shows %d keys, %d events and checksum %s", shown.Keys, shown.Events, shown.Checksum)
	}
	return ""
}

// inResults compares what the result topic holds of the window: in the transactions that its row links to, and elsewhere.
func (a *Auditor) inResults(ctx context.Context, row *ledger.Row, counted *Counted, f *Finding) (*diff.Wrong, error) {
	w := &diff.Wrong{Place: report.PlaceResults}
	var details []string
	if sum := a.published[counted.ID]; row != nil && (sum == nil || sum.Rows() != counted.Keys || sum.String() != counted.Checksum) {
		in, err := a.contents.InResults(ctx, expected(row, counted))
		if err != nil {
			return nil, err
		}
		if in != nil && in.Missing != "" && !in.Expired {
			if err := nameKeys(w, in.Rows, counted); err != nil {
				return nil, err
			}
			f.shows(in.Rows)
			details = append(details, describeKeys(w))
		} else if sum != nil && sum.Rows() > counted.Keys {
			details = append(details, fmt.Sprintf("records among those of the transaction that published it: %d too many", sum.Rows()-counted.Keys))
		}
	}
	if s := a.strays[counted.ID]; s != nil {
		f.Stray = s.rows
		f.takes(s.highest, row)
		w.Extra += s.records
		for _, key := range s.keys {
			w.AddKey(key)
		}
		details = append(details, fmt.Sprintf("records outside of the transaction that published it: %d, the first at %s, offset %d",
			s.records, s.first, s.offset))
	}
	if len(details) == 0 {
		return nil, nil
	}
	w.Detail = strings.Join(details, "; ")
	return w, nil
}

// inStates looks whether the states of the window still stand anywhere, and hold the events that were counted, when a roll-up needs
// them. Nothing else does, so states that retention has taken are wrong only then.
func (a *Auditor) inStates(ctx context.Context, row *ledger.Row, counted *Counted, _ *Finding) (*diff.Wrong, error) {
	if row == nil || row.Keys == 0 || !counted.RollsUp || !counted.isIn(row) {
		return nil, nil
	}
	states, err := a.contents.ReadStates(ctx, row)
	events := int64(0)
	if err == nil {
		events, err = countEvents(states)
	}
	var gone *publish.GoneError
	switch {
	case errors.As(err, &gone):
		return &diff.Wrong{Place: report.PlaceStates, Detail: "a roll-up needs them, and they are gone: " + strings.Join(gone.Missing, "; ")}, nil
	case errors.Is(err, view.ErrCorrupt), errors.Is(err, agg.ErrEntryCorrupt), errors.Is(err, agg.ErrEntryVersion):
		return &diff.Wrong{Place: report.PlaceStates, Detail: err.Error()}, nil
	case err == nil && events != counted.Events:
		return &diff.Wrong{
			Place: report.PlaceStates, Detail: fmt.Sprintf("they hold %d events, and %d were counted", events, counted.Events),
		}, nil
	}
	return nil, err
}

// countEvents counts the events that states hold. Those of one that changes no value may be missing, and no roll-up can be made of
// the others.
func countEvents(states []ledger.Content) (events int64, err error) {
	for i := range states {
		_, _, n, err := agg.EntryHeader(states[i].State)
		if err != nil {
			return 0, err
		}
		events += n
	}
	return events, nil
}

// expected is the row as it should be: what was counted, published as the ledger says.
func expected(row *ledger.Row, counted *Counted) *ledger.Row {
	want := *row
	want.Keys, want.Events, want.Checksum, want.States = counted.Keys, counted.Events, counted.Checksum, nil
	return &want
}

// nameKeys finds out which keys of a place differ from those that were counted.
func nameKeys(w *diff.Wrong, rows []ledger.Content, counted *Counted) error {
	c := diff.NewCompare()
	for i := range rows {
		c.AddBase(rows[i])
	}
	err := counted.Rows(func(row ledger.Content) error {
		c.AddNew(row)
		return nil
	})
	if err != nil {
		return err
	}
	for _, row := range c.Rows() {
		switch row.Kind() {
		case diff.Added:
			w.Missing++
		case diff.Changed:
			w.Other++
		case diff.Removed:
			w.Extra++
		}
		w.AddKey(row.Key)
	}
	return nil
}

func describeKeys(w *diff.Wrong) string {
	return fmt.Sprintf("keys: %d missing, %d with other values, %d too many", w.Missing, w.Other, w.Extra)
}
