package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"millrace/internal/app"
	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/verify"
)

func watermarkCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watermark",
		Short: "Take a watermark back that one record has moved too far",
	}
	job := resetJob{startJob: startJob{discard: true, wait: durationFlag(contract.DefaultRunningTimeout)}}
	reset := &cobra.Command{
		Use:   "reset NAME",
		Short: "Begin a new incarnation behind a record that has moved the watermark, after showing what was falsely final",
		Long: `Reset is the way back after a record from the far future has moved the watermark: what came after it was late, and
windows became final without it. It reads the source topics from --from on, shows which windows are final without events
of theirs that stand there, asks, and begins a new incarnation of the stopped pipeline at --from, as start
--discard-state does: floors and final windows of the former one do not bind it, so those events count again, in a new
edition. What is published already stays in the topics.

Begin behind the record (an offset for every partition, as flights/0=17,flights/1=0), or give a spec with --spec that
refuses it: with max_jump, or with a filter of what is beyond its time. Stop the pipeline first.`,
		Example: "  millrace watermark reset flights --from flights/0=17,flights/1=0 --dry-run\n" +
			"  millrace watermark reset flights --from 2001-01-31T00:00:00Z --spec flights.yaml --yes",
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if job.from == "" {
				return usagef("--from is missing; usage: %s", cmd.UseLine())
			}
			job.pipeline = args[0]
			return resetWatermark(cmd.Context(), sh, job, cmd.InOrStdin())
		},
	}
	job.beginFlags(reset)
	reset.Flags().StringVar(&job.spec, "spec", "", "the pipeline's file, if it changes (default: what Temporal knows)")
	reset.Flags().BoolVar(&job.dryRun, "dry-run", false, "only show which windows are final without events of theirs")
	reset.Flags().Int64Var(&job.limit, "limit", 5_000_000, "records to read at most for what is shown")
	cmd.AddCommand(reset)
	return cmd
}

// resetJob is what `watermark reset` is asked for.
type resetJob struct {
	startJob
	pipeline, spec string
	dryRun         bool
	limit          int64
}

func resetWatermark(ctx context.Context, sh *shell, job resetJob, answers io.Reader) error {
	if !job.yes && !job.dryRun && !canAsk(answers, sh.err) {
		return usagef("watermark reset %s gives up state for good and there is no terminal to ask on: look with --dry-run, "+
			"then give --yes", job.pipeline)
	}
	if _, err := contract.ParseFrom(job.from); err != nil {
		return usagef("--from: %w", err)
	}
	s, tc, err := sh.findSpec(ctx, job.pipeline, job.spec)
	if tc != nil {
		tc.Close()
	}
	if err != nil {
		return err
	}
	in, req, err := job.begin(s)
	if err != nil {
		return err
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		if err := requireStopped(ctx, c, s.Name); err != nil {
			return err
		}
		found, err := findOvertaken(ctx, sh, s, *in.From, job.limit)
		if err != nil {
			return err
		}
		if job.dryRun {
			return sh.printOr(resetView(found), func() error { return drawOvertaken(sh.out, s.Name, job.from, found) })
		}
		if err := drawOvertaken(sh.err, s.Name, job.from, found); err != nil {
			return err
		}
		if !job.yes {
			fmt.Fprintf(sh.err, "Begin a new incarnation of %s at %s? Type the pipeline's name to go on: ", s.Name, job.from)
			if err := approveDiscard(ctx, sh, s.Name, answers); err != nil {
				return err
			}
		}
		return startAndTell(ctx, sh, c, s, in, req)
	})
}

// findOvertaken reads the source topics from a place on.
func findOvertaken(ctx context.Context, sh *shell, s *spec.Spec, from contract.From, limit int64) (*verify.Survey, error) {
	srv, err := sh.connectKafka(ctx)
	if err != nil {
		return nil, err
	}
	defer srv.Close()
	lanes, err := app.Locate(ctx, srv.cluster, s, from)
	if err != nil {
		return nil, reached(ctx, err)
	}
	offsets := make(map[source.TopicPartition]int64, len(lanes))
	for _, l := range lanes {
		offsets[source.TopicPartition{Topic: l.Topic, Partition: l.Partition}] = max(0, l.Offset)
	}
	found, err := verify.FindOvertaken(ctx, srv.cluster, s, offsets, limit)
	if err != nil {
		return nil, noLedger(s.Name, err)
	}
	return found, nil
}

type overtakenView struct {
	Windows []overtakenLine  `json:"windows"`
	Final   int              `json:"final_windows"`
	Records int64            `json:"records_read"`
	Cut     bool             `json:"cut"` // at --limit
	Floors  map[string]int64 `json:"floors_ms"`
}

type overtakenLine struct {
	Window  string `json:"window"`
	Start   int64  `json:"start_ms"`
	Events  int64  `json:"events"`
	Missing int64  `json:"missing_events"`
}

func resetView(s *verify.Survey) overtakenView {
	v := overtakenView{Final: s.Final, Records: s.Records, Cut: s.Cut, Floors: s.Floors}
	for _, w := range s.Windows {
		v.Windows = append(v.Windows, overtakenLine{w.Window, w.Start, w.Events, w.Missing})
	}
	return v
}

// shownOvertaken bounds the windows that a reset lists.
const shownOvertaken = 20

func drawOvertaken(w io.Writer, pipeline, from string, s *verify.Survey) error {
	var b strings.Builder
	missing := int64(0)
	for _, x := range s.Windows {
		missing += x.Missing
	}
	fmt.Fprintf(&b, "%s read from %s on", counted(s.Records, "record"), from)
	if s.Cut {
		b.WriteString(" (there are more: raise --limit to count them all)")
	}
	fmt.Fprintf(&b, "\nfinal in the ledger of pipeline %s: %s; final without events of theirs that stand in the log: %s, %s\n", pipeline,
		counted(s.Final, "window"), counted(len(s.Windows), "window"), counted(missing, "event"))
	for _, family := range slices.Sorted(maps.Keys(s.Floors)) {
		fmt.Fprintf(&b, "every window of %s that ends at or before %s is final, published or not\n", family, instant(s.Floors[family]))
	}
	t := &table{}
	if len(s.Windows) > 0 {
		t.row("WINDOW", "START", "END", "EVENTS", "MISSING")
	}
	for _, x := range s.Windows[:min(len(s.Windows), shownOvertaken)] {
		t.row(x.Window, instant(x.Start), instant(x.End), x.Events, x.Missing)
	}
	if err := t.write(&b, "  "); err != nil {
		return err
	}
	if more := len(s.Windows) - shownOvertaken; more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
