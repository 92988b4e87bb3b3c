package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/pipeline/lane/fold"
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
partition's own order, as it would in Kafka. The first records that are invalid, late or too far ahead are named with
their line and the reason; with --json they go to standard error, one object a line.`,
		Example: "  millrace spec preview flights.yaml --feed flights-2001-01.jsonl.gz\n" +
			"  millrace spec preview flights.yaml --feed sample.jsonl --json | jq '.[].values'",
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if feed == "" {
				return usagef("--feed is missing; usage: %s", cmd.UseLine())
			}
			if partitions < 1 || partitions > 10_000 {
				return usagef("--partitions is %d; want 1 to 10000", partitions)
			}
			if err := atLeast("rows", rows, 0); err != nil {
				return err
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
				if err := p.writeRefused(sh.err); err != nil {
					return err
				}
				return printList(sh.out, p.rows)
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
	refused  []refusedRecord // the first of each kind, by line
	reasons  map[string]int64
}

// refusedRecord is a record of the sample that was set aside.
type refusedRecord struct {
	Line      int64  `json:"line"` // of the sample, from 1
	Partition int64  `json:"partition"`
	Offset    int64  `json:"offset"`
	Reason    string `json:"reason"`
	Detail    string `json:"detail,omitempty"`
	Value     string `json:"value"` // its beginning
}

// String renders a record that was set aside as one line for people.
func (r refusedRecord) String() string {
	text := fmt.Sprintf("line %d: %s", r.Line, r.Reason)
	if r.Detail != "" {
		text += " (" + r.Detail + ")"
	}
	return text + ": " + r.Value
}

// preview folds the sample in memory.
func preview(ctx context.Context, s *spec.Spec, feed string, partitions int) (*previewed, error) {
	in, err := openLines(feed)
	if err != nil {
		return nil, err
	}
	defer closing(in)
	lanes := make([]*fold.State, partitions)
	batches := make([]source.Batch, partitions)
	shown := sinksForPreview(*s)
	for p := range lanes {
		program, err := fold.Compile(&shown)
		if err != nil {
			return nil, err
		}
		id := store.LaneID{Pipeline: s.Name, Topic: s.Source.Topics[0], Partition: int32(p)}
		lanes[p] = fold.NewState(program, id, "", 0, store.Cursor{})
	}
	now := time.Now().UnixMilli()
	var c fold.Commit
	out := &previewed{spec: s, reasons: make(map[string]int64)}
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
	memory := newMemoryLanes()
	for p, state := range lanes {
		state.Snapshot(&c, fold.Control{SealBefore: window.NoTime, DropBefore: window.NoTime, IdleAt: store.NotIdle, Pages: true})
		if err := memory.add(store.LaneID{Pipeline: s.Name, Topic: s.Source.Topics[0], Partition: int32(p)}, c.Calls); err != nil {
			return nil, err
		}
		out.counters.Add(state.Counters())
		for _, r := range state.Refused() {
			out.reasons[r.Reason] += r.Count
		}
		if err := out.refuse(c.Side, int64(partitions)); err != nil {
			return nil, err
		}
	}
	out.firstRefused()
	return out, out.merge(ctx, memory)
}

// sinksForPreview gives a spec the topics without which its lanes only count late and invalid records.
func sinksForPreview(s spec.Spec) spec.Spec {
	for _, sink := range []*spec.Sink{&s.Late, &s.DeadLetter} {
		if sink.Kafka == nil {
			sink.Kafka = &spec.KafkaSink{Topic: "preview"}
		}
	}
	return s
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

// mostRefused is how many records of a kind are named, and mostValue how many bytes of each are shown.
const mostRefused, mostValue = 5, 120

// refuse notes what one lane has set aside, in its order.
func (p *previewed) refuse(side []source.SideRecord, partitions int64) error {
	seen := make(map[string]int)
	for _, r := range side {
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		reason := headers["mr-reason"]
		if seen[reason]++; seen[reason] > mostRefused {
			continue
		}
		partition, err := strconv.ParseInt(headers["mr-partition"], 10, 64)
		if err != nil {
			return fmt.Errorf("partition of a refused record: %w", err)
		}
		offset, err := strconv.ParseInt(headers["mr-offset"], 10, 64)
		if err != nil {
			return fmt.Errorf("offset of a refused record: %w", err)
		}
		value := string(r.Value)
		if len(value) > mostValue {
			value = strings.ToValidUTF8(value[:mostValue], "") + "..."
		}
		detail := cmp.Or(headers["mr-detail"], headers["mr-windows"])
		p.refused = append(p.refused, refusedRecord{
			Line: offset*partitions + partition + 1, Partition: partition, Offset: offset, Reason: reason,
			Detail: strings.TrimPrefix(strings.TrimPrefix(detail, reason), ": "), Value: value,
		})
	}
	return nil
}

// firstRefused leaves the first records of each reason, by line.
func (p *previewed) firstRefused() {
	slices.SortFunc(p.refused, func(a, b refusedRecord) int { return cmp.Compare(a.Line, b.Line) })
	seen := make(map[string]int)
	p.refused = slices.DeleteFunc(p.refused, func(r refusedRecord) bool {
		seen[r.Reason]++
		return seen[r.Reason] > mostRefused
	})
}

// writeRefused writes one JSON object a line.
func (p *previewed) writeRefused(w io.Writer) error {
	for _, r := range p.refused {
		if err := printJSON(w, r); err != nil {
			return err
		}
	}
	return nil
}

// reasonsText lists why records were refused, the most frequent reason first.
func reasonsText(reasons map[string]int64) string {
	names := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), strings.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", reasons[name], name)
	}
	return strings.Join(names, ", ")
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
	if err == nil && len(p.reasons) > 0 {
		_, err = fmt.Fprintf(w, "refused: %s\n", reasonsText(p.reasons))
	}
	for _, record := range p.refused {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s\n", record)
		}
	}
	return err
}
