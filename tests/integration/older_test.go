package integration

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/tests/rig"
)

// What a release before state pages and before closing in one pass has left in Redis and in Kafka is
// taken up: lanes are restored from fields to exactly the state that they had, and what is published
// from then on is exact, late events for windows that the older release has published included.
func TestStateOfAnOlderRelease(t *testing.T) {
	t.Parallel()
	for _, format := range []struct {
		name string
		keep string // why lanes stay in fields
		want int
	}{
		{"fields", "the test keeps them", store.FieldFormat},
		{"pages", "", store.PageFormat},
	} {
		t.Run(format.name, func(t *testing.T) {
			t.Parallel()
			p := takeUp(t)
			published := p.latestRows()
			h := p.measuredHotPath(nil, func(cfg *engine.Config) { cfg.KeepFields = func() string { return format.keep } })
			p.Commits(3)
			h.verify()
			for n := range p.Parts {
				m, _ := p.Meta(n)
				require.Equal(t, format.want, m.Format)
			}
			for _, r := range olderInput()[olderRead:] {
				p.Send(r.Partition, r.Value)
			}
			h.finish()
			p.RequireResults()
			h.verify()
			var corrected []ledger.WindowID
			for id, row := range p.latestRows() {
				if before, is := published[id]; is && row.Revision > before.Revision {
					corrected = append(corrected, id)
				}
			}
			require.NotEmpty(t, corrected, "late events have corrected windows of the older release")
			p.requireContents(corrected...)
			counted := p.Recount(false)
			require.Empty(t, counted.Wrong)
			require.Empty(t, counted.Refused)
			require.Equal(t, counted.Windows, counted.Equal)
		})
	}
}

// Contents that the older release has published are read. A pipeline that is drained at once publishes what the older
// release had folded, and nothing else.
func TestStateOfAnOlderReleaseIsDrained(t *testing.T) {
	t.Parallel()
	p := takeUp(t)
	published := p.latestRows()
	p.requireContents(slices.Collect(maps.Keys(published))...)
	corrected := 0
	for id, row := range published {
		if row.Revision > 1 {
			corrected++
			p.requireFirst(id)
		}
	}
	require.Positive(t, corrected)
	h := p.hotPath()
	h.finish()
	p.RequireResults()
	h.verify()
	for id, row := range p.latestRows() {
		if before, is := published[id]; is {
			require.Equal(t, before.Revision, row.Revision, "%s", id)
		}
	}
}

// takeUp loads what the older release has left into servers of the test's own.
func takeUp(t *testing.T) *pipeline {
	t.Helper()
	addr := rig.AnyRedis(t)
	w := newWorld(t, rig.Servers{Kafka: rig.OwnBroker(t).Addr, Redis: addr})
	p := w.newPipeline(olderPipeline, olderPartitions, named)
	ids := loadTopics(t, p)
	loadKeys(t, storetest.Client(t, addr, false), ids)
	require.Equal(t, int64(olderRead), p.Total())
	return p
}

// readRecording reads a file of the recording.
func readRecording(t *testing.T, name string, ids func([]byte) []byte) (lines []recordedLine) {
	t.Helper()
	f, err := os.Open(filepath.Join(olderDir, name))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	decode := json.NewDecoder(bytes.NewReader(ids(text)))
	for {
		var l recordedLine
		if err := decode.Decode(&l); errors.Is(err, io.EOF) {
			return lines
		}
		require.NoError(t, err)
		lines = append(lines, l)
	}
}

// loadTopics makes the recorded topics, with every record at its offset, and returns what gives a text the ids that the
// topics have now: rows, and the state of lanes, name the topics that they belong to.
func loadTopics(t *testing.T, p *pipeline) (ids func([]byte) []byte) {
	t.Helper()
	ctx := t.Context()
	var renamed [][2][]byte
	ids = func(text []byte) []byte {
		for _, r := range renamed {
			text = bytes.ReplaceAll(text, r[0], r[1])
		}
		return text
	}
	for _, l := range readRecording(t, "kafka.jsonl.gz", ids) {
		if l.Topic == nil {
			continue
		}
		// The records are as old as the recording; without a limit no broker deletes them.
		is, err := p.Cluster.EnsureTopic(ctx, source.TopicSpec{Name: l.Topic.Name, Partitions: l.Topic.Partitions,
			Compacted: l.Topic.Name == ledger.Topic(p.Spec.Name), Config: map[string]string{"retention.ms": "-1"}})
		require.NoError(t, err)
		require.Len(t, is.ID, len(l.Topic.ID))
		renamed = append(renamed, [2][]byte{[]byte(l.Topic.ID), []byte(is.ID)})
	}
	records := make(map[source.TopicPartition][]*recordedMessage)
	committed := make(map[source.TopicPartition]source.Committed)
	for _, l := range readRecording(t, "kafka.jsonl.gz", ids) {
		switch {
		case l.At != nil:
			tp := source.TopicPartition{Topic: l.At.Topic, Partition: l.At.Partition}
			records[tp] = append(records[tp], l.At)
			if tp.Topic == p.Topic() {
				p.Remember(tp.Partition, l.At.Time, []byte(*l.At.Value))
			}
		case l.Read != nil:
			tp := source.TopicPartition{Topic: p.Topic(), Partition: l.Read.Partition}
			committed[tp] = source.Committed{Offset: l.Read.Offset, Metadata: l.Read.Metadata}
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.Kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID("recorded"), kgo.ProducerLinger(0))
	require.NoError(t, err)
	defer client.Close()
	for tp, all := range records {
		if tp.Topic == p.Spec.Results.Kafka.Topic || tp.Topic == ledger.Topic(p.Spec.Name) {
			loadTransactions(t, client, tp, all)
			continue
		}
		plain := producible(all)
		require.NoError(t, p.Raw.ProduceSync(ctx, plain...).FirstErr())
		require.Equal(t, all[len(all)-1].Offset, plain[len(plain)-1].Offset, "%s", tp)
	}
	require.NoError(t, p.Cluster.Commit(ctx, engine.Group(p.Spec.Name), committed))
	return ids
}

// loadTransactions writes records in as many transactions as there are gaps between their offsets: the
// marker that ends one takes an offset. Where a gap is longer, transactions without records fill it.
func loadTransactions(t *testing.T, client *kgo.Client, tp source.TopicPartition, all []*recordedMessage) {
	t.Helper()
	ctx := t.Context()
	for next := int64(0); len(all) > 0; next++ {
		if all[0].Offset > next {
			markPartition(t, client, tp)
			continue
		}
		n := 1
		for n < len(all) && all[n].Offset == all[n-1].Offset+1 {
			n++
		}
		records := producible(all[:n])
		require.NoError(t, client.BeginTransaction())
		require.NoError(t, client.ProduceSync(ctx, records...).FirstErr())
		require.NoError(t, client.EndTransaction(ctx, kgo.TryCommit))
		next = all[n-1].Offset + 1
		require.Equal(t, next-1, records[n-1].Offset, "%s", tp)
		all = all[n:]
	}
}

// markPartition has a transaction without records end in a partition.
func markPartition(t *testing.T, client *kgo.Client, tp source.TopicPartition) {
	t.Helper()
	ctx := t.Context()
	id := "marker"
	begin := kmsg.NewPtrInitProducerIDRequest()
	begin.TransactionalID, begin.TransactionTimeoutMillis = &id, 60_000
	producer, err := begin.RequestWith(ctx, client)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(producer.ErrorCode))
	partition := kmsg.NewAddPartitionsToTxnRequestTopic()
	partition.Topic, partition.Partitions = tp.Topic, []int32{tp.Partition}
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, producer.ProducerID, producer.ProducerEpoch
	add.Topics = append(add.Topics, partition)
	added, err := add.RequestWith(ctx, client)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(added.Topics[0].Partitions[0].ErrorCode))
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = id, producer.ProducerID, producer.ProducerEpoch
	end.Commit = true
	ended, err := end.RequestWith(ctx, client)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(ended.ErrorCode))
}

// producible are recorded records for a client to send.
func producible(all []*recordedMessage) (records []*kgo.Record) {
	for _, m := range all {
		r := &kgo.Record{Topic: m.Topic, Partition: m.Partition, Timestamp: time.UnixMilli(m.Time)}
		if m.Key != "" {
			r.Key = []byte(m.Key)
		}
		if m.Value != nil {
			r.Value = []byte(*m.Value)
		}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		records = append(records, r)
	}
	return records
}

// loadKeys writes the recorded keys to Redis.
func loadKeys(t *testing.T, client redis.UniversalClient, ids func([]byte) []byte) {
	t.Helper()
	ctx := t.Context()
	for _, l := range readRecording(t, "redis.jsonl.gz", func(text []byte) []byte { return text }) {
		for _, it := range l.Items {
			name, value := string(ids(it.Name)), ids(it.Value)
			switch l.Type {
			case "string":
				require.NoError(t, client.Set(ctx, l.Key, value, 0).Err())
			case "hash":
				require.NoError(t, client.HSet(ctx, l.Key, name, value).Err())
			case "zset":
				require.NoError(t, client.ZAdd(ctx, l.Key, redis.Z{Score: it.Score, Member: name}).Err())
			}
		}
		if l.TTL > 0 {
			require.NoError(t, client.PExpire(ctx, l.Key, time.Duration(l.TTL)*time.Millisecond).Err())
		}
	}
}

// latestRows are the latest rows of the ledger by their windows.
func (p *pipeline) latestRows() map[ledger.WindowID]ledger.Row {
	p.T.Helper()
	rows := make(map[ledger.WindowID]ledger.Row)
	for _, row := range p.Ledger() {
		rows[row.ID()] = row
	}
	require.NotEmpty(p.T, rows)
	return rows
}

// requireContents wants `millrace windows get` to print of windows what the result topic has of them.
func (p *pipeline) requireContents(ids ...ledger.WindowID) {
	p.T.Helper()
	content := make(map[ledger.WindowID][]string)
	for _, text := range p.Latest() {
		id, _ := p.windowOf(text)
		content[id] = append(content[id], string(text))
	}
	for _, id := range ids {
		p.requirePrinted(content[id], id)
	}
}

// requireFirst wants `millrace windows get` to print the first revision of a window, of which an older
// release has written all rows.
func (p *pipeline) requireFirst(id ledger.WindowID) {
	p.T.Helper()
	var rows []string
	for _, r := range p.Read(p.Spec.Results.Kafka.Topic) {
		if of, revision := p.windowOf(r.Value); of == id && revision == 1 {
			rows = append(rows, string(r.Value))
		}
	}
	p.requirePrinted(rows, id, "--revision", "1")
}

// windowOf is the window and the revision of a result row.
func (p *pipeline) windowOf(text []byte) (id ledger.WindowID, revision int) {
	p.T.Helper()
	var row struct {
		Window   string
		Start    time.Time
		Revision int
	}
	require.NoError(p.T, json.Unmarshal(text, &row))
	return ledger.WindowID{Window: row.Window, Start: row.Start.UnixMilli()}, row.Revision
}

func (p *pipeline) requirePrinted(want []string, id ledger.WindowID, args ...string) {
	p.T.Helper()
	args = append([]string{"windows", "get", p.Spec.Name, id.Window, fmt.Sprint(id.Start), "--json"}, args...)
	text := p.Must(args...).Out
	var printed []json.RawMessage
	require.NoError(p.T, json.Unmarshal([]byte(text), &printed), "%s", text)
	var got []string
	for _, row := range printed {
		got = append(got, string(row))
	}
	require.NotEmpty(p.T, got)
	require.ElementsMatch(p.T, want, got, "%s", id)
}
