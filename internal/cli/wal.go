package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"millrace/pipeline/wal"
)

func walCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wal",
		Short: "Look at a write-ahead log, check it, trim it, or have it replayed",
		Long: `Ls, dump, verify and trim work on a log's directory on this machine. Ls, dump and verify change nothing and may run beside the
worker that writes the log; what is being written at that moment may then show as a torn tail. Trim needs the log for itself.
Replay and decide steer the worker that has the log, through Temporal.`,
	}
	ls := &cobra.Command{
		Use:     "ls DIR",
		Short:   "List a log's segments, streams, and copies of what could not be read",
		Example: "  millrace wal ls /var/lib/millrace/wal\n  millrace wal ls /var/lib/millrace/wal --json | jq .streams",
		Args:    exactly("DIR"),
		RunE:    func(_ *cobra.Command, args []string) error { return listLog(sh, args[0]) },
	}
	var want dumpFilter
	dump := &cobra.Command{
		Use:   "dump DIR",
		Short: "Print a log's records in order",
		Long: `Dump prints one line for each record: index, stream, chain, place, position and size. Where records cannot be read it
prints what is missing and goes on; it then exits with 4.`,
		Example: "  millrace wal dump /var/lib/millrace/wal --stream flights/flights/3 --limit 10 --json",
		Args:    exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := atLeast("limit", want.limit, 0); err != nil {
				return err
			}
			return dumpLog(cmd.Context(), sh, args[0], want)
		},
	}
	dump.Flags().StringVar(&want.stream, "stream", "", "only this stream's records")
	dump.Flags().Uint64Var(&want.from, "from", 0, "start at this index (default: the first not released)")
	dump.Flags().IntVar(&want.limit, "limit", 0, "most records to print (default all)")
	dump.Flags().BoolVar(&want.data, "data", false, "print the records' data too, in base64")
	verify := &cobra.Command{
		Use:   "verify DIR",
		Short: "Read a whole log and report everything that cannot be read",
		Long: `Verify reads every byte of a log and checks every checksum. It reports corrupt ranges, header pages that are unreadable
although no record is lost by that, and a torn tail, which is what a crash in the middle of a write leaves and which was never
acknowledged. It exits with 4 when something acknowledged cannot be read.`,
		Example: "  millrace wal verify /var/lib/millrace/wal",
		Args:    exactly("DIR"),
		RunE:    func(cmd *cobra.Command, args []string) error { return verifyLog(cmd.Context(), sh, args[0]) },
	}
	var before uint64
	var stream string
	trim := &cobra.Command{
		Use:   "trim DIR --before INDEX",
		Short: "Release a log's records below an index, of one stream or of all",
		Long: `Trim releases records for good, whether or not anybody has applied them: look with ls and dump first. Segments whose
records are all released are recycled or deleted. It fails while a worker has the log.`,
		Example: "  millrace wal trim /var/lib/millrace/wal --before 180000 --stream flights/flights/3",
		Args:    exactly("DIR"),
		RunE:    func(_ *cobra.Command, args []string) error { return trimLog(sh, args[0], stream, before) },
	}
	trim.Flags().Uint64Var(&before, "before", 0, "release records below this index")
	trim.Flags().StringVar(&stream, "stream", "", "only of this stream (default all)")
	cmd.AddCommand(ls, dump, verify, trim, walReplayCommand(sh), walDecideCommand(sh))
	return cmd
}

// inspectLog opens a log for looking. A directory without one is wrong usage.
func inspectLog(dir string) (*wal.View, *wal.Recovery, error) {
	v, rep, err := wal.Inspect(nil, dir)
	if errors.Is(err, os.ErrNotExist) {
		err = usagef("%s holds no log: %w", dir, err)
	}
	return v, rep, err
}

func listLog(sh *shell, dir string) error {
	v, rep, err := inspectLog(dir)
	if err != nil {
		return err
	}
	defer v.Close()
	id, segments, streams := v.Identity(), v.Segments(), v.Streams()
	aside, err := v.Aside()
	if err != nil {
		return err
	}
	if sh.json {
		return printJSON(sh.out, listedLog{id.Disk.String(), id.Owner, segments, streams, rep, aside})
	}
	fmt.Fprintf(sh.out, "log %s, next index %d; last held by worker %q, incarnation %s, since %s\n",
		id.Disk, rep.Next, id.Owner.Worker, id.Owner.Incarnation, instant(id.Owner.Since.UnixMilli()))
	t := &table{}
	t.row("SEGMENT", "STATE", "FIRST", "NEXT", "BYTES", "SIZE", "STREAMS", "CORRUPT")
	for _, s := range segments {
		t.row(fmt.Sprintf("%016x", s.ID), s.State, s.First, s.Next, s.Used, s.Size, s.Streams, s.Corrupt)
	}
	if err := t.write(sh.out, ""); err != nil {
		return err
	}
	t = &table{}
	t.row("STREAM", "CHAIN", "FIRST", "LAST", "RECORDS", "BYTES", "POSITION", "GAPS")
	for _, s := range streams {
		for _, c := range s.Chains {
			t.row(s.Stream, c.Chain, c.First, c.Last, c.Records, c.Bytes, c.Pos, c.Gaps)
		}
	}
	if err := t.write(sh.out, ""); err != nil {
		return err
	}
	return drawAside(sh.out, aside)
}

// listedLog is a log as JSON.
type listedLog struct {
	Disk     string            `json:"disk"`
	Owner    wal.Owner         `json:"owner"`
	Segments []wal.SegmentInfo `json:"segments"`
	Streams  []wal.StreamInfo  `json:"streams"`
	Recovery *wal.Recovery     `json:"recovery"`
	Aside    []wal.AsideCopy   `json:"aside"`
}

// drawAside lists the copies of what could not be read; nothing when there are none.
func drawAside(w io.Writer, aside []wal.AsideCopy) error {
	if len(aside) == 0 {
		return nil
	}
	t := &table{}
	t.row("COPY", "BYTES", "WRITTEN", "KEPT")
	total := int64(0)
	for _, c := range aside {
		kept := "until --wal-aside-age or --wal-aside-limit"
		if c.Held {
			kept = "until its records are decided about"
		}
		t.row(c.File, c.Bytes, instant(c.Modified.UnixMilli()), kept)
		total += c.Bytes
	}
	if err := t.write(w, ""); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d bytes of unreadable parts in %s\n", total, counted(len(aside), "file"))
	return err
}

type dumpFilter struct {
	stream string
	from   uint64
	limit  int
	data   bool
}

// dumped is a record as JSON.
type dumped struct {
	Index  uint64    `json:"index"`
	Stream string    `json:"stream"`
	Chain  string    `json:"chain"`
	Place  wal.Place `json:"place"`
	Pos    int64     `json:"pos"`
	Bytes  int       `json:"bytes"`
	Data   string    `json:"data,omitempty"` // base64
}

func dumpLog(ctx context.Context, sh *shell, dir string, want dumpFilter) error {
	v, _, err := inspectLog(dir)
	if err != nil {
		return err
	}
	defer v.Close()
	r := v.Reader(want.from)
	if want.stream != "" {
		r = v.StreamReader([]byte(want.stream), want.from)
	}
	defer r.Close()
	p := dumpPrinter{sh: sh, data: want.data}
	corrupt, err := p.dump(ctx, r, want.limit)
	if err == nil && sh.json {
		err = p.list.end()
	}
	if err != nil {
		return err
	}
	return corruption(corrupt)
}

// dumpPrinter prints records and what cannot be read, as lines or as the elements of one JSON array.
type dumpPrinter struct {
	sh   *shell
	data bool
	list jsonArray
}

// dump prints at most limit records, 0 for all, and returns how many ranges cannot be read.
func (p *dumpPrinter) dump(ctx context.Context, r *wal.Reader, limit int) (corrupt int, err error) {
	p.list.w = p.sh.out
	for n := 0; limit == 0 || n < limit; {
		if err := ctx.Err(); err != nil {
			return corrupt, err
		}
		rec, err := r.Next()
		var bad *wal.CorruptError
		switch {
		case errors.Is(err, io.EOF):
			return corrupt, nil
		case errors.As(err, &bad):
			corrupt++
			err = p.corrupt(bad.Range)
			r.Skip()
		case err == nil:
			n++
			err = p.record(&rec)
		}
		if err != nil {
			return corrupt, err
		}
	}
	return corrupt, nil
}

func (p *dumpPrinter) record(rec *wal.Record) error {
	d := dumped{Index: rec.Index, Stream: string(rec.Stream), Chain: string(rec.Chain), Place: rec.Place, Pos: rec.Pos, Bytes: len(rec.Data)}
	if p.data {
		d.Data = base64.StdEncoding.EncodeToString(rec.Data)
	}
	if p.sh.json {
		return p.list.add(d)
	}
	_, err := fmt.Fprintf(p.sh.out, "%d  %s  %s  %s  position %d  %d bytes", d.Index, d.Stream, d.Chain, d.Place, d.Pos, d.Bytes)
	if err == nil && p.data {
		_, err = fmt.Fprintf(p.sh.out, "  %s", d.Data)
	}
	if err == nil {
		_, err = fmt.Fprintln(p.sh.out)
	}
	return err
}

func (p *dumpPrinter) corrupt(r wal.Range) error {
	if p.sh.json {
		return p.list.add(map[string]any{"corrupt": r})
	}
	_, err := fmt.Fprintf(p.sh.out, "CORRUPT %s\n", r)
	return err
}

func corruption(ranges int) error {
	if ranges == 0 {
		return nil
	}
	return incompletef("%s of the log cannot be read", counted(ranges, "range"))
}

func verifyLog(ctx context.Context, sh *shell, dir string) error {
	v, rep, err := inspectLog(dir)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	if sh.json {
		err = printJSON(sh.out, rep)
	} else {
		err = drawRecovery(sh.out, rep)
	}
	if err != nil {
		return err
	}
	return corruption(len(rep.Corrupt))
}

func drawRecovery(w io.Writer, rep *wal.Recovery) error {
	fmt.Fprintf(w, "%s with %s, indexes %d to %d, %d bytes read\n",
		counted(rep.Segments, "segment"), counted(rep.Records, "record"), rep.First, rep.Next-1, rep.Bytes)
	for _, r := range rep.Corrupt {
		fmt.Fprintf(w, "CORRUPT %s\n", r)
	}
	for _, r := range rep.Headers {
		fmt.Fprintf(w, "DAMAGED %s\n", r)
	}
	if t := rep.Torn; t != nil {
		fmt.Fprintf(w, "TORN    segment %016x from %d: a write that was never acknowledged, %d readable frames in it\n", t.Segment, t.Offset, t.Intact)
	}
	if len(rep.Corrupt) == 0 && len(rep.Headers) == 0 {
		_, err := fmt.Fprintln(w, "everything acknowledged can be read")
		return err
	}
	return nil
}

func trimLog(sh *shell, dir, stream string, before uint64) error {
	if before == 0 {
		return usagef("--before is missing; millrace wal ls shows the indexes")
	}
	v, _, err := inspectLog(dir)
	if err != nil {
		return err
	}
	cfg := wal.Config{Dir: dir, Worker: "millrace wal trim"}
	segments := v.Segments()
	if n := len(segments); n > 0 {
		cfg.SegmentSize = segments[n-1].Size
	}
	if err := v.Close(); err != nil {
		return err
	}
	l, _, err := wal.Open(cfg)
	if err != nil {
		return err
	}
	if stream == "" {
		l.Trim(before)
	} else {
		l.Release([]byte(stream), before)
	}
	left := l.Stats()
	if err := l.Close(); err != nil {
		return err
	}
	if sh.json {
		return printJSON(sh.out, map[string]any{"segments": left.Segments, "segmentsBefore": len(segments), "bytes": left.Used, "first": left.First})
	}
	_, err = fmt.Fprintf(sh.out, "%s of %d left, %d bytes, first index %d\n", counted(left.Segments, "segment"), len(segments), left.Used, left.First)
	return err
}
