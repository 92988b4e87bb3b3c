package cli

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
)

// trimmed is a Kafka whose result topic begins at start by now.
type trimmed struct {
	*publishtest.Kafka
	start int64
}

func (k trimmed) Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends := make(map[source.TopicPartition]source.Ends)
	for _, tp := range tps {
		ends[tp] = source.Ends{Start: k.start, End: 100, HighWatermark: 100}
	}
	return ends, nil
}

// What is missing of a window has expired only when the topic begins behind where the rows stood.
func TestMissingRowsAreExplained(t *testing.T) {
	for name, c := range map[string]struct {
		start int64
		id    string
		links bool
		want  string
		never string
	}{
		"expired":      {8, "one", true, "the rest has expired: partition 1 begins at offset 8 by now, and the rows stood from 7 on", "disagree"},
		"still there":  {7, "one", true, "ledger and contents disagree", "expired"},
		"made again":   {0, "two", true, "the topic was made again since", "expired"},
		"an older row": {8, "one", false, "ledger and contents disagree", "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			k := trimmed{publishtest.New(), c.start}
			k.AddTopic("orders.windows", 2)
			k.SetTopicID("orders.windows", c.id)
			k.AddTopic(ledger.Topic("orders"), ledger.DefaultSlots)
			row := &ledger.Row{
				Version: ledger.RowVersion, Pipeline: "orders", Window: "hourly", Start: 3_600_000, End: 7_200_000, Edition: ledger.Edition,
				Revision: 2, Final: true, Keys: 3, Events: 5, Checksum: "00", Algorithm: ledger.ChecksumAlgorithm, PublishedTo: "orders.windows",
			}
			if c.links {
				row.Links = []ledger.Link{{Revision: 2, TopicID: "one", Whole: true, Partitions: []ledger.Span{{Partition: 1, First: 7, Last: 9}}}}
			}
			text, err := json.Marshal(row)
			require.NoError(t, err)
			id := row.ID()
			k.Append(source.TopicPartition{Topic: "orders.ledger", Partition: int32(id.Slot(ledger.DefaultSlots))},
				source.Record{Key: id.Key(), Value: text})
			err = getWindow(t.Context(), &shell{out: io.Discard}, k, rowFilter{pipeline: "orders", window: "hourly", start: 3_600_000})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), c.never)
			require.ErrorContains(t, err, "the ledger names 3 keys")
		})
	}
}

func TestStatusShowsWhatIsKept(t *testing.T) {
	at := time.Date(2001, 1, 2, 3, 4, 5, 6, time.UTC)
	for want, v := range map[string]statusView{
		"kept: 350 ledger rows, 1 window with contents, the oldest final since 2001-01-01T00:00:00Z, sweep backlog 12 (reported at " +
			"2001-01-02T03:04:05Z)\n": {
			Kept: &report.Kept{Rows: 350, Results: 1, Oldest: 978307200000, Backlog: 12}, KeptAt: &at,
		},
		"kept: 1 ledger row, 0 windows with contents, sweep backlog 0\n":       {Kept: &report.Kept{Rows: 1}},
		"kept: no ledger row counted yet (reported at 2001-01-02T03:04:05Z)\n": {Kept: &report.Kept{}, KeptAt: &at},
		"kept: not counted yet\n": {askedKept: true},
	} {
		var out strings.Builder
		require.NoError(t, drawStatus(&out, v))
		require.Contains(t, out.String(), "\n"+want)
	}
	var out strings.Builder
	require.NoError(t, drawStatus(&out, statusView{Pipeline: "orders", State: "running"}))
	require.NotContains(t, out.String(), "kept", "nobody has said")
}
