package integration

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store/storetest"
	"millrace/tests/rig"
)

var flagOlder = flag.String("older", "", "directory with millrace and worker of an older release, for TestRecordOlder")

// olderDir is where the state of an older release is kept.
const olderDir = "testdata/older"

// olderPipeline is what the older release ran: every function, two window families that share slices,
// revisions by lateness.
const olderPipeline = `
name: older
source: {topics: [older], format: json}
event:
  key: [k, "on"]
  time: {field: t, unit: ms}
aggregates:
  n:     {func: count}
  sum:   {func: sum, field: v, type: int}
  share: {func: sum, field: f}
  mean:  {func: avg, field: v, type: int}
  low:   {func: min, field: v, type: int}
  high:  {func: max, field: f}
  first: {func: first, field: id}
  last:  {func: last, field: id}
where: v != 7
windows: [{name: minute, size: 1m}, {name: five, size: 5m}]
watermark: {out_of_orderness: 30s, idle_timeout: 0s}
allowed_lateness: 4m
retention: {results: 3650d, ledger: 3650d}
results:     {kafka: {topic: older.results}}
late:        {kafka: {topic: older.late}}
dead_letter: {kafka: {topic: older.dead}}
lane: {commit_interval: 100ms, buckets: 4}
`

const (
	olderPartitions = 3
	// olderEvents is how many events there are in all; the older release has read the first olderRead of them.
	olderEvents = 1500
	olderRead   = 1000
	// olderChunk is how many it was given at once: some of the next ones are late for what was published meanwhile.
	olderChunk = 200
	// olderBegins is the time of the first event, in ms.
	olderBegins = int64(1_699_963_200_000)
)

// olderInput makes the events: one in 1.5 s of event time, two in five of them older than the newest by up to 100 s.
func olderInput() []rig.Addressed {
	rng := rand.New(rand.NewPCG(3, 25164))
	records := make([]rig.Addressed, olderEvents)
	for i := range records {
		t := olderBegins + int64(i)*1500
		value := ""
		switch dice := rng.IntN(100); {
		case dice == 0:
			value = `{"k":"no time"}`
		case dice == 1 && i > 200:
			t -= 3_600_000
		case dice < 40:
			t -= rng.Int64N(100_000)
		}
		if value == "" {
			value = fmt.Sprintf(`{"k":"key-%d","on":%t,"t":%d,"v":%d,"f":%d.%d,"id":"e%d"}`,
				rng.IntN(4), rng.IntN(3) == 0, max(t, olderBegins), rng.IntN(1000)-500, rng.IntN(1000), rng.IntN(100), i)
		}
		records[i] = rig.Addressed{Partition: rng.Int32N(olderPartitions), Value: []byte(value)}
	}
	return records
}

// named gives a pipeline the names that the recorded state has. Its servers are of its own.
func named(s *spec.Spec) {
	s.Name, s.Source.Topics[0] = "older", "older"
	s.Results.Kafka.Topic, s.Late.Kafka.Topic, s.DeadLetter.Kafka.Topic = "older.results", "older.late", "older.dead"
}

// recordedLine is one line of a recording: a key of Redis, a topic, a record or what a consumer group has committed.
type recordedLine struct {
	Key   string           `json:"key,omitempty"` // of Redis
	Type  string           `json:"type,omitempty"`
	TTL   int64            `json:"ttl_ms,omitempty"`
	Items []recordedItem   `json:"items,omitempty"` // fields of a hash, members of a set, the value of a string
	Topic *recordedTopic   `json:"topic,omitempty"`
	Read  *recordedOffset  `json:"committed,omitempty"`
	At    *recordedMessage `json:"record,omitempty"`
}

// recordedItem is base64 in JSON.
type recordedItem struct {
	Name  []byte  `json:"name,omitempty"`
	Value []byte  `json:"value,omitempty"`
	Score float64 `json:"score,omitempty"`
}

type recordedTopic struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Partitions int32  `json:"partitions"`
}

type recordedOffset struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Metadata  string `json:"metadata"`
}

type recordedMessage struct {
	Topic     string      `json:"topic"`
	Partition int32       `json:"partition"`
	Offset    int64       `json:"offset"`
	Time      int64       `json:"time_ms"`
	Key       string      `json:"key,omitempty"`
	Value     *string     `json:"value"` // nil: a tombstone
	Headers   [][2]string `json:"headers,omitempty"`
}

// TestRecordOlder makes testdata/older anew: it runs workers of an older release until windows are
// open, published once or several times, and final, stops the pipeline, and records what Redis and
// Kafka then hold.
//
//	make fixtures-older
func TestRecordOlder(t *testing.T) {
	if *flagOlder == "" {
		t.Skip("no older release: make fixtures-older")
	}
	addr := rig.AnyRedis(t)
	w := newWorld(t, rig.Servers{Kafka: rig.OwnBroker(t).Addr, Redis: addr})
	p := w.newPipeline(olderPipeline, olderPartitions, named)
	var workers []*rig.Process
	for n := range 2 {
		program := w.WorkerProgram(fmt.Sprintf("older-%d", n+1))
		program.Path = filepath.Join(*flagOlder, "worker")
		workers = append(workers, rig.Spawn(t, program))
	}
	w.Ready(workers...)
	older := func(args ...string) {
		a := rig.RunProgram(t, w.Env(), filepath.Join(*flagOlder, "millrace"), args...)
		require.Zero(t, a.Code, "%s%s", a.Out, a.Err)
	}
	older("start", p.File)
	for n := olderChunk; n <= olderRead; n += olderChunk {
		for _, r := range olderInput()[n-olderChunk : n] {
			p.Send(r.Partition, r.Value)
		}
		due := olderBegins + int64(n)*1500 - 60_000 // the watermark of every lane has passed it
		rig.Eventually(t, "what is due is published", patience, func() bool {
			return slices.ContainsFunc(p.Ledger(), func(row ledger.Row) bool { return row.End >= due })
		})
	}
	p.Reach(olderRead)
	count := func() (final, open, again int) {
		for _, row := range p.Ledger() {
			if row.Final {
				final++
			} else {
				open++
			}
			if row.Revision > 1 {
				again++
			}
		}
		return final, open, again
	}
	older("stop", p.Spec.Name)
	final, open, again := count()
	t.Logf("%d windows are final, %d published and not final, %d of them more than once", final, open, again)
	require.True(t, final > 5 && open > 3 && again > 1)

	writeRecording(t, "redis.jsonl.gz", redisLines(t, storetest.Client(t, addr, false)))
	writeRecording(t, "kafka.jsonl.gz", kafkaLines(t, p))
}

// writeRecording writes a file of the recording.
func writeRecording(t *testing.T, name string, lines []recordedLine) {
	t.Helper()
	f, err := os.Create(filepath.Join(olderDir, name))
	require.NoError(t, err)
	out := gzip.NewWriter(f)
	encode := json.NewEncoder(out)
	encode.SetEscapeHTML(false)
	for _, l := range lines {
		require.NoError(t, encode.Encode(l))
	}
	require.NoError(t, out.Close())
	require.NoError(t, f.Close())
}

// redisLines are all keys of the pipeline. What workers say of themselves belongs to their namespace,
// not to the pipeline.
func redisLines(t *testing.T, client redis.UniversalClient) (lines []recordedLine) {
	t.Helper()
	ctx := t.Context()
	scan := client.Scan(ctx, 0, "*", 1000).Iterator()
	for scan.Next(ctx) {
		key := scan.Val()
		if strings.HasPrefix(key, "mr:presence:") {
			continue
		}
		lines = append(lines, redisLine(t, client, key))
	}
	require.NoError(t, scan.Err())
	slices.SortFunc(lines, func(a, b recordedLine) int { return cmp.Compare(a.Key, b.Key) })
	return lines
}

func redisLine(t *testing.T, client redis.UniversalClient, key string) recordedLine {
	t.Helper()
	ctx := t.Context()
	l := recordedLine{Key: key, Type: client.Type(ctx, key).Val()}
	ttl, err := client.PTTL(ctx, key).Result()
	require.NoError(t, err)
	l.TTL = max(0, ttl.Milliseconds())
	switch l.Type {
	case "string":
		value, err := client.Get(ctx, key).Bytes()
		require.NoError(t, err)
		l.Items = []recordedItem{{Value: value}}
	case "hash":
		fields, err := client.HGetAll(ctx, key).Result()
		require.NoError(t, err)
		for name, value := range fields {
			l.Items = append(l.Items, recordedItem{Name: []byte(name), Value: []byte(value)})
		}
	case "zset":
		members, err := client.ZRangeWithScores(ctx, key, 0, -1).Result()
		require.NoError(t, err)
		for _, m := range members {
			l.Items = append(l.Items, recordedItem{Name: []byte(m.Member.(string)), Score: m.Score})
		}
	default:
		require.FailNow(t, "a type that nobody records", "%s of %s", l.Type, key)
	}
	slices.SortFunc(l.Items, func(a, b recordedItem) int { return cmp.Compare(string(a.Name), string(b.Name)) })
	return l
}

// kafkaLines are the topics of the pipeline with their committed records, and what its group has committed.
func kafkaLines(t *testing.T, p *pipeline) (lines []recordedLine) {
	t.Helper()
	ctx := context.Background()
	s := p.Spec
	sides := []string{s.Late.Kafka.Topic, s.DeadLetter.Kafka.Topic}
	for _, name := range append(sides, p.Topic(), s.Results.Kafka.Topic, ledger.Topic(s.Name)) {
		is, err := p.Cluster.Topic(ctx, name)
		require.NoError(t, err)
		lines = append(lines, recordedLine{Topic: &recordedTopic{name, is.ID, int32(len(is.Partitions))}})
		records := p.Read(name)
		first := len(lines)
		for _, r := range records {
			require.True(t, utf8.Valid(r.Key) && utf8.Valid(r.Value), "%s/%d at %d is no text", name, r.Partition, r.Offset)
			m := &recordedMessage{
				Topic: name, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixMilli(), Key: string(r.Key),
			}
			if r.Value != nil {
				value := string(r.Value)
				m.Value = &value
			}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, [2]string{h.Key, string(h.Value)})
			}
			lines = append(lines, recordedLine{At: m})
		}
		slices.SortFunc(lines[first:], func(a, b recordedLine) int {
			return cmp.Or(cmp.Compare(a.At.Partition, b.At.Partition), cmp.Compare(a.At.Offset, b.At.Offset))
		})
	}
	var tps []source.TopicPartition
	for n := range p.Parts {
		tps = append(tps, source.TopicPartition{Topic: p.Topic(), Partition: n})
	}
	committed, err := p.Cluster.Committed(ctx, engine.Group(s.Name), tps...)
	require.NoError(t, err)
	for _, tp := range tps {
		lines = append(lines, recordedLine{Read: &recordedOffset{tp.Partition, committed[tp].Offset, committed[tp].Metadata}})
	}
	return lines
}
