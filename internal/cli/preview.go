package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

func previewCommand(sh *shell) *cobra.Command {
	var feed string
	var partitions, rows int
	cmd := &cobra.Command{
		Use:   "preview FILE --feed SAMPLE[.gz]",
		Short: "Show the windows a sample would give, with no server at all",
		Long: `Preview runs the sample through the same lanes a pipeline has, in memory, spread round-robin over the
partitions, and shows what would be published if the pipeline were drained behind it: what is late follows from each
partition's own order, as it would in Kafka.`,
		Example: "  millrace spec preview flights.yaml --feed flights-2001-01.jsonl.gz\n  millrace spec preview flights.yaml --feed sample.jsonl --json | jq .values",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if feed == "" {
				return usagef("--feed is missing; usage: %s", cmd.UseLine())
			}
			if partitions < 1 || partitions > 10_000 {
				return usagef("--partitions is %d; want 1 to 10000", partitions)
			}
			s, err := readSpec(args[0])
			if err != nil {
				return err
			}
			p, err := preview(cmd.Context(), s, feed, partitions)
			if err != nil {
				return err
			}
			if sh.json {
				return writeRows(sh.out, p.rows)
			}
			return p.draw(sh.out, rows)
		},
	}
	cmd.Flags().StringVar(&feed, "feed", "", "sample, one JSON record a line, plain or .gz; - is standard input (required)")
	cmd.Flags().IntVar(&partitions, "partitions", defaultPartitions, "partitions the sample is spread over")
	cmd.Flags().IntVar(&rows, "rows", 20, "rows to show; --json prints all")
	return cmd
}

// previewed is what a sample gives.
type previewed struct {
	spec     *spec.Spec
	rows     []ledger.ResultRow // by window, start, key
	counters store.Counters
	windows  int
	refused  []string // the first reasons for which records were not folded
}

// preview folds the sample in memory.
func preview(ctx context.Context, s *spec.Spec, feed string, partitions int) (*previewed, error) {
	in, err := openLines(feed)
	if err != nil {
		return nil, err
	}
	defer closing(in)
	lanes := make([]*lane.State, partitions)
	batches := make([]source.Batch, partitions)
	for p := range lanes {
		program, err := lane.Compile(s)
		if err != nil {
			return nil, err
		}
		id := store.LaneID{Pipeline: s.Name, Topic: s.Source.Topics[0], Partition: int32(p)}
		lanes[p] = lane.NewState(program, id, "", 0, store.Cursor{})
	}
	now := time.Now().UnixMilli()
	var c lane.Commit
	out := &previewed{spec: s}
	for n := int64(0); ; n++ {
		line, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		p := n % int64(partitions)
		b := &batches[p]
		offset := n / int64(partitions)
		b.Records = append(b.Records[:0], source.Record{Offset: offset, Timestamp: now, Value: line})
		b.Next = offset + 1
		lanes[p].Fold(b)
	}
	memory := &memoryLanes{entries: make(map[sliceOf][]memoryEntry)}
	for p, state := range lanes {
		state.Snapshot(&c, lane.Control{SealBefore: window.NoTime, DropBefore: window.NoTime, IdleAt: store.NotIdle})
		memory.add(store.LaneID{Pipeline: s.Name, Topic: s.Source.Topics[0], Partition: int32(p)}, c.Calls)
		out.counters.Add(state.Counters())
		out.refuse(c.Side)
	}
	return out, out.merge(ctx, memory)
}

// merge renders every window that the lanes have events of, as a close does.
func (p *previewed) merge(ctx context.Context, memory *memoryLanes) error {
	plan, err := window.NewPlan(p.spec)
	if err != nil {
		return err
	}
	merger, err := merge.New(merge.Config{Spec: p.spec, Plan: plan, Reader: memory, Parallel: 1, ReadAhead: 1})
	if err != nil {
		return err
	}
	view := memory.view()
	for _, ref := range view.Open(plan) {
		p.windows++
		row := ledger.ResultRow{
			Pipeline: p.spec.Name, Window: p.spec.Windows[ref.Window].Name, Start: ref.Start, End: plan.End(ref), Revision: 1,
		}
		_, _, err := merger.Window(ctx, view, ref, true, func(c ledger.Content) error {
			row.Key, row.Values, row.Overflow = slices.Clone(c.Key), slices.Clone(c.Values), c.Overflow
			p.rows = append(p.rows, row)
			return nil
		})
		if err != nil {
			return err
		}
	}
	sortRows(p.rows)
	return nil
}

// refuse keeps the first few reasons for which records are set aside.
func (p *previewed) refuse(side []source.SideRecord) {
	const most = 5
	for _, r := range side {
		if len(p.refused) == most {
			return
		}
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		value := string(r.Value)
		if len(value) > 120 {
			value = value[:120] + "..."
		}
		detail := headers["mr-detail"]
		if detail == "" {
			detail = headers["mr-windows"]
		}
		p.refused = append(p.refused, fmt.Sprintf("%s (%s): %s", headers["mr-reason"], detail, value))
	}
}

func (p *previewed) draw(w io.Writer, limit int) error {
	shown := p.rows
	if len(shown) > limit {
		shown = shown[:limit]
	}
	if err := drawRows(w, shown); err != nil {
		return err
	}
	if more := len(p.rows) - len(shown); more > 0 {
		fmt.Fprintf(w, "... and %s more\n", counted(more, "row"))
	}
	_, err := fmt.Fprintf(w, "%s in %s; %s\n", counted(len(p.rows), "row"), counted(p.windows, "window"), sentence(p.counters))
	for _, reason := range p.refused {
		if err == nil {
			_, err = fmt.Fprintln(w, "  "+reason)
		}
	}
	return err
}
