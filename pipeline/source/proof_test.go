package source

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// remade is a topic of which a reader has read some, and which is then made again with three times as many records.
type remade struct {
	*kafka
	topic  string
	reader Reader
	late   atomic.Int64 // by how much the reader's clock is ahead
	asked  atomic.Int64 // metadata requests
}

// startRemade fills a topic with n records in batches of ten and opens a reader at its start.
func startRemade(t *testing.T, n int, change func(*ReaderConfig)) *remade {
	r := &remade{kafka: fakeKafka(t)}
	r.topic = r.kafka.topic(t, 1)
	r.fill(t, "old", n)
	id, err := r.cluster.TopicID(t.Context(), r.topic)
	require.NoError(t, err)
	r.fake.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		r.asked.Add(1)
		return nil, nil, false
	})
	r.reader = r.open(t, r.topic, 0, func(c *ReaderConfig) {
		c.TopicID = id
		c.now = func() time.Time { return time.Now().Add(time.Duration(r.late.Load())) }
		if change != nil {
			change(c)
		}
	})
	return r
}

func (r *remade) fill(t *testing.T, prefix string, n int) {
	p := r.producer(t, func(c *sarama.Config) { c.Producer.Flush.MaxMessages = 10 })
	values := numbers(prefix, n)
	for len(values) > 0 {
		produce(t, p, r.topic, values[:10]...)
		values = values[10:]
	}
}

// remake replaces the topic by another of its name. What the cluster knew of it stays as it was cached.
func (r *remade) remake(t *testing.T) {
	require.NoError(t, r.fake.DeleteTopic(r.topic))
	require.NoError(t, r.fake.CreateTopic(r.topic, 1, nil))
	r.fill(t, "new", 600)
}

// refuses reads what is left and wants none of it from the new log.
func (r *remade) refuses(t *testing.T, before int) {
	values, err := readError(t, r.reader)
	require.ErrorIs(t, err, ErrOtherTopic)
	for i, v := range values {
		require.Equal(t, numbers("old", before+len(values))[before+i], v, "a record of the new log at an offset of the old one")
	}
}

// quiet waits until the reader has nothing more to fetch into and no fetch is under way.
func (r *remade) quiet(t *testing.T, fetches *atomic.Int64) {
	last := int64(-1)
	require.Eventually(t, func() bool {
		now := fetches.Load()
		still := now == last
		last = now
		return still
	}, patience, 2*fetchWait)
}

// countFetches counts the fetches that reach the broker.
func (r *remade) countFetches() *atomic.Int64 {
	n := &atomic.Int64{}
	r.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		n.Add(1)
		return nil, nil, false
	})
	return n
}

func TestTopicMadeAgainWhileTheReaderIsPaused(t *testing.T) {
	r := startRemade(t, 200, nil)
	readTo(t, r.reader, 200)
	fetches := r.countFetches()
	r.reader.Pause()
	r.quiet(t, fetches)
	r.remake(t)
	r.reader.Resume()
	r.refuses(t, 200)
}

func TestTopicMadeAgainWhileNobodyTakesBatches(t *testing.T) {
	r := startRemade(t, 200, func(c *ReaderConfig) { c.FetchBytes, c.FetchBatches = 400, 1 })
	b := await(t, "the first batch", r.reader.Batches())
	fetches := r.countFetches()
	r.quiet(t, fetches)
	require.Less(t, b.Next, int64(100), "the reader is blocked long before the end")
	r.remake(t)
	r.late.Store(int64(time.Second))
	r.refuses(t, int(b.Next))
}

// The topic is made again after the reader sent its fetch and before the broker answers it.
func TestTopicMadeAgainUnderAFetch(t *testing.T) {
	r := startRemade(t, 200, nil)
	held, release := make(chan struct{}, 1), make(chan struct{})
	readTo(t, r.reader, 200)
	r.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.SleepControl(func() {
			held <- struct{}{}
			<-release
		})
		return nil, nil, false
	})
	await(t, "a fetch", held)
	r.remake(t)
	r.late.Store(int64(time.Second))
	close(release)
	r.refuses(t, 200)
}

// A view that is older than the topic must not condemn it.
func TestReaderOfATopicJustMadeAgainBesideAnOldView(t *testing.T) {
	r := startRemade(t, 200, nil)
	readTo(t, r.reader, 200)
	r.cluster.mu.Lock()
	old := r.cluster.known.topics[r.topic]
	r.cluster.mu.Unlock()
	r.remake(t)
	id, err := r.cluster.TopicID(t.Context(), r.topic)
	require.NoError(t, err)
	r.cluster.mu.Lock()
	old.asked = time.Now()
	r.cluster.known.topics[r.topic] = old
	r.cluster.mu.Unlock()
	values, _ := readTo(t, r.open(t, r.topic, 0, func(c *ReaderConfig) { c.TopicID = id }), 600)
	require.Equal(t, numbers("new", 600), values)
}

// The proof costs a request where the log may have changed, not one for every batch.
func TestProofCostsNothingWhileBatchesFlow(t *testing.T) {
	r := startRemade(t, 2000, func(c *ReaderConfig) { c.FetchBytes = 400 })
	begun := time.Now()
	readTo(t, r.reader, 2000)
	// Of 200 batches the first is proved, and what a starved machine held up for long.
	require.LessOrEqual(t, r.asked.Load(), 4+int64(time.Since(begun)/proofSlack))
}

func TestProofEnds(t *testing.T) {
	at := time.UnixMilli(0)
	for _, row := range []struct {
		name        string
		pause, took time.Duration
		start, high int64
		holds       bool
	}{
		{"at once", 0, 0, 10, 100, true},
		{"the log moves on", 0, 0, 20, 200, true},
		{"a whole poll", 0, fetchWait, 10, 100, true},
		{"after a pause", proofSlack + 1, 0, 10, 100, false},
		{"an answer overdue", 0, fetchWait + proofSlack + 1, 10, 100, false},
		{"a log that starts lower", 0, 0, 9, 100, false},
		{"a log that ends lower", 0, 0, 10, 99, false},
	} {
		p := proof{holds: true, at: at, start: 10, high: 100}
		sent := at.Add(row.pause)
		p.seen(sent, sent.Add(row.took), &sarama.FetchResponseBlock{LogStartOffset: row.start, HighWaterMarkOffset: row.high})
		require.Equal(t, row.holds, p.holds, row.name)
	}
}
