package rollup

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/event"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// generated are the contents of minutes with the same keys in each.
type generated struct{ rows []ledger.Content }

func (g *generated) ReadStates(context.Context, *ledger.Row) ([]ledger.Content, error) {
	return g.rows, nil
}
func (g *generated) EachState(_ context.Context, _ *ledger.Row, fn func(key, state []byte) error) error {
	for i := range g.rows {
		if err := fn(g.rows[i].Key, g.rows[i].State); err != nil {
			return err
		}
	}
	return nil
}

func (g *generated) Read(context.Context, *ledger.Row) ([]ledger.Content, error) { return g.rows, nil }

// discarding publishes nothing, and reads all that it is given.
type discarding struct{ keys int64 }

func (d *discarding) Correct(ctx context.Context, c *publish.Correction) (publish.Corrected, error) {
	row := *c.Row
	row.Revision = 1
	var sum ledger.Checksum
	events, _, err := c.Content.Whole(ctx, func(rows *ledger.Rows) error { sum.AddDigest(rows.Digests[0]); return nil })
	row.Keys, row.Events, row.Checksum = sum.Rows(), events, sum.String()
	d.keys += row.Keys
	return publish.Corrected{Verdict: publish.VerdictPublished, Row: &row}, err
}

func (d *discarding) AmendLatest(context.Context, ledger.WindowID, int, string, func(*ledger.Row) bool) (publish.Corrected, error) {
	return publish.Corrected{Verdict: publish.VerdictMoved}, nil
}

// BenchmarkHour merges the 60 minutes of an hour and renders it: without Kafka, and without the decoding of its records.
func BenchmarkHour(b *testing.B) {
	s, err := spec.Parse("a.yaml", []byte(`
name: p
source: {topics: [in]}
event: {key: [k], time: {field: t, unit: ms}}
aggregates:
  n:   {func: count}
  sum: {func: sum, field: v, type: int}
  avg: {func: avg, field: w}
  max: {func: max, field: w}
windows: [{name: minutely, size: 1m}]
results: {kafka: {topic: out}}
rollups: [{name: hours, from: minutely, calendar: hour}, {name: days, from: hours, calendar: day}]
`))
	require.NoError(b, err)
	layout, err := agg.NewLayout(s)
	require.NoError(b, err)
	for _, keys := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			table := layout.NewTable()
			g := &generated{rows: make([]ledger.Content, keys)}
			for i := range g.rows {
				key := fmt.Appendf(nil, `{"k":"customer-%07d"}`, i)
				row := table.Row(key)
				table.Add(row, &event.Event{Key: key, Time: int64(i), Values: []event.Value{
					{Kind: event.Int, Int: int64(i)}, {Kind: event.Float, Float: float64(i) / 7},
				}}, int64(i))
				g.rows[i] = ledger.Content{Key: key, State: table.AppendMerged(nil, row)}
			}
			desk := &discarding{}
			r, err := New(Config{Spec: s, Slots: 1, Log: &source.Cluster{}, Contents: g, Desk: desk, Now: time.Now})
			require.NoError(b, err)
			books := &books{slots: 1, rows: map[ledger.WindowID]*ledger.Row{}, ended: map[int32]int{}, rolled: map[string]int64{},
				floors: map[slotFamily]int64{{0, "minutely"}: 60 * 60_000}}
			for m := range int64(60) {
				row := &ledger.Row{
					Window: "minutely", Start: m * 60_000, End: (m + 1) * 60_000, Revision: 1, Final: true, Keys: int64(keys), Events: int64(keys),
				}
				books.rows[row.ID()] = row
			}
			b.ReportAllocs()
			for b.Loop() {
				delete(books.rows, ledger.WindowID{Window: "hours"})
				run := &run{Runner: r, upper: 60 * 60_000, families: make([]report.RolledFamily, 2), published: map[ledger.WindowID]bool{}}
				require.NoError(b, run.rollUp(b.Context(), books))
				require.Equal(b, 1, run.families[0].Published)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/60/float64(keys), "ns/state")
			b.ReportMetric(float64(r.table.Bytes())/float64(keys), "table-B/key")
		})
	}
}
