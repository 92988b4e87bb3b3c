package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/spf13/cobra"

	"millrace/pipeline/archive"
	"millrace/pipeline/ledger"
	"millrace/pipeline/wal"
)

func archiveCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "List and prove the files of archived windows",
	}
	ls := ledgerListing(sh, listArchived, &cobra.Command{
		Use:   "ls NAME",
		Short: "List the archived windows of a pipeline as the ledger has them",
		Long: `Ls reads the pipeline's ledger topic and prints every final window with the file that its content was archived in, or "-"
where it is still to be archived. Windows whose ledger rows were given up after retention.ledger are not listed; their files stay.`,
		Example: "  millrace archive ls flights --last 10\n  millrace archive ls flights --json",
	})
	var file, dir string
	prove := &cobra.Command{
		Use:   "verify NAME",
		Short: "Prove the archived files of a pipeline against the ledger",
		Long: `Verify reads every file of the pipeline's archive. One that the latest ledger row of a window names must have the row's
SHA-256, and hold the keys and the checksum of the row. Every other one, of an earlier revision or of a window whose row was given
up, must hold what it says of itself. The archive's directory has to be there on the machine where the command runs.
It exits with 4 when a file is damaged or missing.`,
		Example: "  millrace archive verify flights\n  millrace archive verify flights --dir /mnt/archive --json",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyArchive(cmd.Context(), sh, args[0], file, dir)
		},
	}
	prove.Flags().StringVar(&file, "spec", "", "the pipeline's spec file; default: what Temporal knows")
	prove.Flags().StringVar(&dir, "dir", "", "where the archive is on this machine (default archive.dir of the spec)")
	cmd.AddCommand(ls, prove)
	return cmd
}

func listArchived(ctx context.Context, sh *shell, k ledger.Log, pipeline string, f listFilter) error {
	rows, err := listedRows(ctx, k, pipeline, f, func(r *ledger.Row) bool { return r.Final || r.Archive != nil })
	if err != nil {
		return err
	}
	if sh.json {
		return printList(sh.out, rows)
	}
	t := &table{}
	t.row("WINDOW", "START", "REVISION", "KEYS", "ARCHIVED", "BYTES", "SHA-256", "FILE")
	for _, r := range rows {
		if a := r.Archive; a != nil && a.Gone != "" {
			t.row(r.Window, instant(r.Start), r.Revision, r.Keys, "-", "-", "-", "not archived: contents gone")
		} else if a != nil {
			t.row(r.Window, instant(r.Start), r.Revision, r.Keys, instant(a.At), a.Bytes, a.SHA256[:min(len(a.SHA256), 12)], a.File)
		} else {
			t.row(r.Window, instant(r.Start), r.Revision, r.Keys, "-", "-", "-", "-")
		}
	}
	return t.write(sh.out, "")
}

// archiveCheck is what verifying an archive found.
type archiveCheck struct {
	Pipeline string           `json:"pipeline"`
	Dir      string           `json:"dir"`
	Files    int              `json:"files"`   // proved against the ledger
	Unnamed  int              `json:"unnamed"` // proved by what they say of themselves
	Bytes    int64            `json:"bytes"`   // of the files that the ledger names
	Problems []archiveProblem `json:"problems"`
}

type archiveProblem struct {
	File   string `json:"file"`
	Detail string `json:"detail"`
}

func verifyArchive(ctx context.Context, sh *shell, pipeline, file, dir string) error {
	if dir == "" {
		s, tc, err := sh.findSpec(ctx, pipeline, file)
		if err != nil {
			return err
		}
		if tc != nil {
			tc.Close()
		}
		if s.Archive == nil {
			return fmt.Errorf("pipeline %s has no archive.dir in its spec; give --dir for one that it had earlier", pipeline)
		}
		dir = s.Archive.Dir
	}
	srv, err := sh.connectKafka(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	found, err := proveArchive(ctx, srv.cluster, pipeline, dir)
	if err != nil {
		return err
	}
	if sh.json {
		err = printJSON(sh.out, found)
	} else {
		err = drawArchiveCheck(sh.out, found)
	}
	if err == nil && len(found.Problems) > 0 {
		err = incompletef("archive of pipeline %s: %s found", pipeline, counted(len(found.Problems), "problem"))
	}
	return err
}

// proveArchive proves every file of a pipeline's archive, and that each one that the ledger names is there.
func proveArchive(ctx context.Context, k ledger.Log, pipeline, dir string) (*archiveCheck, error) {
	found := &archiveCheck{Pipeline: pipeline, Dir: dir, Problems: []archiveProblem{}}
	d := archive.NewDir(wal.OS, dir)
	if _, err := d.ID(); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is no archive on this machine: mount it, or give --dir with the place where it is", dir)
	} else if err != nil {
		return nil, err
	}
	rows, err := ledger.Latest(ctx, k, pipeline)
	if err != nil {
		return nil, noLedger(pipeline, err)
	}
	// Files are listed after the ledger was read, so that each one that a row names is there by then.
	names, err := d.Files(pipeline)
	if err != nil {
		return nil, err
	}
	book := func(name string, err error) bool {
		if err != nil {
			found.Problems = append(found.Problems, archiveProblem{name, err.Error()})
		}
		return err == nil
	}
	named := make(map[string]bool)
	for i := range rows {
		a := rows[i].Archive
		if a == nil || a.Gone != "" {
			continue
		}
		named[a.File] = true
		if book(a.File, d.Verify(ctx, archive.File{Name: a.File, SHA256: a.SHA256, Bytes: a.Bytes}, &rows[i])) {
			found.Files++
			found.Bytes += a.Bytes
		}
	}
	for _, name := range names {
		if !named[name] && book(name, d.Prove(ctx, name)) {
			found.Unnamed++
		}
	}
	return found, ctx.Err()
}

func drawArchiveCheck(w io.Writer, c *archiveCheck) error {
	fmt.Fprintf(w, "%s in %s: %s with %s proved against the ledger; "+
		"%s of earlier revisions or rows given up proved against their own metadata\n",
		c.Pipeline, path.Clean(c.Dir), counted(c.Files, "file"), counted(int(c.Bytes), "byte"), counted(c.Unnamed, "file"))
	for _, p := range c.Problems {
		fmt.Fprintf(w, "PROBLEM %s: %s\n", p.File, p.Detail)
	}
	return nil
}
