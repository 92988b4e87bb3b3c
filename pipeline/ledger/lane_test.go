package ledger

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
)

// topics is a Log: the records of each partition of each topic.
type topics map[string][][]source.Record

func (k topics) Partitions(_ context.Context, topic string) ([]int32, error) {
	if k[topic] == nil {
		return nil, source.ErrUnknownTopic
	}
	all := make([]int32, len(k[topic]))
	for i := range all {
		all[i] = int32(i)
	}
	return all, nil
}

func (k topics) ReadCommitted(_ context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	records := k[tp.Topic][tp.Partition]
	for i := from; i < int64(len(records)); i++ {
		r := records[i]
		r.Offset = i
		if err := fn(r); err != nil {
			return i, err
		}
	}
	return int64(len(records)), nil
}

func (k topics) write(t *testing.T, topic string, partition int, key []byte, value any) {
	t.Helper()
	for len(k[topic]) <= partition {
		k[topic] = append(k[topic], nil)
	}
	r := source.Record{Key: key}
	if value != nil {
		text, err := json.Marshal(value)
		require.NoError(t, err)
		r.Value = text
	}
	k[topic][partition] = append(k[topic][partition], r)
}

// Rows are given up in time, and a topic may have been made again: neither makes a lane of which something was published a
// new one.
func TestReadLane(t *testing.T) {
	row := func(edition int, start, offset int64, topicID string) *Row {
		return &Row{
			Version: RowVersion, Pipeline: "p", Window: "w", Start: start, End: start + 1000, Edition: edition, Revision: 1,
			Lanes: []Cover{{Topic: "in", Partition: 2, Offset: offset, TopicID: topicID}},
		}
	}
	floor := func(edition, ended int, offset int64, topicID string) *Floor {
		return &Floor{
			Pipeline: "p", Window: "w", Edition: edition, Ended: ended,
			Lanes: []FloorLane{{Topic: "in", Partition: 2, Offset: offset, TopicID: topicID}},
		}
	}
	ended := &Ended{Pipeline: "p", Edition: 1}
	type record struct {
		key   []byte
		value any
	}
	rows := func(list ...*Row) (records []record) {
		for _, r := range list {
			records = append(records, record{r.ID().Key(), r})
		}
		return records
	}
	for _, tt := range []struct {
		name    string
		records []record
		want    LaneRecord
	}{
		{"nothing", nil, LaneRecord{}},
		{"rows", rows(row(1, 0, 40, "id"), row(1, 1000, 50, "id")), LaneRecord{Windows: 2, Offset: 50}},
		{"rows of version 1", rows(row(1, 0, 40, "")), LaneRecord{Windows: 1, Offset: 40}},
		{"another log", rows(row(1, 0, 40, "old")), LaneRecord{}},
		{"a longer log before this one", rows(row(1, 0, 4000, "old"), row(1, 1000, 50, "id")), LaneRecord{Windows: 1, Offset: 50}},
		{"an edition that has ended", append(rows(row(1, 0, 40, "id")), record{ended.Key(), ended}), LaneRecord{}},
		{"a row of it that moved", append([]record{{ended.Key(), ended}}, rows(row(1, 0, 40, "id"))...), LaneRecord{}},
		{"a floor", []record{{floor(1, 0, 0, "").Key(), floor(1, 0, 60, "id")}}, LaneRecord{Offset: 60}},
		{"a floor of another log", []record{{floor(1, 0, 0, "").Key(), floor(1, 0, 60, "old")}}, LaneRecord{}},
		{"a floor of an edition that has ended", []record{
			{floor(1, 0, 0, "").Key(), floor(1, 1, 60, "id")}, {floor(2, 0, 0, "").Key(), floor(2, 1, 30, "id")},
		}, LaneRecord{Offset: 30}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := topics{Topic("p"): make([][]source.Record, 1)}
			for _, r := range tt.records {
				k.write(t, Topic("p"), 0, r.key, r.value)
			}
			got, err := ReadLane(t.Context(), k, "p", "in", 2, "id")
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
	got, err := ReadLane(t.Context(), topics{}, "p", "in", 2, "id")
	require.NoError(t, err)
	require.Equal(t, LaneRecord{}, got, "a pipeline without a ledger")
}

// A key, or a window, that only an edition before the latest had is none of its results.
func TestResultsAreOfOneEdition(t *testing.T) {
	for _, order := range [][]int{{1, 2}, {2, 1}} {
		k := topics{}
		for partition, edition := range order {
			for _, key := range []string{`{"k":"both"}`, `{"k":"first"}`}[:3-edition] {
				k.write(t, "out", partition, []byte(key), ResultRow{
					Pipeline: "p", Window: "w", Edition: edition, Revision: 1, Key: []byte(key), Values: []byte(`{}`),
				})
			}
		}
		rows, err := Results(t.Context(), k, "out", "p")
		require.NoError(t, err)
		require.Len(t, rows, 1)
		require.Equal(t, 2, rows[0].Edition)
		require.JSONEq(t, `{"k":"both"}`, string(rows[0].Key))
	}
}
