package verify

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// results is a result topic with revisions of one window.
type results struct {
	t     *testing.T
	kafka *publishtest.Kafka
	now   map[string]string // content by key
	l     *ledgerTopic
	links []ledger.Link
}

func newResults(t *testing.T, partitions int) *results {
	r := &results{t: t, kafka: publishtest.New(), now: map[string]string{}, l: &ledgerTopic{windows: map[ledger.WindowID]*ledgerState{}}}
	r.kafka.AddTopic("out", partitions)
	return r
}

// publish publishes the next revision, each row in its partition; without values a key leaves.
func (r *results) publish(rows map[string]int32, values map[string]string) *ledger.Row {
	id := ledger.WindowID{Window: "hour"}
	s := r.l.windows[id]
	if s == nil {
		s = &ledgerState{rows: map[int]ledger.Row{}}
		r.l.windows[id] = s
	}
	rev := len(s.rows) + 1
	link := ledger.Link{Revision: rev, Whole: rev == 1}
	prefix := ledger.NewResultPrefix("p", "hour", 0, 3_600_000, ledger.Edition)
	for key, partition := range rows {
		c := ledger.Content{Key: []byte(key), Values: []byte(values[key])}
		if r.now[key] = values[key]; values[key] == "" {
			c.Values, c.Deleted = []byte("{}"), true
			delete(r.now, key)
		}
		link.Extend(partition, r.kafka.Append(source.TopicPartition{Topic: "out", Partition: partition}, source.Record{Value: prefix.Append(nil, rev, c)}))
	}
	var sum ledger.Checksum
	for key, value := range r.now {
		sum.AddContent(ledger.Content{Key: []byte(key), Values: []byte(value)})
	}
	r.links = append(r.links, link)
	row := ledger.Row{
		Version: ledger.RowVersion, Pipeline: "p", Window: "hour", End: 3_600_000, Revision: rev, Keys: sum.Rows(), Checksum: sum.String(),
		Links: append([]ledger.Link(nil), r.links...),
	}
	if rev > 1 {
		row.Changed = int64(len(rows))
	}
	s.rows[rev], s.last = row, row
	return &row
}

func (r *results) problems() []string {
	v := &Report{}
	require.NoError(r.t, v.checkResults(r.t.Context(), &Config{Spec: &spec.Spec{Name: "p"}, Kafka: r.kafka}, "out", r.l))
	var all []string
	for _, p := range v.Problems {
		all = append(all, fmt.Sprintf("%s: %s", p.Where, p.Detail))
	}
	return all
}

// Partitions are cut one by one, and a revision that published what it changed may stand in one of them only.
func TestARevisionThatRetentionTookIsNoGap(t *testing.T) {
	r := newResults(t, 2)
	r.publish(map[string]int32{`"a"`: 1, `"b"`: 0}, map[string]string{`"a"`: "1", `"b"`: "1"})
	r.publish(map[string]int32{`"b"`: 0}, map[string]string{`"b"`: "2"})
	r.publish(map[string]int32{`"a"`: 1}, map[string]string{`"a"`: "2"})
	require.Empty(t, r.problems())
	r.kafka.Trim(source.TopicPartition{Topic: "out", Partition: 0}, 2)
	require.Empty(t, r.problems())
}

// A closer of an earlier release that writes a row again leaves out how many rows changed.
func TestARowThatDoesNotSayWhatChangedIsRight(t *testing.T) {
	r := newResults(t, 1)
	r.publish(map[string]int32{`"a"`: 0, `"b"`: 0}, map[string]string{`"a"`: "1", `"b"`: "1"})
	row := r.publish(map[string]int32{`"b"`: 0}, map[string]string{`"b"`: "2"})
	row.Changed = 0
	r.l.windows[row.ID()].rows[2] = *row
	require.Empty(t, r.problems())
}

// A topic that was given more partitions has later rows of a key in another one than earlier rows, which may be read before.
func TestDifferencesAddUpInAnyOrderOfPartitions(t *testing.T) {
	r := newResults(t, 3)
	r.publish(map[string]int32{`"a"`: 2, `"b"`: 1}, map[string]string{`"a"`: "1", `"b"`: "1"})
	r.publish(map[string]int32{`"a"`: 2}, map[string]string{`"a"`: "2"})
	r.publish(map[string]int32{`"a"`: 0, `"b"`: 0}, map[string]string{`"a"`: "3"})
	r.publish(map[string]int32{`"a"`: 0, `"b"`: 0}, map[string]string{`"a"`: "4", `"b"`: "4"})
	require.Empty(t, r.problems())
}

// A revision that changed nothing but states has no rows, and once the ledger is compacted no row may be left that says so.
func TestACompactedRevisionOfStatesIsNoGap(t *testing.T) {
	for _, states := range []bool{true, false} {
		t.Run(fmt.Sprintf("states %t", states), func(t *testing.T) {
			r := newResults(t, 1)
			r.publish(map[string]int32{`"a"`: 0}, map[string]string{`"a"`: "1"})
			r.publish(nil, nil)
			require.Empty(t, r.problems())
			r.links = nil
			row := r.publish(map[string]int32{`"a"`: 0}, map[string]string{`"a"`: "2"})
			row.Links[0].Whole, row.Changed = true, 0
			if states {
				row.States = []ledger.Link{{Revision: 3, Whole: true}}
			}
			s := r.l.windows[row.ID()]
			s.rows = map[int]ledger.Row{3: *row}
			if states {
				require.Empty(t, r.problems())
			} else {
				require.Len(t, r.problems(), 1)
			}
		})
	}
}

// What changes nothing but states builds on the revisions before it, and mends nothing of them.
func TestADifferenceOfStatesMendsNothing(t *testing.T) {
	for _, whole := range []bool{true, false} {
		t.Run(fmt.Sprintf("whole %t", whole), func(t *testing.T) {
			v, l := &Report{}, &ledgerTopic{windows: map[ledger.WindowID]*ledgerState{}}
			first := ledger.Row{Pipeline: "p", Window: "hour", Revision: 1, Checksum: "c", Links: []ledger.Link{{Revision: 1, Whole: true}}}
			second := first
			second.Revision, second.Mends = 2, report.PlaceStates
			if second.Links = []ledger.Link{{Revision: 2, Whole: true}}; !whole {
				second.Links = append(slices.Clone(first.Links), ledger.Link{Revision: 2})
			}
			for _, row := range []*ledger.Row{&first, &second} {
				v.checkRow(&Config{Slots: 1}, l, ledger.Record{Row: row})
			}
			v.revisionProblem(ProblemResults, revisionID{first.ID(), 1}, "a row stands twice")
			v.leaveMended(l)
			require.Equal(t, []bool{whole, whole}, []bool{len(v.Problems) == 0, len(v.Notes) == 1})
		})
	}
}
