package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"millrace/pipeline/agg"
	"millrace/pipeline/event"
	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
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
	merged, err := newMerger(s)
	if err != nil {
		return nil, err
	}
	for p, state := range lanes {
		state.Snapshot(&c, lane.Control{SealBefore: window.NoTime, DropBefore: window.NoTime, IdleAt: store.NotIdle})
		merged.take(int32(p), c.Calls)
		out.counters.Add(state.Counters())
		out.refuse(c.Side)
	}
	if out.rows, out.windows, err = merged.rows(); err != nil {
		return nil, err
	}
	return out, nil
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

// merger merges the entries of lanes into rows, as a close does.
type merger struct {
	spec   *spec.Spec
	plan   *window.Plan
	layout *agg.Layout
	slices map[store.SliceID][]partial
}

// partial is one entry of one lane.
type partial struct {
	lane       int32
	key, entry string
}

func newMerger(s *spec.Spec) (*merger, error) {
	plan, err := window.NewPlan(s)
	if err != nil {
		return nil, err
	}
	layout, err := agg.NewLayout(s)
	if err != nil {
		return nil, err
	}
	return &merger{spec: s, plan: plan, layout: layout, slices: make(map[store.SliceID][]partial)}, nil
}

// take copies what a lane would write.
func (m *merger) take(lane int32, calls []store.Call) {
	for _, call := range calls {
		for _, write := range call.Writes {
			for i := 0; i+1 < len(write.Fields); i += 2 {
				m.slices[write.Slice] = append(m.slices[write.Slice],
					partial{lane, string([]byte(write.Fields[i])), string([]byte(write.Fields[i+1]))})
			}
		}
	}
}

// rows renders every window that has entries.
func (m *merger) rows() (rows []ledger.ResultRow, windows int, err error) {
	refs := map[window.Ref]bool{}
	for id := range m.slices {
		for _, ref := range m.plan.WindowsOf(id.Start) {
			refs[ref] = true
		}
	}
	table := m.layout.NewTable()
	for ref := range refs {
		table.Reset()
		for _, slice := range m.plan.SlicesOf(ref) {
			for gen := 0; gen <= slice.MaxGen; gen++ {
				for _, p := range m.slices[store.SliceID{Width: m.plan.Width, Start: slice.Start, Gen: gen}] {
					if err := table.MergeEntry([]byte(p.key), []byte(p.entry), p.lane); err != nil {
						return nil, 0, err
					}
				}
			}
		}
		if table.Len() > 0 {
			windows++
		}
		for row := range uint32(table.Len()) {
			key, err := event.KeyJSON(m.spec, table.Key(row))
			if err != nil {
				return nil, 0, err
			}
			rows = append(rows, ledger.ResultRow{
				Pipeline: m.spec.Name, Window: m.spec.Windows[ref.Window].Name, Start: ref.Start, End: m.plan.End(ref),
				Key: key, Revision: 1, Values: table.AppendValues(nil, row), Overflow: table.Overflow(row),
			})
		}
	}
	sortRows(rows)
	return rows, windows, nil
}
