package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/shadow"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

// The wrong spec reads the longest delay from a field that holds the delay, but for a few hours.
const (
	right    = "delay_max:  {func: max,   field: delay}"
	mistaken = "delay_max:  {func: max,   field: posted}"
)

// firstOfJanuary is when the flights begin.
var firstOfJanuary = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

func hourOf(n int) time.Time { return firstOfJanuary.Add(time.Duration(n) * time.Hour) }

// at is a time as the command line takes it.
func at(t time.Time) string { return t.Format(time.RFC3339) }

// misposted gives flights the field posted: the delay, but for the airports up to M between the hours from and to, where it is a
// minute more.
func misposted(t *testing.T, lines [][]byte, from, to time.Time) [][]byte {
	t.Helper()
	out := make([][]byte, len(lines))
	for i, line := range lines {
		var flight struct {
			Scheduled int64
			Origin    string
			Delay     int64
		}
		require.NoError(t, json.Unmarshal(line, &flight), "%s", line)
		if flight.Scheduled >= from.Unix() && flight.Scheduled < to.Unix() && flight.Origin < "N" {
			flight.Delay++
		}
		out[i] = fmt.Appendf(bytes.Clone(bytes.TrimSuffix(line, []byte("}"))), `,"posted":%d}`, flight.Delay)
	}
	return out
}

// mistake is a pipeline whose spec has one aggregate wrong, and what it should have been.
type mistake struct {
	*pipeline
	fixed     []byte // YAML, for the oracle
	fixedFile string // as replays take it
}

// steady makes what a pipeline publishes follow from its input alone.
func steady(s *spec.Spec) {
	s.Watermark.IdleTimeout = 0
	s.Lane.CommitInterval = spec.Duration(200 * time.Millisecond)
}

// newMistake makes the pipeline over the flights example.
func (w *world) newMistake(yaml string) *mistake {
	w.T.Helper()
	require.Contains(w.T, yaml, right)
	m := &mistake{pipeline: w.newPipeline(strings.Replace(yaml, right, mistaken, 1), 4, steady), fixed: []byte(yaml)}
	fixed, err := spec.Parse("fixed.yaml", m.fixed)
	require.NoError(w.T, err)
	steady(fixed)
	fixed.Name, fixed.Source.Topics = m.Spec.Name, m.Spec.Source.Topics
	fixed.Results, fixed.Late, fixed.DeadLetter = m.Spec.Results, m.Spec.Late, m.Spec.DeadLetter
	text, err := fixed.JSON()
	require.NoError(w.T, err)
	m.fixedFile = filepath.Join(w.T.TempDir(), "fixed.json")
	require.NoError(w.T, os.WriteFile(m.fixedFile, text, 0o644))
	return m
}

// fill feeds the lines and waits until the windows before the hour are final and nothing more is published.
func (m *mistake) fill(lines [][]byte, before time.Time) {
	m.T.Helper()
	m.Feed(lines)
	m.Reach(int64(len(lines)))
	var last published
	same := 0
	rig.Eventually(m.T, "all windows are final and the topics at rest", patience, func() bool {
		now := m.published()
		if same++; !reflect.DeepEqual(now, last) {
			last, same = now, 0
		}
		return same >= 20 && m.areFinal(before)
	})
}

// areFinal reports whether the windows before the hour are final.
func (m *mistake) areFinal(before time.Time) bool {
	final := 0
	for _, row := range m.Ledger() {
		if row.Start < before.UnixMilli() {
			if !row.Final {
				return false
			}
			final++
		}
	}
	return final > 0
}

// published is what a pipeline has published: where its result topic ends, also behind what was aborted, and its ledger's rows. The
// ledger's floors are left out: they rise once a minute whatever anybody asks for.
type published struct {
	ends map[source.TopicPartition]source.Ends
	rows []ledger.Row
}

// published is nothing before there is a result topic.
func (m *mistake) published() (p published) {
	m.T.Helper()
	topic := m.Spec.Results.Kafka.Topic
	partitions, err := m.Cluster.Partitions(context.Background(), topic)
	if err != nil {
		return p
	}
	var tps []source.TopicPartition
	for _, n := range partitions {
		tps = append(tps, source.TopicPartition{Topic: topic, Partition: n})
	}
	p.ends, err = m.Cluster.Ends(context.Background(), tps...)
	require.NoError(m.T, err)
	p.rows = m.Ledger()
	return p
}

// counted is what the oracle says that a spec publishes of the windows between two times, by window and key. A lateness above 0
// replaces the spec's.
func (m *mistake) counted(yaml []byte, from, to time.Time, lateness time.Duration) map[string]string {
	m.T.Helper()
	o, err := oracle.ReadSpec(yaml)
	require.NoError(m.T, err)
	o.Name = m.Spec.Name
	if lateness > 0 {
		o.Lateness = lateness
	}
	res, err := oracle.Run(o, m.Fed)
	require.NoError(m.T, err)
	var text bytes.Buffer
	require.NoError(m.T, res.WriteJSON(&text))
	rows := make(map[string]string)
	for line := range strings.Lines(text.String()) {
		var row struct{ Start time.Time }
		require.NoError(m.T, json.Unmarshal([]byte(line), &row))
		if row.Start.Before(from) || !row.Start.Before(to) {
			continue
		}
		name, _, found := strings.Cut(line, `,"values":`)
		require.True(m.T, found, line)
		rows[name] = line
	}
	return rows
}

// difference is what a diff has to show: the rows that are published and those that should have been.
type difference struct{ was, is []string }

// differenceOf compares what was published with what is counted, as the oracle says. Keys that are in one of both alone are none here.
func (m *mistake) differenceOf(was, is map[string]string) (d difference) {
	m.T.Helper()
	require.Len(m.T, was, len(is))
	for name, row := range was {
		require.Contains(m.T, is, name)
		if is[name] != row {
			d.was, d.is = append(d.was, row), append(d.is, is[name])
		}
	}
	require.NotEmpty(m.T, d.was)
	require.Less(m.T, len(d.was), len(was), "some keys do not differ")
	return d
}

// starts are those of the windows that differ.
func (d difference) starts(t *testing.T) (starts []time.Time) {
	t.Helper()
	for _, line := range d.was {
		var row struct{ Start time.Time }
		require.NoError(t, json.Unmarshal([]byte(line), &row))
		if !slices.Contains(starts, row.Start) {
			starts = append(starts, row.Start)
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	return starts
}

// shownDiff is what `millrace replay diff` prints of a key.
type shownDiff struct {
	Window string          `json:"window"`
	Start  time.Time       `json:"start"`
	Kind   string          `json:"kind"`
	Key    json.RawMessage `json:"key"`
	Old    json.RawMessage `json:"old"`
	New    json.RawMessage `json:"new"`
}

// requireDiff wants a replay to show what the oracle says, key by key and value by value.
func (m *mistake) requireDiff(id string, want difference) {
	m.T.Helper()
	var shown []shownDiff
	out := m.Must("replay", "diff", m.Spec.Name, id, "--json", "--limit", "0").Out
	require.NoError(m.T, json.Unmarshal([]byte(out), &shown), out)
	slices.SortFunc(shown, func(a, b shownDiff) int {
		return cmp.Or(a.Start.Compare(b.Start), bytes.Compare(a.Key, b.Key))
	})
	var was, is []string
	for _, row := range shown {
		require.Equal(m.T, "changed", row.Kind, "%s", row.Key)
		for _, side := range []struct {
			into   *[]string
			values []byte
		}{{&was, row.Old}, {&is, row.New}} {
			*side.into = append(*side.into, fmt.Sprintf("{\"pipeline\":%q,\"window\":%q,\"start\":%q,\"end\":%q,\"key\":%s,\"values\":%s}\n",
				m.Spec.Name, row.Window, at(row.Start), at(row.Start.Add(time.Hour)), row.Key, side.values))
		}
	}
	requireRows(m.T, want.was, was)
	requireRows(m.T, want.is, is)
}

// requireRows compares rows as the oracle does.
func requireRows(t *testing.T, want, got []string) {
	t.Helper()
	d, err := oracle.Compare(strings.NewReader(strings.Join(want, "")), strings.NewReader(strings.Join(got, "")), oracle.Options{})
	require.NoError(t, err)
	require.True(t, d.Equal(), "%s", d)
}

// replay starts one over a range and follows it until it asks; it returns its status.
func (m *mistake) replay(id string, from, to time.Time, args ...string) contract.ReplayStatus {
	m.T.Helper()
	m.Must(m.replayArgs(id, from, to, args...)...)
	s := m.replayed(id)
	require.Equal(m.T, contract.StateAsking, s.State, s.Note)
	return s
}

func (m *mistake) replayArgs(id string, from, to time.Time, args ...string) []string {
	return append([]string{"replay", m.Spec.Name, "--id", id, "--from", at(from), "--to", at(to)}, args...)
}

// requireSummary wants a replay to name exactly the windows that differ.
func (m *mistake) requireSummary(s *contract.ReplaySummary, want difference) {
	m.T.Helper()
	require.NotNil(m.T, s)
	var starts []time.Time
	for _, d := range s.Differences {
		starts = append(starts, time.UnixMilli(d.Start).UTC())
	}
	require.Equal(m.T, want.starts(m.T), starts)
	require.Equal(m.T, len(want.starts(m.T)), s.Differ)
	require.Zero(m.T, s.Added+s.Removed)
	require.EqualValues(m.T, len(want.was), s.Changed)
}

// shadowKeys are the keys that Redis holds of a replay's shadow.
func (m *mistake) shadowKeys(id string) (names []string) {
	m.T.Helper()
	namespace := store.ShadowID{Pipeline: m.Spec.Name, ID: id}.Namespace()
	require.NoError(m.T, m.Store.ScanPipeline(context.Background(), namespace, func(keys []store.PipelineKey) error {
		for _, k := range keys {
			names = append(names, k.Name)
		}
		return nil
	}))
	return names
}

// revisions are those of the windows of the ledger, by start.
func (m *mistake) revisions() map[time.Time]int {
	m.T.Helper()
	revisions := make(map[time.Time]int)
	for _, row := range m.Ledger() {
		revisions[time.UnixMilli(row.Start).UTC()] = row.Revision
	}
	return revisions
}

// requireClean has `millrace verify` look at everything.
func (m *mistake) requireClean() {
	m.T.Helper()
	a := m.CLI("verify", m.Spec.Name, "--spec", m.File)
	require.Zero(m.T, a.Code, "%s%s", a.Out, a.Err)
	require.Contains(m.T, a.Out, "everything agrees")
}

// flightAt is an event of the example.
func flightAt(t time.Time) []byte {
	return fmt.Appendf(nil, `{"scheduled":%d,"reported":%[1]d,"origin":"SFO","destination":"LAX","delay":1000,"distance":337}`, t.Unix())
}

// replayAll replays a range and approves what differs.
func (m *mistake) replayAll(id string, from, to time.Time, args ...string) {
	m.T.Helper()
	asks := m.replay(id, from, to, args...)
	m.Must("replay", "approve", m.Spec.Name, id, asks.Summary.Checksum)
	require.Empty(m.T, m.shadowKeys(id))
}

// shadowProgress is how many offsets the lanes of a replay's shadow have committed, and are to read.
func (m *mistake) shadowProgress(id string) (done, total int64) {
	m.T.Helper()
	p, err := shadow.Load(context.Background(), m.Store, m.Spec.Name, id)
	if errors.Is(err, store.ErrNoShadow) {
		return 0, 0
	}
	require.NoError(m.T, err)
	for i := range p.Lanes {
		l := &p.Lanes[i]
		total += l.Offsets()
		meta, found, err := m.Store.ReadMeta(context.Background(), store.LaneID{
			Pipeline: store.ShadowID{Pipeline: m.Spec.Name, ID: id}.Namespace(), Topic: l.Topic, Partition: l.Partition,
		})
		require.NoError(m.T, err)
		if found {
			done += max(0, meta.Offset-l.Start)
		}
	}
	return done, total
}

// begunReading reports whether a replay's shadow has committed anything.
func (m *mistake) begunReading(id string) bool {
	m.T.Helper()
	done, _ := m.shadowProgress(id)
	return done > 0
}

// requirePublished wants the windows of the range to be published as the right spec counts them, the late one with whatever has come,
// and all others as the wrong one does.
func (m *mistake) requirePublished(from, to, late time.Time) {
	m.T.Helper()
	const endless = 100 * 365 * 24 * time.Hour
	rows := m.counted(m.YAML, firstOfJanuary, hourOf(48), 0)
	for name, row := range m.counted(m.fixed, from, to, 0) {
		rows[name] = row
	}
	for name, row := range m.counted(m.fixed, late, late.Add(time.Hour), endless) {
		rows[name] = row
	}
	published := make(map[time.Time]bool)
	for _, row := range m.Ledger() {
		published[time.UnixMilli(row.Start).UTC()] = true
	}
	var want, got []string
	for _, row := range m.Latest() {
		got = append(got, string(row)+"\n")
	}
	for _, row := range slices.Sorted(maps.Values(rows)) {
		var start struct{ Start time.Time }
		require.NoError(m.T, json.Unmarshal([]byte(row), &start))
		if published[start.Start] {
			want = append(want, row)
		}
	}
	requireRows(m.T, want, got)
}
