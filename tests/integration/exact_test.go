package integration

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/tests/oracle"
)

// requireExact compares everything that was published with the oracle: results, late and dead-letter records,
// counters; and has `millrace verify` look at it.
func (p *pipeline) requireExact() {
	p.t.Helper()
	p.requireResults()
	a := p.cli("verify", p.spec.Name, "--spec", p.file)
	require.Zero(p.t, a.code, "millrace verify: exit code %d\n%s%s", a.code, a.out, a.err)
}

// requireResults is requireExact without `millrace verify`.
func (p *pipeline) requireResults() {
	p.t.Helper()
	var actual bytes.Buffer
	for _, row := range p.latest() {
		actual.Write(row)
		actual.WriteByte('\n')
	}
	want := p.expect(actual.Bytes())
	for _, lane := range want.Lanes {
		m, found := p.meta(lane.Partition)
		require.True(p.t, found)
		c := lane.Counters
		require.Equal(p.t, store.Counters{Read: c.Read, Invalid: c.Invalid, Ahead: c.Ahead, Filtered: c.Filtered, Late: c.Late, Folded: c.Folded},
			m.Counters, "partition %d", lane.Partition)
	}
	p.requireSides(want)
}

// expected is what the oracle says beside the results.
type expected struct {
	Totals oracle.Counters     `json:"totals"`
	Lanes  []oracle.LaneResult `json:"lanes"`
	Late   []oracle.Late       `json:"late"`
}

// expect has the oracle compare the results for everything that was fed.
func (p *pipeline) expect(actual []byte) expected {
	p.t.Helper()
	if p.total() == int64(len(p.lines)) && len(p.lines) > 5000 {
		return p.expectProgram(actual)
	}
	o, err := oracle.ReadSpec(p.yaml)
	require.NoError(p.t, err)
	o.Name = p.spec.Name
	res, err := oracle.Run(o, p.fed)
	require.NoError(p.t, err)
	var rows bytes.Buffer
	require.NoError(p.t, res.WriteJSON(&rows))
	diff, err := oracle.Compare(&rows, bytes.NewReader(actual), oracle.Options{})
	require.NoError(p.t, err)
	require.True(p.t, diff.Equal(), "%s", diff)
	return expected{res.Totals(), res.Lanes, res.Late}
}

// expectProgram asks the oracle's program, which is not slowed down by the race detector.
func (p *pipeline) expectProgram(actual []byte) (want expected) {
	p.t.Helper()
	dir := p.t.TempDir()
	files := map[string][]byte{
		"spec.yaml":    bytes.Replace(p.yaml, []byte("name: "), []byte("name: "+p.spec.Name+" # "), 1),
		"feed.jsonl":   append(bytes.Join(p.lines, []byte("\n")), '\n'),
		"actual.jsonl": actual,
	}
	for name, text := range files {
		require.NoError(p.t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	args := []string{"--spec", filepath.Join(dir, "spec.yaml"), "--feed", filepath.Join(dir, "feed.jsonl"), "--partitions", strconv.Itoa(int(p.parts))}
	a := runProgram(p.t, nil, "oracle", append(args, "--counts", "--compare", filepath.Join(dir, "actual.jsonl"))...)
	require.Zero(p.t, a.code, "%s%s", a.err, a.out[strings.IndexByte(a.out, '\n')+1:])
	counts, _, _ := strings.Cut(a.out, "\n")
	p.decode(counts, &want)
	return want
}

// place is where a record came from.
type place struct {
	Partition int32
	Offset    int64
}

// requireSides wants the late and the dead-letter topic to hold what the oracle says; after a crash a record may stand
// there twice, never with two reasons.
func (p *pipeline) requireSides(want expected) {
	p.t.Helper()
	late := make(map[place]string)
	for _, l := range want.Late {
		reason := "late_for_some"
		if l.All {
			reason = "late"
		}
		late[place{l.Partition, l.Offset}] = reason
	}
	if sink := p.spec.Late.Kafka; sink != nil {
		require.Equal(p.t, late, p.side(sink.Topic))
	}
	if sink := p.spec.DeadLetter.Kafka; sink != nil {
		require.Len(p.t, p.side(sink.Topic), int(want.Totals.Invalid+want.Totals.Ahead))
	}
}

// side reads a late or dead-letter topic: where its records came from, and why they are there.
func (p *pipeline) side(topic string) map[place]string {
	p.t.Helper()
	found := make(map[place]string)
	for _, r := range p.read(topic) {
		h := headers(r)
		require.Equal(p.t, p.topic(), h["mr-topic"])
		var at place
		_, err := fmt.Sscan(h["mr-partition"]+" "+h["mr-offset"], &at.Partition, &at.Offset)
		require.NoError(p.t, err)
		if before, twice := found[at]; twice {
			require.Equal(p.t, before, h["mr-reason"], "%v", at)
		}
		require.Equal(p.t, p.fed[at.Partition].Records[at.Offset].Value, r.Value, "%v", at)
		found[at] = h["mr-reason"]
	}
	return found
}

func headers(r *kgo.Record) map[string]string {
	h := make(map[string]string, len(r.Headers))
	for _, header := range r.Headers {
		h[header.Key] = string(header.Value)
	}
	return h
}

// published is what the result topic says about one window and key.
type published struct {
	Window   string          `json:"window"`
	Start    string          `json:"start"`
	Key      json.RawMessage `json:"key"`
	Revision int             `json:"revision"`
	Deleted  bool            `json:"deleted"`
	text     []byte
}

// latest returns the last revision of every window and key, sorted by window, start and key. No revision of a key may stand in
// the topic twice, be it with the same content or with another.
func (p *pipeline) latest() [][]byte {
	p.t.Helper()
	seen := make(map[string][]byte)
	last := make(map[string]published)
	for _, r := range p.read(p.spec.Results.Kafka.Topic) {
		row := published{text: r.Value}
		require.NoError(p.t, json.Unmarshal(r.Value, &row), "%s", r.Value)
		name := fmt.Sprintf("%s %s %s", row.Window, row.Start, row.Key)
		revision := fmt.Sprintf("%s revision %d", name, row.Revision)
		if before, twice := seen[revision]; twice {
			require.FailNow(p.t, "published twice", "%s\n%s", before, r.Value)
		}
		seen[revision] = r.Value
		if row.Revision > last[name].Revision {
			last[name] = row
		}
	}
	rows := make([]published, 0, len(last))
	for _, row := range last {
		if !row.Deleted {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b published) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), strings.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key))
	})
	texts := make([][]byte, len(rows))
	for i := range rows {
		texts[i] = rows[i].text
	}
	return texts
}

// read returns all committed records of a topic, with a client that shares no code with the pipeline.
func (p *pipeline) read(topic string) []*kgo.Record {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	partitions, err := p.cluster.Partitions(ctx, topic)
	require.NoError(p.t, err)
	var tps []source.TopicPartition
	for _, n := range partitions {
		tps = append(tps, source.TopicPartition{Topic: topic, Partition: n})
	}
	ends, err := p.cluster.Ends(ctx, tps...)
	require.NoError(p.t, err)
	from := make(map[int32]kgo.Offset)
	for tp, e := range ends {
		if e.End > e.Start {
			from[tp.Partition] = kgo.NewOffset().AtStart()
		}
	}
	if len(from) == 0 {
		return nil
	}
	c, err := kgo.NewClient(
		kgo.SeedBrokers(p.kafka.Brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
	)
	require.NoError(p.t, err)
	defer c.Close()
	var records []*kgo.Record
	for len(from) > 0 {
		fetches := c.PollFetches(ctx)
		require.NoError(p.t, fetches.Err0())
		fetches.EachError(func(_ string, _ int32, err error) { require.NoError(p.t, err) })
		fetches.EachRecord(func(r *kgo.Record) {
			end := ends[source.TopicPartition{Topic: topic, Partition: r.Partition}].End
			if !r.Attrs.IsControl() && r.Offset < end {
				records = append(records, r)
			}
			if r.Offset+1 >= end { // the last offset is a record, or the marker of a transaction
				delete(from, r.Partition)
			}
		})
	}
	return records
}

var flightsOnce = sync.OnceValues(func() (yaml string, lines [][]byte) {
	text, err := os.ReadFile("../../examples/flights/flights.yaml")
	if err != nil {
		return "", nil
	}
	f, err := os.Open("../../examples/flights/flights-2001-01.jsonl.gz")
	if err != nil {
		return "", nil
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", nil
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return "", nil
	}
	return string(text), oracle.Lines(data)
})

// flights is the example of the repository: its spec, and the first most lines of its input; 0 is all of them.
func flights(t *testing.T, most int) (yaml string, lines [][]byte) {
	t.Helper()
	yaml, lines = flightsOnce()
	require.NotEmpty(t, lines)
	if most > 0 && !long {
		lines = lines[:most]
	}
	return yaml, lines
}
