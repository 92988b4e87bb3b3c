package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
)

func windowsCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "windows",
		Short: "Read published windows, the ledger and its certificates",
	}
	ls := ledgerListing(sh, listWindows, &cobra.Command{
		Use:   "ls NAME",
		Short: "List the windows of a pipeline as the ledger has them",
		Long: `Ls reads the pipeline's ledger topic: per window the last revision, why and by whom it was published,
how many keys and events it holds and whether it is final.`,
		Example: "  millrace windows ls flights --last 10\n  millrace windows ls flights --json",
	})
	var topic, key string
	var revision int
	get := &cobra.Command{
		Use:   "get NAME WINDOW START",
		Short: "Print the rows of one window",
		Long: `Get reads the result topic with read_committed and prints one window: the revision that the ledger names, or with
--revision exactly that one. START is RFC 3339, or milliseconds since 1970.`,
		Example: "  millrace windows get flights hourly 2001-01-01T00:00:00Z\n" +
			"  millrace windows get flights hourly 2001-01-01T00:00:00Z --key '{\"origin\":\"ATL\"}' --json",
		Args: exactly("NAME", "WINDOW", "START"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start, err := parseInstant("START", args[2])
			if err != nil {
				return err
			}
			if err := atLeast("revision", revision, 0); err != nil {
				return err
			}
			if key != "" && (!json.Valid([]byte(key)) || key[0] != '{') {
				return usagef("--key is %q; want a JSON object as in the results, such as {\"origin\":\"ATL\"}", key)
			}
			srv, err := sh.connectKafka(cmd.Context())
			if err != nil {
				return err
			}
			defer srv.Close()
			want := rowFilter{pipeline: args[0], topic: topic, window: args[1], start: start.UnixMilli(), revision: revision, key: key}
			return getWindow(cmd.Context(), sh, srv.cluster, want)
		},
	}
	get.Flags().StringVar(&topic, "topic", "", "result topic (default: where the ledger says it was published)")
	get.Flags().StringVar(&key, "key", "", "only this key, a JSON object as in the results")
	get.Flags().IntVar(&revision, "revision", 0, "this revision instead of the latest")
	cmd.AddCommand(ls, get, certificatesCommand(sh))
	return cmd
}

func certificatesCommand(sh *shell) *cobra.Command {
	return ledgerListing(sh, listCertificates, &cobra.Command{
		Use:   "certificates NAME",
		Short: "List the certificates that recounts have written for windows",
		Long: `Certificates reads the pipeline's ledger topic: per window that a recount has counted again from Kafka, and found to be
as it was published, who did so, when, and what was counted. A certificate is listed only while the revision that it is about is the
latest. --json has the offsets, too, from which and to which each lane was read.`,
		Example: "  millrace windows certificates flights\n  millrace windows certificates flights --window hourly --json",
	})
}

// listFilter says which of a pipeline's windows are listed.
type listFilter struct {
	window string
	last   int
}

// latestOf keeps the windows that a filter wants: all in their order, or the last ones by start.
func latestOf[T any](f listFilter, all []T, id func(*T) ledger.WindowID) []T {
	wanted := slices.DeleteFunc(all, func(v T) bool { return f.window != "" && id(&v).Window != f.window })
	if f.last > 0 && len(wanted) > f.last {
		slices.SortStableFunc(wanted, func(a, b T) int { return cmp.Compare(id(&a).Start, id(&b).Start) })
		wanted = wanted[len(wanted)-f.last:]
	}
	return wanted
}

// ledgerListing makes cmd a command that lists what the ledger topic of a pipeline says of its windows.
func ledgerListing(sh *shell, list func(context.Context, *shell, ledger.Log, string, listFilter) error, cmd *cobra.Command) *cobra.Command {
	var f listFilter
	cmd.Flags().StringVar(&f.window, "window", "", "only windows of this name")
	return lastFlag(cmd, 0, "only this many, the latest by start (default all)", func(ctx context.Context, pipeline string, last int) error {
		f.last = last
		srv, err := sh.connectKafka(ctx)
		if err != nil {
			return err
		}
		defer srv.Close()
		return list(ctx, sh, srv.cluster, pipeline, f)
	})
}

// listedRows returns the latest rows that a filter and also accept.
func listedRows(ctx context.Context, k ledger.Log, pipeline string, f listFilter, also func(*ledger.Row) bool) ([]ledger.Row, error) {
	latest, err := ledger.Latest(ctx, k, pipeline)
	if err != nil {
		return nil, noLedger(pipeline, err)
	}
	if err := knownWindow(pipeline, f.window, latest); err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(latest, func(r ledger.Row) bool { return !also(&r) })
	return latestOf(f, rows, (*ledger.Row).ID), nil
}

func listWindows(ctx context.Context, sh *shell, k ledger.Log, pipeline string, f listFilter) error {
	rows, err := listedRows(ctx, k, pipeline, f, func(*ledger.Row) bool { return true })
	if err != nil {
		return err
	}
	if sh.json {
		return printList(sh.out, rows)
	}
	t := &table{}
	t.row("WINDOW", "START", "END", "REVISION", "REASON", "FINAL", "KEYS", "EVENTS", "CLOSED", "BY")
	for _, r := range rows {
		final := "no"
		if r.Final {
			final = "yes"
		}
		t.row(r.Window, instant(r.Start), instant(r.End), r.Revision, r.Reason, final, r.Keys, r.Events, instant(r.ClosedAt), r.By)
	}
	if err := t.write(sh.out, ""); err != nil {
		return err
	}
	return printEdition(sh.out, rows)
}

// printEdition says why revisions begin at 1 again, where a removal or a start that discarded the state has ended an edition.
func printEdition(w io.Writer, rows []ledger.Row) error {
	edition := ledger.Edition
	for _, r := range rows {
		edition = max(edition, r.Edition)
	}
	if edition == ledger.Edition {
		return nil
	}
	_, err := fmt.Fprintf(w, "edition %d: the state was discarded, or the pipeline removed, since edition %d; revisions begin at 1 again\n",
		edition, edition-1)
	return err
}

func listCertificates(ctx context.Context, sh *shell, k ledger.Log, pipeline string, f listFilter) error {
	all, err := ledger.Certificates(ctx, k, pipeline)
	if err != nil {
		return noLedger(pipeline, err)
	}
	list := latestOf(f, all, (*ledger.Certificate).ID)
	if sh.json {
		return printList(sh.out, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintf(sh.out, "no certificates; write some with `millrace recount %s --from TIME --to TIME`\n", pipeline)
		return err
	}
	t := &table{}
	t.row("WINDOW", "START", "REVISION", "KEYS", "EVENTS", "CHECKSUM", "SCOPE", "CERTIFIED", "RECOUNT", "BY")
	for _, c := range list {
		t.row(c.Window, instant(c.Start), c.Revision, c.Keys, c.Events, c.Checksum, c.Scope, instant(c.CertifiedAt), c.Replay, c.By)
	}
	return t.write(sh.out, "")
}

type rowFilter struct {
	pipeline, topic, window string
	start                   int64
	revision                int    // 0: the latest
	key                     string // "": all
}

// getWindow prints one window. Nothing found is an error.
func getWindow(ctx context.Context, sh *shell, k publish.ContentLog, f rowFilter) error {
	row, err := ledgerRow(ctx, k, f)
	if err != nil {
		return err
	}
	if f.topic != "" && f.topic != row.PublishedTo {
		row.PublishedTo, row.Links = f.topic, nil
	}
	read := readLatestRevision
	if f.revision != 0 && f.revision != row.Revision {
		read = readEarlierRevision
	}
	rows, err := read(ctx, k, f, &row)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r ledger.ResultRow) bool { return f.key != "" && string(r.Key) != f.key })
	sortRows(rows)
	switch {
	case len(rows) == 0:
		return fmt.Errorf("topic %s has no row of window %s %s of pipeline %s that fits", row.PublishedTo, f.window, instant(f.start), f.pipeline)
	case sh.json:
		return printList(sh.out, rows)
	}
	return drawRows(sh.out, rows)
}

// readLatestRevision reads the content that the window's ledger row is about, and nothing else.
func readLatestRevision(ctx context.Context, k publish.ContentLog, _ rowFilter, row *ledger.Row) ([]ledger.ResultRow, error) {
	contents := publish.Contents{Kafka: k}
	content, err := contents.Read(ctx, row)
	if err != nil {
		return nil, err
	}
	rows := make([]ledger.ResultRow, len(content))
	for i, c := range content {
		rows[i] = ledger.ResultRow{
			Pipeline: row.Pipeline, Window: row.Window, Start: row.Start, End: row.End, Edition: row.Edition, Key: c.Key,
			Revision: row.Revision, Values: c.Values, Overflow: c.Overflow,
		}
	}
	return rows, nil
}

// readEarlierRevision reads what the result topic still holds of a revision that no ledger row is about any more.
func readEarlierRevision(ctx context.Context, k publish.ContentLog, f rowFilter, row *ledger.Row) (rows []ledger.ResultRow, err error) {
	err = ledger.ReadResults(ctx, k, row.PublishedTo, f.pipeline, func(r ledger.ResultRow) error {
		// What stands there of an edition that has ended says nothing about this one.
		if r.Window == f.window && r.Start == f.start && max(r.Edition, ledger.Edition) == row.Edition && r.Revision == f.revision && !r.Deleted {
			rows = append(rows, r)
		}
		return nil
	})
	return rows, err
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
	return ledger.Row{}, fmt.Errorf("pipeline %s has no ledger row of window %s %s: it was not published, or the row was given up after "+
		"retention.ledger; `millrace windows ls %s` lists what it has",
		f.pipeline, f.window, instant(f.start), f.pipeline)
}

// knownWindow refuses the name of a window that no row has, and lists those that there are. Without any row nothing is known.
func knownWindow(pipeline, name string, rows []ledger.Row) error {
	var names []string
	for i := range rows {
		names = append(names, rows[i].Window)
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if name == "" || len(names) == 0 || slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("no window of pipeline %s in the ledger is named %q; there are %s", pipeline, name, strings.Join(names, ", "))
}

func noLedger(pipeline string, err error) error {
	if errors.Is(err, source.ErrUnknownTopic) {
		return fmt.Errorf("pipeline %s has no ledger topic here: it was never started on this Kafka, or it was removed", pipeline)
	}
	return err
}

// drawRows prints rows as a table with a column for every key field and value.
func drawRows(w io.Writer, rows []ledger.ResultRow) error {
	t := &table{}
	for i, r := range rows {
		keyNames, keys := cells(r.Key)
		valueNames, values := cells(r.Values)
		if i == 0 {
			t.row(anys("WINDOW", "START", keyNames, "REV", valueNames)...)
		}
		t.row(anys(r.Window, instant(r.Start), keys, r.Revision, values)...)
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
