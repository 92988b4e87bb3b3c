package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"millrace/pipeline/ledger"
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
	cmd.AddCommand(ls, windowsGetCommand(sh), certificatesCommand(sh))
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
