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
	require.ErrorContains(t, getWindow(t.Context(), sh, k, rowFilter{pipeline: "p", window: "w", revision: 2}),
		"window w 1970-01-01T00:00:00Z of pipeline p has no revision 2; the latest is 1")
}

func ledgerOf(t *testing.T, pipeline string, values ...any) topics {
	k := topics{}
	for _, v := range values {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		r := source.Record{Value: text}
		switch v := v.(type) {
		case ledger.Row:
			r.Key = v.ID().Key()
		case ledger.Certificate:
			r.Key = v.ID().CertificateKey()
		}
		k[ledger.Topic(pipeline)] = append(k[ledger.Topic(pipeline)], r)
	}
	return k
}

func TestWindowsLsSaysThatAnEditionHasEnded(t *testing.T) {
	row := ledger.Row{Version: ledger.RowVersion, Pipeline: "p", Window: "w", Edition: 1, Revision: 3}
	var out bytes.Buffer
	sh := &shell{out: &out, err: io.Discard}
	require.NoError(t, listWindows(t.Context(), sh, ledgerOf(t, "p", row), "p", listFilter{}))
	require.NotContains(t, out.String(), "edition")

	row.Edition, row.Revision = 2, 1
	require.NoError(t, listWindows(t.Context(), sh, ledgerOf(t, "p", row), "p", listFilter{}))
	require.Contains(t, out.String(), "\nedition 2: the state was discarded, or the pipeline removed, since edition 1; ")
}

func TestWindowsCertificates(t *testing.T) {
	hour := int64(3_600_000)
	row := func(start int64, edition, revision int) ledger.Row {
		return ledger.Row{
			Version: ledger.RowVersion, Pipeline: "p", Window: "w", Start: start, End: start + hour, Edition: edition, Revision: revision,
		}
	}
	certificate := func(start int64) ledger.Certificate {
		return ledger.Certificate{
			Pipeline: "p", Window: "w", Start: start, Edition: 1, Revision: 2, Replay: "check", By: "worker-1", CertifiedAt: hour,
			Keys: 5, Events: 7, Checksum: "c0ffee", Scope: ledger.ScopeWhole, Lanes: []ledger.CertifiedLane{{Topic: "in", From: 10, To: 90}},
		}
	}
	k := ledgerOf(t, "p", row(0, 1, 2), row(hour, 1, 2), row(2*hour, 1, 2), certificate(2*hour), certificate(hour), certificate(0),
		row(hour, 1, 3), row(2*hour, 2, 2)) // a correction, and another edition
	var out bytes.Buffer
	sh := &shell{out: &out, err: io.Discard}
	require.NoError(t, listCertificates(t.Context(), sh, k, "p", listFilter{}))
	require.Equal(t, "WINDOW  START                 REVISION  KEYS  EVENTS  CHECKSUM  SCOPE  CERTIFIED             RECOUNT  BY\n"+
		"w       1970-01-01T00:00:00Z         2     5       7  c0ffee    whole  1970-01-01T01:00:00Z  check    worker-1\n", out.String())

	out.Reset()
	sh.json = true
	require.NoError(t, listCertificates(t.Context(), sh, k, "p", listFilter{window: "w", last: 1}))
	require.Contains(t, out.String(), `"lanes":[{"topic":"in","partition":0,"from":10,"to":90}]`)

	out.Reset()
	sh.json = false
	require.NoError(t, listCertificates(t.Context(), sh, k, "p", listFilter{window: "other"}))
	require.Contains(t, out.String(), "no certificates; write some with `millrace recount p --from TIME --to TIME`\n")
}
