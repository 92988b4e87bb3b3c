package app

import (
	"context"
	"fmt"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
)

// summarize says what a shadow has found.
func (s shadows) summarize(ctx context.Context, ask contract.ReplayAsk, found shadow.Result) (contract.ReplaySummary, error) {
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
	for _, h := range m.Headers {
		switch {
		case h == nil || h.Problem == "" && h.Agrees():
			continue
		case h.Problem != "":
			out.Refused++
			continue
		}
		out.Differences = append(out.Differences, differenceOf(h))
	}
	return out, nil
}

func differenceOf(h *diff.Header) contract.WindowDifference {
	out := contract.WindowDifference{
		WindowRef: report.WindowRef{Window: h.Row.Window, Start: h.Row.Start}, End: h.Row.End, Revision: h.BaseRevision,
		OldKeys: h.BaseKeys, NewKeys: h.Row.Keys, OldEvents: h.BaseEvents, NewEvents: h.Row.Events, Added: h.Added, Changed: h.Changed,
		Removed: h.Removed,
	}
	for i := range h.Wrong {
		w := &h.Wrong[i]
		out.Wrong = append(out.Wrong, w.Place)
		out.Details = append(out.Details, detailOf(w))
	}
	return out
}

// detailOf says in one line what is wrong with a place, and names keys as far as there is room.
func detailOf(w *diff.Wrong) string {
	text := w.Place + ": " + w.Detail
	for i, key := range w.Keys {
		if len(text)+len(key) > contract.MaxWrongDetail {
			return text + fmt.Sprintf(" and %d more", len(w.Keys)-i)
		}
		if i == 0 {
			text += "; keys"
		}
		text += " " + string(key)
	}
	return text
}
