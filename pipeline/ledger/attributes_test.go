package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
)

// TestRowAttributesFormat holds the bytes of what rows gained after they had reached version 2, in the place where it stands.
func TestRowAttributesFormat(t *testing.T) {
	row := fullRow()
	plain, err := json.Marshal(row)
	require.NoError(t, err)
	row.Replay = &ReplayOrigin{ID: "x", BaseRevision: 3, BaseChecksum: "ab", Lateness: LatenessFromLate, Diff: "cd"}
	row.Children = []Child{{Window: "hourly", Start: 978307200000, Revision: 2, Checksum: "ef"}}
	row.ChildLate = 4
	row.States = []Link{{Revision: 1, TopicID: "s", Whole: true, Partitions: []Span{{Partition: 1, First: 5, Last: 6}}}}
	row.Archive = &Archive{File: "hourly/2001.parquet", SHA256: "aa", Bytes: 7, At: 978310860123}
	text, err := json.Marshal(row)
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(string(plain), "}")+
		`,"replay":{"id":"x","base_revision":3,"base_checksum":"ab","lateness":"from-late","diff":"cd"},`+
		`"children":[{"window":"hourly","start":"2001-01-01T00:00:00Z","revision":2,"checksum":"ef"}],"child_late":4,`+
		`"states":{"revision":1,"topic_id":"s","whole":true,"partitions":[{"partition":1,"first":5,"last":6}]},`+
		`"archive":{"file":"hourly/2001.parquet","sha256":"aa","bytes":7,"at":"2001-01-01T01:01:00.123Z"}}`, string(text))
	var back Row
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, row, back)

	row.States = append(row.States, Link{Revision: 2, TopicID: "s"})
	text, err = json.Marshal(row)
	require.NoError(t, err)
	require.NotContains(t, string(text), `"states":`, "earlier releases would take it for all states")
	require.Contains(t, string(text), `"states_links":[{"revision":1,"topic_id":"s","whole":true,`+
		`"partitions":[{"partition":1,"first":5,"last":6}]},{"revision":2,"topic_id":"s"}]`)
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, row, back)

	for name, broken := range map[string]string{
		"children": `"children":[{"start":"yesterday"}]`, "archive": `"archive":{"at":"yesterday"}`,
	} {
		require.ErrorContains(t, json.Unmarshal([]byte(strings.TrimSuffix(string(plain), "}")+","+broken+"}"), &back), name)
	}
}

func TestARowWrittenAgainKeepsItsAttributes(t *testing.T) {
	earlier := Row{
		Replay: &ReplayOrigin{ID: "x"}, Mends: "view", Children: []Child{{Window: "w"}}, ChildLate: 4, States: []Link{{Revision: 1}},
		Archive: &Archive{File: "f"},
	}
	kept := Row{}
	kept.KeepAttributes(&earlier)
	require.Equal(t, earlier, kept)
	own := Row{Children: []Child{{Window: "v"}}, Archive: &Archive{File: "g"}}
	own.KeepAttributes(&earlier)
	require.Equal(t, Row{
		Replay: earlier.Replay, Mends: "view", Children: []Child{{Window: "v"}}, States: earlier.States, Archive: &Archive{File: "g"},
	}, own)
}

func TestCertificateFormat(t *testing.T) {
	tp := source.TopicPartition{Topic: "flights.ledger", Partition: 3}
	c := Certificate{
		Pipeline: "flights", Window: "hourly", Start: 978307200000, Edition: 1, Revision: 2, Replay: "x", By: "worker-1",
		CertifiedAt: 978310860000, Keys: 3, Events: 4, Checksum: "ab", Scope: ScopeFromFirst,
		Lanes: []CertifiedLane{{Topic: "flights", Partition: 1, From: 5, To: 6, TopicID: "t", Era: 7}},
	}
	text, err := json.Marshal(c)
	require.NoError(t, err)
	require.Equal(t, `{"type":"certificate","version":2,"pipeline":"flights","window":"hourly","start":"2001-01-01T00:00:00Z","edition":1,`+
		`"revision":2,"replay":"x","by":"worker-1","certified_at":"2001-01-01T01:01:00Z","keys":3,"events":4,"checksum":"ab",`+
		`"scope":"from first offset","lanes":[{"topic":"flights","partition":1,"from":5,"to":6,"topic_id":"t","era":7}]}`, string(text))
	id := c.ID()
	require.Equal(t, `{"certificate":"hourly","start":"2001-01-01T00:00:00Z"}`, string(id.CertificateKey()))
	rec, err := ParseRecord(tp, source.Record{Offset: 7, Key: id.CertificateKey(), Value: text})
	require.NoError(t, err)
	require.Equal(t, Record{Type: TypeCertificate, Certificate: &c, Partition: 3, Offset: 7}, rec)
	rec, err = ParseRecord(tp, source.Record{Offset: 8, Key: id.CertificateKey()})
	require.NoError(t, err)
	require.Equal(t, Record{Uncertified: &id, Partition: 3, Offset: 8}, rec)
	_, err = ParseRecord(tp, source.Record{Value: []byte(`{"type":"certificate","version":3}`)})
	var later *VersionError
	require.ErrorAs(t, err, &later)
	for _, broken := range []string{`{"start":"x"}`, `{"start":"2001-01-01T00:00:00Z","certified_at":"x"}`} {
		require.Error(t, json.Unmarshal([]byte(broken), new(Certificate)))
	}
	require.Nil(t, parseCertificateKey([]byte(`{"certificate":"hourly","start":"x"}`)))
	require.Nil(t, parseCertificateKey([]byte(`{"certificate":7}`)))
}

func TestStateRowFormat(t *testing.T) {
	prefix := NewResultPrefix("flights", "hourly", 978307200000, 978310800000, 2)
	text := prefix.AppendState(nil, 3, Content{Key: []byte(`{"origin":"ATL"}`), State: []byte{2, 0, 255}})
	require.Equal(t, `{"pipeline":"flights","window":"hourly","start":"2001-01-01T00:00:00Z","end":"2001-01-01T01:00:00Z","edition":2,`+
		`"key":{"origin":"ATL"},"revision":3,"state":"AgD/"}`, string(text))
	var row StateRow
	require.NoError(t, json.Unmarshal(text, &row))
	require.Equal(t, StateRow{
		Pipeline: "flights", Window: "hourly", Start: 978307200000, Edition: 2, Key: []byte(`{"origin":"ATL"}`), Revision: 3, State: []byte{2, 0, 255},
	}, row)
	require.Error(t, json.Unmarshal([]byte(`{"start":"x"}`), &row))

	text = prefix.AppendState(nil, 4, Content{Key: []byte(`{"origin":"ATL"}`), Deleted: true})
	require.Equal(t, `{"pipeline":"flights","window":"hourly","start":"2001-01-01T00:00:00Z","end":"2001-01-01T01:00:00Z","edition":2,`+
		`"key":{"origin":"ATL"},"revision":4,"deleted":true}`, string(text))
	require.NoError(t, json.Unmarshal(text, &row))
	require.True(t, row.Deleted)
	require.Empty(t, row.State)
}

// A row of a key that has left says so, and is no part of the content.
func TestDeletedRowsCountNeitherAsKeysNorInTheChecksum(t *testing.T) {
	var with, without, states Checksum
	row := Content{Key: []byte("a"), Values: []byte("v")}
	without.AddContent(row)
	with.AddContent(Content{Key: []byte("b"), Values: []byte("v"), Deleted: true})
	with.AddContent(row)
	row.State = []byte("s")
	states.AddContent(row)
	require.Equal(t, without.String(), with.String())
	require.EqualValues(t, 1, with.Rows())
	require.Equal(t, without.String(), states.String(), "nor are states")
}

// What a lane had read is not what a replay read that counts everything.
func TestLaneIsNotCoveredByWhoeverReadsBeyondIt(t *testing.T) {
	for _, c := range []struct {
		row  Row
		want bool
	}{
		{Row{Reason: ReasonFinal}, true},
		{Row{Reason: ReasonReplay, Replay: &ReplayOrigin{Lateness: LatenessAsRead}}, true},
		{Row{Reason: ReasonReplay, Replay: &ReplayOrigin{Lateness: LatenessFromLate}}, true},
		{Row{Reason: ReasonReplay, Replay: &ReplayOrigin{Lateness: LatenessNone}}, false},
		{Row{Reason: ReasonReplay}, false},
		{Row{Reason: ReasonRollup}, false},
	} {
		require.Equal(t, c.want, c.row.coversLanes(), "%+v", c.row)
	}
}
