package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
)

func windowsGetCommand(sh *shell) *cobra.Command {
	var f rowFilter
	get := &cobra.Command{
		Use:   "get NAME WINDOW START",
		Short: "Print the rows of one window",
		Long: `Get reads the result topic with read_committed and prints the whole content of one window: that of the
revision that the ledger names, or with --revision that of an earlier one. A revision after the first may have
published only the rows that it changed; get follows the links of the ledger row to the others, and proves keys
and checksum. When compaction has removed the row of an earlier revision, the links of a later row may still
lead there, and a line on standard error says that nothing proves the content. --changes prints only the rows
that the revision itself published, with those of deleted keys, as far as the topic still holds them.
START is RFC 3339, or milliseconds since 1970.`,
		Example: "  millrace windows get flights hourly 2001-01-01T00:00:00Z\n" +
			"  millrace windows get flights hourly 2001-01-01T00:00:00Z --key '{\"origin\":\"ATL\"}' --json\n" +
			"  millrace windows get flights hourly 2001-01-01T00:00:00Z --revision 2 --changes",
		Args: exactly("NAME", "WINDOW", "START"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := parseInstant("START", args[2])
			if err != nil {
				return err
			}
			if err := atLeast("revision", f.revision, 0); err != nil {
				return err
			}
			if f.key != "" && (!json.Valid([]byte(f.key)) || f.key[0] != '{') {
				return usagef("--key is %q; want a JSON object as in the results, such as {\"origin\":\"ATL\"}", f.key)
			}
			srv, err := sh.connectKafka(cmd.Context())
			if err != nil {
				return err
			}
			defer srv.Close()
			f.pipeline, f.window, f.start = args[0], args[1], start.UnixMilli()
			return getWindow(cmd.Context(), sh, srv.cluster, f)
		},
	}
	get.Flags().StringVar(&f.topic, "topic", "", "result topic (default: where the ledger says it was published)")
	get.Flags().StringVar(&f.key, "key", "", "only this key, a JSON object as in the results")
	get.Flags().IntVar(&f.revision, "revision", 0, "this revision instead of the latest")
	get.Flags().BoolVar(&f.changes, "changes", false, "only what the revision itself published, deleted keys included")
	return get
}

type rowFilter struct {
	pipeline, topic, window string
	start                   int64
	revision                int    // 0: the latest
	key                     string // "": all
	changes                 bool   // only what the revision published
}

// getWindow prints one window. Nothing found is an error.
func getWindow(ctx context.Context, sh *shell, k publish.ContentLog, f rowFilter) error {
	latest, err := ledgerRow(ctx, k, f)
	if err != nil {
		return err
	}
	known := []ledger.Row{latest}
	switch f.revision {
	case 0:
		f.revision = latest.Revision
	case latest.Revision:
	default:
		if known, err = rowsLeft(ctx, k, &latest); err != nil {
			return err
		}
	}
	row := rowLeadingTo(known, f.revision)
	if row == nil && !f.changes {
		return unreadable(f, known, &latest)
	}
	if row == nil {
		row = &latest
	}
	if f.topic != "" && f.topic != row.PublishedTo {
		if err := readElsewhere(ctx, k, row, f.topic); err != nil {
			return err
		}
	}
	rows, err := readRevision(ctx, sh, k, f, row)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r ledger.ResultRow) bool { return f.key != "" && string(r.Key) != f.key })
	sortRows(rows)
	switch {
	case len(rows) == 0:
		return fmt.Errorf("topic %s has no row of window %s %s of pipeline %s that fits", row.PublishedTo, f.window,
			instant(f.start), f.pipeline)
	case sh.json:
		return printList(sh.out, rows)
	case f.changes:
		return drawChanges(sh.out, rows)
	}
	return drawRows(sh.out, rows)
}

// readRevision reads what f wants of a revision to which a ledger row leads.
func readRevision(ctx context.Context, sh *shell, k publish.ContentLog, f rowFilter,
	row *ledger.Row) (rows []ledger.ResultRow, err error) {
	contents := publish.Contents{Kafka: k}
	var content []ledger.Content
	switch {
	case f.changes:
		return contents.ReadPublished(ctx, row, f.revision)
	case row.Revision == f.revision:
		content, err = contents.Read(ctx, row)
	default:
		if content, err = contents.ReadUpTo(ctx, row, f.revision); err == nil {
			fmt.Fprintf(sh.err, "the ledger row of revision %d is gone, nothing proves that this is all of it\n", f.revision)
		}
	}
	if err != nil {
		return nil, err
	}
	rows = make([]ledger.ResultRow, len(content))
	for i, c := range content {
		rows[i] = ledger.ResultRow{
			Pipeline: row.Pipeline, Window: row.Window, Start: row.Start, End: row.End, Edition: row.Edition,
			Key: c.Key, Revision: f.revision, Values: c.Values, Overflow: c.Overflow,
		}
	}
	return rows, nil
}

// ledgerRow finds the latest row of the window.
func ledgerRow(ctx context.Context, k ledger.Log, f rowFilter) (ledger.Row, error) {
	rows, err := ledger.Latest(ctx, k, f.pipeline)
	if err != nil {
		return ledger.Row{}, noLedger(f.pipeline, err)
	}
	for _, r := range rows {
		if r.Window == f.window && r.Start == f.start {
			return r, nil
		}
	}
	if err := knownWindow(f.pipeline, f.window, rows); err != nil {
		return ledger.Row{}, err
	}
	return ledger.Row{}, fmt.Errorf("pipeline %s has no ledger row of window %s %s: it was not published, or the row was "+
		"given up after retention.ledger; `millrace windows ls %s` lists what it has",
		f.pipeline, f.window, instant(f.start), f.pipeline)
}

// rowsLeft returns the rows that compaction has left of the latest row's window, oldest first. Rows
// of editions that have ended, and rows from before the window was given up, are about other
// revisions of the same numbers.
func rowsLeft(ctx context.Context, k ledger.Log, latest *ledger.Row) (rows []ledger.Row, err error) {
	id := latest.ID()
	err = ledger.Read(ctx, k, latest.Pipeline, func(rec ledger.Record) error {
		switch {
		case rec.Tombstone != nil && *rec.Tombstone == id:
			rows = nil
		case rec.Row != nil && rec.Row.ID() == id && rec.Row.Edition == latest.Edition:
			rows = append(rows, *rec.Row)
		}
		return nil
	})
	return rows, err
}

// rowLeadingTo returns the newest row of a revision or, without one, a row that links to the
// revision; nil when there is neither.
func rowLeadingTo(rows []ledger.Row, revision int) *ledger.Row {
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].Revision == revision {
			return &rows[i]
		}
	}
	for i := range rows {
		if slices.ContainsFunc(rows[i].Links, func(l ledger.Link) bool { return l.Revision == revision }) {
			return &rows[i]
		}
	}
	return nil
}

// unreadable says that no row leads to a revision, and what can be read instead.
func unreadable(f rowFilter, rows []ledger.Row, latest *ledger.Row) error {
	name := fmt.Sprintf("window %s %s of pipeline %s", f.window, instant(f.start), f.pipeline)
	if f.revision > latest.Revision {
		return fmt.Errorf("%s has no revision %d; the latest is %d", name, f.revision, latest.Revision)
	}
	earliest := latest.Revision
	for i := range rows {
		earliest = min(earliest, rows[i].Revision)
		for _, link := range rows[i].Links {
			earliest = min(earliest, link.Revision)
		}
	}
	return fmt.Errorf("%s: the ledger row of revision %d is gone, and no later row links to the revision; the earliest "+
		"that can be read is revision %d. --changes shows what topic %s still holds of the rows that revision %d published",
		name, f.revision, earliest, latest.PublishedTo, f.revision)
}

// readElsewhere has a row's content read from another topic, where its rows stand at offsets that
// the row does not know.
func readElsewhere(ctx context.Context, k publish.ContentLog, row *ledger.Row, topic string) error {
	row.PublishedTo = topic
	if len(row.Links) == 0 {
		return nil
	}
	partitions, err := k.Partitions(ctx, topic)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	tps := make([]source.TopicPartition, len(partitions))
	for i, p := range partitions {
		tps[i] = source.TopicPartition{Topic: topic, Partition: p}
	}
	ends, err := k.Ends(ctx, tps...)
	if err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	var all []ledger.Span
	for _, tp := range tps {
		if of := ends[tp]; of.End > of.Start {
			all = append(all, ledger.Span{Partition: tp.Partition, First: of.Start, Last: of.End - 1})
		}
	}
	row.Links = slices.Clone(row.Links)
	for i := range row.Links {
		row.Links[i].TopicID, row.Links[i].Partitions = "", all
	}
	return nil
}

// drawRows prints rows as a table with a column for every key field and value.
func drawRows(w io.Writer, rows []ledger.ResultRow) error { return drawTable(w, rows, false) }

// drawChanges is drawRows with a column that says which keys were deleted. The values of a deleted
// key, which a replay publishes with it, are not shown.
func drawChanges(w io.Writer, rows []ledger.ResultRow) error { return drawTable(w, rows, true) }

func drawTable(w io.Writer, rows []ledger.ResultRow, changes bool) error {
	t := &table{}
	var deleted []string // header of the column
	if changes {
		deleted = []string{"DELETED"}
	}
	if len(rows) > 0 {
		keyNames, _ := cells(rows[0].Key)
		var valueNames []string
		if n := slices.IndexFunc(rows, func(r ledger.ResultRow) bool { return !r.Deleted }); n >= 0 {
			valueNames, _ = cells(rows[n].Values)
		}
		t.row(anys("WINDOW", "START", keyNames, "REV", deleted, valueNames)...)
	}
	for _, r := range rows {
		_, keys := cells(r.Key)
		_, values := cells(r.Values)
		if changes {
			if deleted = []string{"no"}; r.Deleted {
				deleted, values = []string{"yes"}, nil
			}
		}
		t.row(anys(r.Window, instant(r.Start), keys, r.Revision, deleted, values)...)
	}
	return t.write(w, "")
}

// anys flattens its arguments.
func anys(items ...any) []any {
	var out []any
	for _, item := range items {
		if list, ok := item.([]string); ok {
			for _, s := range list {
				out = append(out, s)
			}
			continue
		}
		out = append(out, item)
	}
	return out
}
