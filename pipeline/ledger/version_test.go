package ledger

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// lines reads a file of records as an earlier version of millrace wrote them.
func lines(t *testing.T, name string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
}

func TestRowsOfVersion1AreReadAndStayAsTheyAre(t *testing.T) {
	tp := source.TopicPartition{Topic: "flights.ledger"}
	var rows []Row
	for _, text := range lines(t, "testdata/rows-v1.jsonl") {
		rec, err := ParseRecord(tp, source.Record{Value: text})
		require.NoError(t, err)
		rows = append(rows, *rec.Row)
		again, err := json.Marshal(rec.Row)
		require.NoError(t, err)
		require.Equal(t, string(text), string(again))
	}
	require.Equal(t, Row{
		Version: 1, Edition: 1, Algorithm: ChecksumAlgorithm, Pipeline: "flights", Window: "hourly", Start: 978307200000,
		End: 978310800000, Revision: 2, Reason: ReasonFinal, Final: true, Exact: true, By: "worker-2",
		ClosedAt: 978314460000, Keys: 3, Events: 6, Checksum: "fedcba9876543210fedcba9876543210",
		PublishedTo: "flights.windows", Lanes: []Cover{
			{Topic: "flights", Offset: 40, LastOffset: 30, Folded: 6, Era: 978307299999, FirstOffset: -1},
			{Topic: "flights", Partition: 1, Offset: 7, LastOffset: -1, FirstOffset: -1},
		},
	}, rows[1])
	require.False(t, rows[2].Exact)
	require.Equal(t, int64(-1500), rows[2].Start)
}

func TestResultRowsOfVersion1AreReadAndStayAsTheyAre(t *testing.T) {
	for _, text := range lines(t, "testdata/results-v1.jsonl") {
		var row ResultRow
		require.NoError(t, json.Unmarshal(text, &row))
		again, err := row.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, string(text), string(again))
	}
}

// fullRow is a row with every field of version 2.
func fullRow() Row {
	return Row{
		Version: RowVersion, Pipeline: "flights", Window: "hourly", Start: 978307200000, End: 978310800000, Edition: Edition,
		Spec: "0011223344556677", Build: "v1.2.3 (abcdef)", Revision: 1, Reason: ReasonWatermark, Exact: true, By: "worker-1",
		ClosedAt: 978310860123, Keys: 2, Events: 5, Checksum: "0123456789abcdef0123456789abcdef", Algorithm: ChecksumAlgorithm,
		PublishedTo: "flights.windows",
		Links:       []Link{{Revision: 1, TopicID: "r", Whole: true, Partitions: []Span{{Partition: 2, First: 10, Last: 12}}}},
		Lanes: []Cover{
			{
				Topic: "flights", Offset: 12, LastOffset: 11, Folded: 5, Era: 3, TopicID: "t", FirstOffset: 4, Recountable: true,
				Basis: store.Basis{Known: true, Watermark: 978307200001, Sealed: store.NoTime, Counters: store.Counters{Read: 4, Folded: 4}},
				Seals: []store.Seal{{Offset: 6, Before: 978307200000}},
			},
			{Topic: "flights", Partition: 1, LastOffset: -1, FirstOffset: -1, Recountable: true},
		},
	}
}

// TestRowFormat2 holds the bytes: whoever reads the topic relies on them.
func TestRowFormat2(t *testing.T) {
	row := fullRow()
	text, err := json.Marshal(row)
	require.NoError(t, err)
	require.Equal(t, `{"version":2,"pipeline":"flights","window":"hourly","start":"2001-01-01T00:00:00Z","end":"2001-01-01T01:00:00Z",`+
		`"edition":1,"spec":"0011223344556677","build":"v1.2.3 (abcdef)","revision":1,"reason":"watermark","final":false,"exact":true,`+
		`"by":"worker-1","closed_at":"2001-01-01T01:01:00.123Z","keys":2,"events":5,"checksum":"0123456789abcdef0123456789abcdef",`+
		`"checksum_algorithm":"sha256-sum128","published_to":"flights.windows",`+
		`"links":[{"revision":1,"topic_id":"r","whole":true,"partitions":[{"partition":2,"first":10,"last":12}]}],`+
		`"lanes":[{"topic":"flights","partition":0,"offset":12,"last_offset":11,"folded":5,"era":3,"topic_id":"t","first_offset":4,`+
		`"basis":{"watermark_ms":978307200001,"counters":{"read":4,"invalid":0,"ahead":0,"filtered":0,"duplicate":0,"late":0,"folded":4}},`+
		`"seals":[{"offset":6,"before_ms":978307200000}],"recountable":true},`+
		`{"topic":"flights","partition":1,"offset":0,"last_offset":-1,"folded":0,"first_offset":-1,"recountable":true}]}`, string(text))
	var back Row
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, row, back)
}

func TestRecordsThatAreNoRows(t *testing.T) {
	tp := source.TopicPartition{Topic: "flights.ledger", Partition: 3}
	floor := Floor{Pipeline: "flights", Window: "hourly", Edition: 1, End: 978310800000, Spec: "0011223344556677", RaisedAt: 978310860000}
	text, err := json.Marshal(floor)
	require.NoError(t, err)
	require.Equal(t, `{"type":"floor","version":2,"pipeline":"flights","window":"hourly","edition":1,"floor":"2001-01-01T01:00:00Z",`+
		`"spec":"0011223344556677","raised_at":"2001-01-01T01:01:00Z"}`, string(text))
	require.Equal(t, `{"floor":"hourly","edition":1}`, string(floor.Key()))

	rec, err := ParseRecord(tp, source.Record{Offset: 7, Key: floor.Key(), Value: text})
	require.NoError(t, err)
	require.Equal(t, Record{Type: TypeFloor, Floor: &floor, Partition: 3, Offset: 7}, rec)

	id := WindowID{"hourly", 978307200000}
	rec, err = ParseRecord(tp, source.Record{Offset: 8, Key: id.Key()})
	require.NoError(t, err)
	require.Equal(t, Record{Tombstone: &id, Partition: 3, Offset: 8}, rec)
	rec, err = ParseRecord(tp, source.Record{Offset: 9, Key: floor.Key()})
	require.NoError(t, err)
	require.Nil(t, rec.Tombstone, "no window's")

	for _, kind := range []string{"decision", "edition"} {
		rec, err = ParseRecord(tp, source.Record{Offset: 10, Value: []byte(`{"type":"` + kind + `","version":9}`)})
		require.NoError(t, err)
		require.Equal(t, Record{Type: kind, Partition: 3, Offset: 10}, rec)
	}
}

func TestRowsOfALaterVersionAreRefused(t *testing.T) {
	tp := source.TopicPartition{Topic: "flights.ledger"}
	for _, text := range []string{`{"version":3,"revision":1}`, `{"type":"floor","version":3}`} {
		_, err := ParseRecord(tp, source.Record{Value: []byte(text)})
		var later *VersionError
		require.ErrorAs(t, err, &later)
		require.Equal(t, 3, later.Found)
	}
}

func TestAnchorIsRecountableOnlyWhenItIsComplete(t *testing.T) {
	known := store.Basis{Known: true, Watermark: 5, Sealed: store.NoTime}
	many := make([]store.Seal, MaxSeals+1)
	for i := range many {
		many[i] = store.Seal{Offset: 10 + int64(i), Before: int64(i)}
	}
	for _, c := range []struct {
		name        string
		seals       []store.Seal
		first       *store.SliceStat
		want        []store.Seal
		recountable bool
	}{
		{name: "no event of the window", seals: many, recountable: true},
		{name: "no seal", first: &store.SliceStat{FirstOffset: 10, Basis: known}, recountable: true},
		{name: "basis of an old version", first: &store.SliceStat{FirstOffset: 10}},
		{
			name: "seals in between", first: &store.SliceStat{FirstOffset: 10, Basis: known}, recountable: true,
			seals: []store.Seal{{Offset: 9, Before: 1}, {Offset: 10, Before: 2}, {Offset: 999, Before: 3}, {Offset: 1000, Before: 4}},
			want:  []store.Seal{{Offset: 10, Before: 2}, {Offset: 999, Before: 3}},
		},
		{
			name: "seals forgotten after the first", first: &store.SliceStat{FirstOffset: 10, Basis: known},
			seals: []store.Seal{{Offset: 11, Before: store.NoTime}},
		},
		{
			name: "seals forgotten before the first", first: &store.SliceStat{FirstOffset: 10, Basis: known}, recountable: true,
			seals: []store.Seal{{Offset: 10, Before: store.NoTime}},
		},
		{name: "too many", seals: many, first: &store.SliceStat{FirstOffset: 10, Basis: known}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cover := Cover{Offset: 1000}
			cover.SetAnchor(&store.Meta{TopicID: "t", Seals: c.seals}, c.first)
			require.Equal(t, "t", cover.TopicID)
			require.Equal(t, c.want, cover.Seals)
			require.Equal(t, c.recountable, cover.Recountable)
		})
	}
}
