package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
)

// published is window w of pipeline p, as a closer publishes revisions of it: by links.
type published struct {
	t       *testing.T
	kafka   *publishtest.Kafka
	content map[string]string // values by key
	row     ledger.Row        // the latest
}

func newPublished(t *testing.T) *published {
	p := &published{t: t, kafka: publishtest.New(), content: map[string]string{}}
	p.kafka.AddTopic(ledger.Topic("p"), ledger.DefaultSlots)
	p.kafka.AddTopic("out", 1)
	p.kafka.SetTopicID("out", "first")
	p.row = ledger.Row{
		Version: ledger.RowVersion, Pipeline: "p", Window: "w", End: 1000, Edition: ledger.Edition,
		Algorithm: ledger.ChecksumAlgorithm, PublishedTo: "out",
	}
	return p
}

// revision publishes the next revision: all rows, or those that changes name. "-" deletes a key.
// Without keep the ledger row is one that compaction has removed.
func (p *published) revision(whole, keep bool, changes map[string]string) {
	p.t.Helper()
	p.row.Revision++
	if whole {
		clear(p.content)
		p.row.Links = nil
	}
	link := ledger.Link{Revision: p.row.Revision, TopicID: "first", Whole: whole}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		row := ledger.ResultRow{
			Pipeline: "p", Window: "w", End: 1000, Revision: p.row.Revision, Key: json.RawMessage(`{"k":"` + key + `"}`),
			Values: json.RawMessage(changes[key]),
		}
		if p.content[key] = changes[key]; changes[key] == "-" {
			row.Values, row.Deleted = json.RawMessage(`{"n":0}`), true
			delete(p.content, key)
		}
		record := source.Record{Key: row.Key, Value: p.text(row)}
		link.Extend(0, p.kafka.Append(source.TopicPartition{Topic: "out"}, record))
	}
	p.row.Links = append(slices.Clone(p.row.Links), link)
	var sum ledger.Checksum
	for key, values := range p.content {
		sum.AddContent(ledger.Content{Key: []byte(`{"k":"` + key + `"}`), Values: []byte(values)})
	}
	p.row.Keys, p.row.Checksum = sum.Rows(), sum.String()
	if keep {
		p.writeRow(p.text(p.row))
	}
}

func (p *published) writeRow(value []byte) {
	id := p.row.ID()
	slot := source.TopicPartition{Topic: ledger.Topic("p"), Partition: int32(id.Slot(ledger.DefaultSlots))}
	p.kafka.Append(slot, source.Record{Key: id.Key(), Value: value})
}

func (p *published) text(v json.Marshaler) []byte {
	text, err := v.MarshalJSON()
	require.NoError(p.t, err)
	return text
}

// newHistory publishes seven revisions. Compaction has left the ledger rows of 2, 5 and 7: 1 and 6 have
// links, 3 and 4 nothing.
func newHistory(t *testing.T) *published {
	p := newPublished(t)
	p.row.Revision = 2
	p.revision(true, true, map[string]string{"old": `{"n":9}`})
	p.writeRow(nil) // given up: what is published from here on begins at 1 again
	p.row.Revision = 0
	p.revision(true, false, map[string]string{"a": `{"n":1}`, "b": `{"n":1}`})
	p.revision(false, true, map[string]string{"b": `{"n":2}`})
	p.revision(true, false, map[string]string{"a": `{"n":3}`, "b": `{"n":3}`, "c": `{"n":3}`})
	p.revision(false, false, map[string]string{"c": "-"})
	p.revision(true, true, map[string]string{"a": `{"n":5}`, "b": `{"n":5}`})
	p.revision(false, false, map[string]string{"a": "-", "d": `{"n":6}`})
	p.revision(false, true, map[string]string{"b": `{"n":7}`})
	return p
}

func TestWindowsGetReadsARevision(t *testing.T) {
	unproved := func(revision int) string {
		return fmt.Sprintf("the ledger row of revision %d is gone, nothing proves that this is all of it\n", revision)
	}
	p := newHistory(t)
	p.kafka.AddTopic("copy", 2)
	_, err := p.kafka.ReadCommitted(t.Context(), source.TopicPartition{Topic: "out"}, 0, func(r source.Record) error {
		p.kafka.Append(source.TopicPartition{Topic: "copy", Partition: 1}, r)
		return nil
	})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		filter rowFilter
		want   string // key, revision and values of each row
		says   string // on standard error
		fails  string
	}{
		"latest":            {want: "b 7 7, d 7 6"},
		"latest by number":  {filter: rowFilter{revision: 7}, want: "b 7 7, d 7 6"},
		"one key":           {filter: rowFilter{key: `{"k":"d"}`}, want: "d 7 6"},
		"with its own row":  {filter: rowFilter{revision: 5}, want: "a 5 5, b 5 5"},
		"and links":         {filter: rowFilter{revision: 2}, want: "a 2 1, b 2 2"},
		"by later links":    {filter: rowFilter{revision: 6}, want: "b 6 5, d 6 6", says: unproved(6)},
		"the first of them": {filter: rowFilter{revision: 1}, want: "a 1 1, b 1 1", says: unproved(1)},
		"gone": {filter: rowFilter{revision: 4}, fails: "window w 1970-01-01T00:00:00Z of pipeline p: the ledger row of revision 4 is " +
			"gone, and no later row links to the revision; the earliest that can be read is revision 1. --changes shows what topic out " +
			"still holds of the rows that revision 4 published"},
		"given up":                {filter: rowFilter{revision: 3}, fails: "the ledger row of revision 3 is gone"},
		"never published":         {filter: rowFilter{revision: 8}, fails: "of pipeline p has no revision 8; the latest is 7"},
		"another topic":           {filter: rowFilter{topic: "copy"}, want: "b 7 7, d 7 6"},
		"another topic, earlier":  {filter: rowFilter{topic: "copy", revision: 2}, want: "a 2 1, b 2 2"},
		"another topic, unknown":  {filter: rowFilter{topic: "none"}, fails: "read topic none: "},
		"what it changed":         {filter: rowFilter{changes: true}, want: "b 7 7"},
		"what it deleted":         {filter: rowFilter{revision: 6, changes: true}, want: "a 6 deleted, d 6 6"},
		"what a whole one says":   {filter: rowFilter{revision: 5, changes: true}, want: "a 5 5, b 5 5"},
		"changes, without a row":  {filter: rowFilter{revision: 4, changes: true}, want: "c 4 deleted"},
		"changes, another topic":  {filter: rowFilter{topic: "copy", revision: 6, changes: true}, want: "a 6 deleted, d 6 6"},
		"changes of one key":      {filter: rowFilter{revision: 6, changes: true, key: `{"k":"b"}`}, fails: "has no row of window"},
		"changes of what is none": {filter: rowFilter{revision: 8, changes: true}, fails: "topic out has no row of window w"},
	} {
		t.Run(name, func(t *testing.T) {
			c.filter.pipeline, c.filter.window = "p", "w"
			var out, errs bytes.Buffer
			err := getWindow(t.Context(), &shell{out: &out, err: &errs, json: true}, p.kafka, c.filter)
			require.Equal(t, c.says, errs.String())
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				require.Empty(t, out.String())
				return
			}
			require.NoError(t, err)
			var rows []ledger.ResultRow
			require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
			var got []string
			for _, r := range rows {
				_, key := cells(r.Key)
				_, values := cells(r.Values)
				if r.Deleted {
					values = []string{"deleted"}
				}
				got = append(got, fmt.Sprint(key[0], " ", r.Revision, " ", values[0]))
			}
			require.Equal(t, c.want, strings.Join(got, ", "))
		})
	}
}

func TestWindowsGetDrawsChanges(t *testing.T) {
	p := newHistory(t)
	for revision, want := range map[int]string{
		4: "WINDOW  START                 k  REV  DELETED\n" +
			"w       1970-01-01T00:00:00Z  c    4  yes\n",
		6: "WINDOW  START                 k  REV  DELETED  n\n" +
			"w       1970-01-01T00:00:00Z  a    6  yes\n" +
			"w       1970-01-01T00:00:00Z  d    6  no       6\n",
	} {
		var out bytes.Buffer
		f := rowFilter{pipeline: "p", window: "w", revision: revision, changes: true}
		require.NoError(t, getWindow(t.Context(), &shell{out: &out}, p.kafka, f))
		require.Equal(t, want, out.String())
	}
}

// Rows that retention has taken are named as gone, with and without a ledger row that proves it.
func TestWindowsGetMissesExpiredRows(t *testing.T) {
	p := newHistory(t)
	p.kafka.Trim(source.TopicPartition{Topic: "out"}, 9) // in the middle of revision 5
	for revision, want := range map[int]string{
		5: "the rest has expired",
		6: "window w/1970-01-01T00:00:00Z, revision 6: its ledger row is gone, and so are rows in topic out that revision 7 links to",
	} {
		var errs bytes.Buffer
		f := rowFilter{pipeline: "p", window: "w", revision: revision}
		require.ErrorContains(t, getWindow(t.Context(), &shell{err: &errs}, p.kafka, f), want)
		require.Empty(t, errs.String())
	}
}
