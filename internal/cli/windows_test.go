package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// topics are resultTopics of one partition. What is asked only about rows that are missing is left out.
type topics map[string][]source.Record

func (k topics) Topic(context.Context, string) (source.Topic, error) {
	return source.Topic{}, source.ErrUnknownTopic
}

func (k topics) Ends(context.Context, ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	return nil, source.ErrUnknownTopic
}

func (k topics) Partitions(context.Context, string) ([]int32, error) { return []int32{0}, nil }

func (k topics) ReadCommitted(_ context.Context, tp source.TopicPartition, _ int64, fn func(source.Record) error) (int64, error) {
	for i, r := range k[tp.Topic] {
		r.Offset = int64(i)
		if err := fn(r); err != nil {
			return int64(i), err
		}
	}
	return int64(len(k[tp.Topic])), nil
}

// A removal without topics leaves result rows of the edition that it ended. Keys that only that one had are not the window's.
func TestWindowsGetShowsOneEdition(t *testing.T) {
	old := []ledger.ResultRow{
		{Pipeline: "p", Window: "w", Edition: 1, Revision: 1, Key: []byte(`{"k":"first"}`), Values: []byte(`{"n":1}`)},
		{Pipeline: "p", Window: "w", Edition: 1, Revision: 2, Key: []byte(`{"k":"both"}`), Values: []byte(`{"n":2}`)},
	}
	now := ledger.ResultRow{Pipeline: "p", Window: "w", Edition: 2, Revision: 1, Key: []byte(`{"k":"both"}`), Values: []byte(`{"n":3}`)}
	var sum ledger.Checksum
	sum.Add(now)
	row := ledger.Row{
		Version: ledger.RowVersion, Pipeline: "p", Window: "w", Edition: 2, Revision: 1, Keys: 1, Checksum: sum.String(), PublishedTo: "out",
	}
	text, err := json.Marshal(row)
	require.NoError(t, err)
	k := topics{ledger.Topic("p"): {{Key: row.ID().Key(), Value: text}}}
	for _, r := range append(old, now) {
		value, err := json.Marshal(r)
		require.NoError(t, err)
		k["out"] = append(k["out"], source.Record{Key: r.Key, Value: value})
	}
	for _, revision := range []int{0, 1} {
		var out bytes.Buffer
		sh := &shell{out: &out, err: io.Discard, json: true}
		require.NoError(t, getWindow(t.Context(), sh, k, rowFilter{pipeline: "p", window: "w", revision: revision}))
		require.Equal(t, "["+string(k["out"][2].Value)+"\n]\n", out.String(), "revision %d", revision)
	}
	sh := &shell{out: io.Discard, err: io.Discard, json: true}
	require.ErrorContains(t, getWindow(t.Context(), sh, k, rowFilter{pipeline: "p", window: "w", revision: 2}), "has no row of window")
}
