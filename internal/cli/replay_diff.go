package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/pipeline/ledger"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/store"
)

// diffFilter is what of a diff is shown.
type diffFilter struct {
	window, start string
	limit         int
}

// shownDiff is how many rows of a window are shown.
const shownDiff = 20

func replayDiffCommand(sh *shell) *cobra.Command {
	f := diffFilter{limit: shownDiff}
	cmd := &cobra.Command{
		Use:   "diff NAME ID",
		Short: "Show what differs, key by key",
		Long: `Diff shows what a replay or recount has found to differ, which stands in Redis: for each key the values that were published and
those that were counted. It is there from the reading on until the replay has ended. Without --start all windows are shown, each
with its first --limit keys. Plain Temporal shows it page by page with the update show-diff.`,
		Example: `  millrace replay diff flights fix-1
  millrace replay diff flights fix-1 --window hourly --start 2001-01-01T07:00:00Z --limit 0 --json`,
		Args: exactly(nameArg, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atLeast("limit", f.limit, 0); err != nil {
				return err
			}
			return showDiff(cmd.Context(), sh, args[0], args[1], f)
		},
	}
	cmd.Flags().StringVar(&f.window, "window", "", "only windows of this name")
	cmd.Flags().StringVar(&f.start, "start", "", "only the window that starts then, RFC 3339 or milliseconds since 1970")
	cmd.Flags().IntVar(&f.limit, "limit", f.limit, "how many keys of each window; 0 for all")
	return cmd
}

// diffReader reads what a shadow has found: a *shadow.Reader.
type diffReader interface {
	Manifest(ctx context.Context) (*shadow.Manifest, error)
	Page(ctx context.Context, id ledger.WindowID, number int) ([]diff.Row, error)
}

func showDiff(ctx context.Context, sh *shell, pipeline, id string, f diffFilter) error {
	srv, err := sh.connectRedis(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	return drawDiff(ctx, sh, shadow.NewReader(srv.store, pipeline, id), pipeline, id, f)
}

// diffRow is a row of a diff as --json prints it.
type diffRow struct {
	Window      string          `json:"window"`
	Start       string          `json:"start"`
	Kind        string          `json:"kind"` // added, changed or removed
	Key         json.RawMessage `json:"key"`
	Old         json.RawMessage `json:"old,omitempty"`
	New         json.RawMessage `json:"new,omitempty"`
	OldOverflow bool            `json:"old_overflow,omitempty"`
	NewOverflow bool            `json:"new_overflow,omitempty"`
}

func drawDiff(ctx context.Context, sh *shell, r diffReader, pipeline, id string, f diffFilter) error {
	var start *time.Time
	if f.start != "" {
		at, err := parseInstant("--start", f.start)
		if err != nil {
			return err
		}
		start = &at
	}
	m, err := r.Manifest(ctx)
	if errors.Is(err, store.ErrNoShadow) {
		return fmt.Errorf("there is no diff of replay %s of pipeline %s: it has not begun to read, or it has ended; "+
			"see `millrace replay show %[2]s %[1]s`",
			id, pipeline)
	}
	if err != nil {
		return err
	}
	list, found := jsonArray{w: sh.out}, 0
	for _, h := range m.Headers {
		if h == nil || h.Rows() == 0 && len(h.Wrong) == 0 || f.window != "" && h.Row.Window != f.window ||
			start != nil && h.Row.Start != start.UnixMilli() {
			continue
		}
		found++
		if sh.json {
			err = eachDiffRow(ctx, r, h, f.limit, func(row *diff.Row) error { return list.add(diffRowOf(h, row)) })
		} else {
			err = drawWindowDiff(ctx, sh.out, r, h, f.limit)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case sh.json:
		return list.end()
	case found > 0:
		_, err := fmt.Fprintf(sh.out, "checksum of the diff: %s\n", cmp.Or(m.Checksum, "not known before all windows are compared"))
		return err
	}
	return fmt.Errorf("nothing of replay %s of pipeline %s that fits differs, as far as it has counted", id, pipeline)
}

// eachDiffRow passes the rows of a window, the first limit of them; 0 is all.
func eachDiffRow(ctx context.Context, r diffReader, h *diff.Header, limit int, fn func(*diff.Row) error) error {
	for page, n := 0, 0; page < h.Pages; page++ {
		rows, err := r.Page(ctx, h.ID(), page)
		if err != nil {
			return err
		}
		for i := range rows {
			if rows[i].Kind() == diff.Unchanged { // only its state differs, or the window is to be published again as a whole
				continue
			}
			if n++; limit > 0 && n > limit {
				return nil
			}
			if err := fn(&rows[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func diffRowOf(h *diff.Header, row *diff.Row) diffRow {
	return diffRow{h.Row.Window, instant(h.Row.Start), row.Kind(), row.Key, row.Old, row.New, row.OldOverflow, row.NewOverflow}
}

func drawWindowDiff(ctx context.Context, w io.Writer, r diffReader, h *diff.Header, limit int) error {
	if err := drawDiffHeader(w, h); err != nil {
		return err
	}
	t := &table{}
	if err := eachDiffRow(ctx, r, h, limit, func(row *diff.Row) error { drawDiffRow(t, row); return nil }); err != nil {
		return err
	}
	if err := t.write(w, "  "); err != nil {
		return err
	}
	if more := int(h.Rows()) - limit; limit > 0 && more > 0 {
		fmt.Fprintf(w, "  and %s more; see --limit\n", counted(more, "key"))
	}
	return nil
}

// drawDiffHeader says of a window what differs in all, and which places a recount has found wrong.
func drawDiffHeader(w io.Writer, h *diff.Header) error {
	window := h.ID()
	against := fmt.Sprintf("revision %d", h.BaseRevision)
	if h.BaseRevision == 0 {
		against = "nothing that was published"
	}
	_, err := fmt.Fprintf(w, "%s %s against %s: %d added, %d changed, %d removed; keys %d → %d, events %d → %d\n", window.Window,
		instant(window.Start), against, h.Added, h.Changed, h.Removed, h.BaseKeys, h.Row.Keys, h.BaseEvents, h.Row.Events)
	for i := range h.Wrong {
		if err == nil {
			_, err = fmt.Fprintf(w, "  wrong: %s: %s\n", h.Wrong[i].Place, h.Wrong[i].Detail)
		}
	}
	return err
}

// drawDiffRow adds a key to a table: what it is, and each value that differs.
func drawDiffRow(t *table, row *diff.Row) {
	names, keys := cells(row.Key)
	if len(t.rows) == 0 {
		t.row(anys("", names, "WAS", "IS")...)
	}
	was, is := valueTexts(row.Old), valueTexts(row.New)
	if row.Old != nil && row.New != nil {
		was, is = differingTexts(row.Old, row.New)
	}
	t.row(anys(row.Kind(), keys, was, is)...)
}

// valueTexts are all values on one line, "-" without any.
func valueTexts(values []byte) string {
	if values == nil {
		return "-"
	}
	names, texts := cells(values)
	var parts []string
	for i, name := range names {
		parts = append(parts, name+" "+texts[i])
	}
	return strings.Join(parts, ", ")
}

// differingTexts are the values that differ.
func differingTexts(old, now []byte) (was, is string) {
	names, before := cells(old)
	newNames, after := cells(now)
	var a, b []string
	for i, name := range names {
		if i >= len(newNames) || newNames[i] != name {
			return valueTexts(old), valueTexts(now)
		}
		if before[i] != after[i] {
			a, b = append(a, name+" "+before[i]), append(b, name+" "+after[i])
		}
	}
	if len(a) == 0 { // an overflow alone
		return valueTexts(old), valueTexts(now)
	}
	return strings.Join(a, ", "), strings.Join(b, ", ")
}
