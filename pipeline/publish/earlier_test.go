package publish_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
)

// The links of a window's latest row lead to every revision since the whole one, and to what each of them published.
func TestLinksLeadToEarlierRevisions(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(100)
	contents := []rows{1: now}
	latest := d.publish(s, 1, false, now)
	for n := range 5 {
		now = maps.Clone(now)
		changed, gone := fmt.Sprintf(`{"k":%d}`, n), fmt.Sprintf(`{"k":%d}`, 50+n)
		now[changed] = `{"n":2}`
		delete(now, gone)
		contents = append(contents, now)
		latest = d.publishContent(s, 1, false, &content{rows: now, touched: []string{changed, gone}})
	}
	require.Len(t, latest.Links, 6)
	for revision := 1; revision <= 6; revision++ {
		found, err := d.contents().ReadUpTo(t.Context(), latest, revision)
		require.NoError(t, err)
		require.Equal(t, contents[revision], asRows(found), "revision %d", revision)
		published, err := d.contents().ReadPublished(t.Context(), latest, revision)
		require.NoError(t, err)
		got := rows{}
		for _, r := range published {
			if got[string(r.Key)] = string(r.Values); r.Deleted {
				got[string(r.Key)] = "-"
			}
		}
		require.Equal(t, d.recordsOf(revision), got, "revision %d", revision)
	}

	var gone *publish.GoneError
	_, err := d.contents().ReadUpTo(t.Context(), latest, 7)
	require.ErrorAs(t, err, &gone)
	require.ErrorContains(t, err, "revision 7: revision 6 has no link to it")

	// Without links every record of the topic is looked at.
	published, err := d.contents().ReadPublished(t.Context(), &ledger.Row{
		Pipeline: "p", Window: "hour", Start: latest.Start, End: latest.End, Edition: ledger.Edition, PublishedTo: "out",
	}, 3)
	require.NoError(t, err)
	require.Len(t, published, 2)

	first := latest.Links[0].Partitions[0]
	d.kafka.Trim(source.TopicPartition{Topic: "out", Partition: first.Partition}, first.First+1)
	_, err = d.contents().ReadUpTo(t.Context(), latest, 3)
	require.ErrorAs(t, err, &gone)
	require.True(t, gone.Expired)
	require.ErrorContains(t, err, "its ledger row is gone, and so are rows in topic out that revision 6 links to")
}
