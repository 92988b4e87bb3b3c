package rig

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/tests/oracle"
)

// RequireExact compares everything that was published with the oracle: results, late and dead-letter records,
// counters; and has `millrace verify` look at it.
func (p *Pipeline) RequireExact() {
	p.T.Helper()
	p.RequireResults()
	a := p.CLI("verify", p.Spec.Name, "--spec", p.File)
	require.Zero(p.T, a.Code, "millrace verify: exit code %d\n%s%s", a.Code, a.Out, a.Err)
}

// edition is what rows say since the second life of their pipeline.
var edition = regexp.MustCompile(`"edition":\d+,`)

// RequireResults is requireExact without `millrace verify`.
func (p *Pipeline) RequireResults() {
	p.T.Helper()
	var actual bytes.Buffer
	for _, row := range p.Latest() {
		actual.Write(edition.ReplaceAll(row, nil)) // the oracle knows of one life of a pipeline
		actual.WriteByte('\n')
	}
	want := p.expect(actual.Bytes())
	for _, lane := range want.Lanes {
		m, found := p.Meta(lane.Partition)
		require.True(p.T, found)
		c, gone := lane.Counters, p.Skipped[lane.Partition]
		require.Equal(p.T, store.Counters{
			Read: c.Read, Invalid: c.Invalid, Ahead: c.Ahead, Past: c.Past, Jumped: c.Jumped,
			Filtered: c.Filtered, Late: c.Late, Folded: c.Folded, Skipped: gone[1] - gone[0],
		}, m.Counters, "partition %d", lane.Partition)
	}
	p.RequireSides(want.Late, want.Totals)
}

// expected is what the oracle says beside the results.
type expected struct {
	Totals oracle.Counters     `json:"totals"`
	Lanes  []oracle.LaneResult `json:"lanes"`
	Late   []oracle.Late       `json:"late"`
}

// expect has the oracle compare the results for everything that was fed.
func (p *Pipeline) expect(actual []byte) expected {
	p.T.Helper()
	if p.Total() == int64(len(p.Lines)) && len(p.Lines) > 5000 && len(p.Skipped) == 0 {
		return p.expectProgram(actual)
	}
	o, err := oracle.ReadSpec(p.YAML)
	require.NoError(p.T, err)
	o.Name = p.Spec.Name
	res, err := oracle.Run(o, p.kept())
	require.NoError(p.T, err)
	var rows bytes.Buffer
	require.NoError(p.T, res.WriteJSON(&rows))
	diff, err := oracle.Compare(&rows, bytes.NewReader(actual), oracle.Options{})
	require.NoError(p.T, err)
	require.True(p.T, diff.Equal(), "%s", diff)
	return expected{res.Totals(), res.Lanes, res.Late}
}

// kept is what was fed but for what was given up.
func (p *Pipeline) kept() []oracle.Lane {
	lanes := slices.Clone(p.Fed)
	for i := range lanes {
		gone := p.Skipped[lanes[i].Partition]
		lanes[i].Records = slices.DeleteFunc(slices.Clone(lanes[i].Records), func(r oracle.Record) bool {
			return r.Offset >= gone[0] && r.Offset < gone[1]
		})
	}
	return lanes
}

// expectProgram asks the oracle's program, which is not slowed down by the race detector.
func (p *Pipeline) expectProgram(actual []byte) (want expected) {
	p.T.Helper()
	dir := p.T.TempDir()
	files := map[string][]byte{
		"spec.yaml":    bytes.Replace(p.YAML, []byte("name: "), []byte("name: "+p.Spec.Name+" # "), 1),
		"feed.jsonl":   append(bytes.Join(p.Lines, []byte("\n")), '\n'),
		"actual.jsonl": actual,
	}
	for name, text := range files {
		require.NoError(p.T, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	args := []string{"--spec", filepath.Join(dir, "spec.yaml"), "--feed", filepath.Join(dir, "feed.jsonl"), "--partitions", strconv.Itoa(int(p.Parts))}
	a := RunProgram(p.T, nil, "oracle", append(args, "--counts", "--compare", filepath.Join(dir, "actual.jsonl"))...)
	require.Zero(p.T, a.Code, "%s%s", a.Err, a.Out[strings.IndexByte(a.Out, '\n')+1:])
	counts, _, _ := strings.Cut(a.Out, "\n")
	p.decode(counts, &want)
	return want
}

// Place is where a record came from.
type Place struct {
	Partition int32
	Offset    int64
}

// RequireSides wants the late and the dead-letter topic to hold what the oracle says; after a crash a record may stand
// there twice, never with two reasons.
func (p *Pipeline) RequireSides(late []oracle.Late, totals oracle.Counters) {
	p.T.Helper()
	want := make(map[Place]string)
	for _, l := range late {
		reason := "late_for_some"
		if l.All {
			reason = "late"
		}
		want[Place{l.Partition, l.Offset}] = reason
	}
	if sink := p.Spec.Late.Kafka; sink != nil {
		require.Equal(p.T, want, p.Side(sink.Topic))
	}
	if sink := p.Spec.DeadLetter.Kafka; sink != nil {
		require.Len(p.T, p.Side(sink.Topic), int(totals.Invalid+totals.Ahead+totals.Past+totals.Jumped))
	}
}

// Side reads a late or dead-letter topic: where its records came from, and why they are there.
func (p *Pipeline) Side(topic string) map[Place]string {
	p.T.Helper()
	found := make(map[Place]string)
	for _, r := range p.Read(topic) {
		h := Headers(r)
		require.Equal(p.T, p.Topic(), h["mr-topic"])
		var at Place
		_, err := fmt.Sscan(h["mr-partition"]+" "+h["mr-offset"], &at.Partition, &at.Offset)
		require.NoError(p.T, err)
		if before, twice := found[at]; twice {
			require.Equal(p.T, before, h["mr-reason"], "%v", at)
		}
		fed := p.Fed[at.Partition].Records // in the order of their offsets, without those that were given up
		i, known := slices.BinarySearchFunc(fed, at.Offset, func(r oracle.Record, offset int64) int { return cmp.Compare(r.Offset, offset) })
		require.True(p.T, known, "%v was not fed", at)
		require.Equal(p.T, fed[i].Value, r.Value, "%v", at)
		found[at] = h["mr-reason"]
	}
	return found
}

// Headers are a record's headers by name.
func Headers(r *kgo.Record) map[string]string {
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
	Edition  int             `json:"edition"`
	Revision int             `json:"revision"`
	Deleted  bool            `json:"deleted"`
	text     []byte
}

// Latest returns the last revision in the last edition of every window and key, sorted by window, start and key. No revision
// of a key may stand in an edition twice, be it with the same content or with another.
func (p *Pipeline) Latest() [][]byte {
	p.T.Helper()
	rows, twice := p.Published()
	require.Empty(p.T, twice, "published twice")
	return rows
}

// Published is Latest that leaves it to the caller what to think of revisions that stand there twice.
func (p *Pipeline) Published() (latest [][]byte, twice []string) {
	p.T.Helper()
	seen := make(map[string][]byte)
	last := make(map[string]published)
	for _, r := range p.Read(p.Spec.Results.Kafka.Topic) {
		row := published{text: r.Value}
		require.NoError(p.T, json.Unmarshal(r.Value, &row), "%s", r.Value)
		name := fmt.Sprintf("%s %s %s", row.Window, row.Start, row.Key)
		revision := fmt.Sprintf("%s edition %d revision %d", name, row.Edition, row.Revision)
		if before, again := seen[revision]; again {
			twice = append(twice, fmt.Sprintf("%s\n%s", before, r.Value))
		}
		seen[revision] = r.Value
		if before := last[name]; cmp.Or(cmp.Compare(row.Edition, before.Edition), cmp.Compare(row.Revision, before.Revision)) > 0 {
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
	latest = make([][]byte, len(rows))
	for i := range rows {
		latest[i] = rows[i].text
	}
	return latest, twice
}

// Read returns all committed records of a topic, with a client that shares no code with the pipeline.
func (p *Pipeline) Read(topic string) []*kgo.Record {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	partitions, err := p.Cluster.Partitions(ctx, topic)
	require.NoError(p.T, err)
	var tps []source.TopicPartition
	for _, n := range partitions {
		tps = append(tps, source.TopicPartition{Topic: topic, Partition: n})
	}
	ends := p.stableEnds(ctx, tps)
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
		kgo.SeedBrokers(p.Kafka.Brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
	)
	require.NoError(p.T, err)
	defer c.Close()
	var records []*kgo.Record
	for len(from) > 0 {
		fetches := c.PollFetches(ctx)
		require.NoError(p.T, fetches.Err0())
		fetches.EachError(func(_ string, _ int32, err error) { require.NoError(p.T, err) })
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

// markerPatience is how long Read waits for the markers of transactions that have been committed.
const markerPatience = 10 * time.Second

// stableEnds returns where partitions end. The broker answers a commit before it writes the
// transaction's markers, and until then the rows are hidden: it waits for what was written before
// it was called. Rows of a transaction that stays open are left out.
func (p *Pipeline) stableEnds(ctx context.Context, tps []source.TopicPartition) map[source.TopicPartition]source.Ends {
	p.T.Helper()
	written, err := p.Cluster.Ends(ctx, tps...)
	require.NoError(p.T, err)
	limit := time.After(markerPatience)
	for ends := written; ; {
		hidden := func(tp source.TopicPartition) bool { return ends[tp].End < written[tp].HighWatermark }
		if !slices.ContainsFunc(tps, hidden) {
			return ends
		}
		select {
		case <-limit:
			return ends
		case <-time.After(10 * time.Millisecond):
		}
		ends, err = p.Cluster.Ends(ctx, tps...)
		require.NoError(p.T, err)
	}
}
