package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/spec"
)

// summarize says what a shadow has found. A recount looks at each place where the contents of a window stand.
func (s shadows) summarize(ctx context.Context, own *spec.Spec, ask contract.ReplayAsk, found shadow.Result) (contract.ReplaySummary, error) {
	out := contract.ReplaySummary{
		Windows: found.Windows, Equal: found.Equal, Differ: found.Differ, Added: found.Added, Changed: found.Changed, Removed: found.Removed,
		Checksum: found.Checksum,
	}
	if ask.Recount {
		out.Scope = string(found.Scope)
	}
	m, err := shadow.NewReader(s.store, ask.Pipeline, ask.ID).Manifest(ctx)
	if err != nil {
		return out, err
	}
	var audit *recounted
	if ask.Recount {
		if audit, err = s.newRecounted(ctx, own); err != nil {
			return out, err
		}
	}
	for _, h := range m.Headers {
		switch {
		case h == nil:
			continue
		case h.Problem != "":
			out.Refused++
			continue
		}
		var wrong []string
		if audit != nil {
			if wrong, err = audit.wrongPlaces(ctx, h); err != nil {
				return out, err
			}
		}
		if h.Equal && len(wrong) == 0 {
			continue
		}
		out.Differences = append(out.Differences, differenceOf(h, wrong))
		if h.Equal { // the ledger is right, and something else is not
			out.Equal--
			out.Differ++
			out.Misshown = append(out.Misshown, report.WindowRef{Window: h.Row.Window, Start: h.Row.Start})
		}
		if len(out.Misshown) > contract.MaxMisshown {
			return out, fmt.Errorf("more than %d windows of %s show something else than their ledger rows say: run `millrace verify %s`",
				contract.MaxMisshown, ask.Pipeline, ask.Pipeline)
		}
	}
	return out, nil
}

func differenceOf(h *diff.Header, wrong []string) contract.WindowDifference {
	return contract.WindowDifference{
		WindowRef: report.WindowRef{Window: h.Row.Window, Start: h.Row.Start}, End: h.Row.End, Revision: h.BaseRevision,
		OldKeys: h.BaseKeys, NewKeys: h.Row.Keys, OldEvents: h.BaseEvents, NewEvents: h.Row.Events, Added: h.Added, Changed: h.Changed,
		Removed: h.Removed, Wrong: wrong,
	}
}

// recounted compares what was counted with each place where the contents of a window stand.
type recounted struct {
	rows    map[ledger.WindowID]ledger.Row
	keep    spec.Retention
	results *publish.Contents
	view    *publish.Contents
	now     time.Time
}

func (s shadows) newRecounted(ctx context.Context, own *spec.Spec) (*recounted, error) {
	latest, err := ledger.Latest(ctx, s.cluster, own.Name)
	if err != nil {
		return nil, err
	}
	r := &recounted{
		rows: make(map[ledger.WindowID]ledger.Row, len(latest)), keep: own.Retention, now: time.Now(),
		results: &publish.Contents{Kafka: s.cluster}, view: &publish.Contents{Kafka: s.cluster, State: s.store},
	}
	for _, row := range latest {
		r.rows[row.ID()] = row
	}
	return r, nil
}

// expirySlack is how far from its due time a view may be gone already.
const expirySlack = time.Minute

// wrongPlaces names the places that hold something else than was counted. Contents that have expired are not wrong.
func (r *recounted) wrongPlaces(ctx context.Context, h *diff.Header) (wrong []string, err error) {
	if !h.Equal {
		wrong = append(wrong, contract.PlaceLedger)
	}
	row, ok := r.rows[h.ID()]
	if !ok || row.Revision != h.BaseRevision || row.Checksum != h.BaseChecksum {
		return wrong, nil // it was published anew since
	}
	counted := row
	counted.Keys, counted.Checksum, counted.States = h.Row.Keys, h.Row.Checksum, nil
	if row.PublishedTo != "" {
		if is, err := holds(ctx, r.results, counted); err != nil {
			return wrong, err
		} else if !is {
			wrong = append(wrong, contract.PlaceResults)
		}
	}
	if r.keep.Left(row.ClosedAt, r.now) > expirySlack {
		counted.PublishedTo = ""
		if is, err := holds(ctx, r.view, counted); err != nil {
			return wrong, err
		} else if !is {
			wrong = append(wrong, contract.PlaceView)
		}
	}
	return wrong, nil
}

// holds reports whether the only place that contents reads of the row has what the row says, or what it had has expired.
func holds(ctx context.Context, contents *publish.Contents, row ledger.Row) (bool, error) {
	_, err := contents.Read(ctx, &row)
	var gone *publish.GoneError
	if errors.As(err, &gone) {
		return gone.Expired, nil
	}
	return err == nil, err
}
