package lane

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// A partition gets records that are refused, all the time. Its lane is idle after idle_timeout, adopts the seal, and is
// idle no more when an event comes.
func TestRefusedRecordsDoNotKeepALaneFromBeingIdle(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(11, 11)), 50))
	feed := make(chan source.Record)
	st, redis := testStore(t)
	b := start(t, log, st, redis, func(d *Deps) {
		d.Open = func(cfg source.ReaderConfig) source.Reader { return log.follow(cfg, feed) }
	})
	meta := func() store.Meta {
		m, _, err := st.ReadMeta(context.Background(), testLane)
		require.NoError(t, err)
		return m
	}
	send := func(value []byte) {
		log.mu.Lock()
		r := source.Record{Offset: log.ends.HighWatermark, Timestamp: kafkaTime, Value: value}
		log.ends.HighWatermark++ // the end is always ahead of what was read
		log.mu.Unlock()
		select {
		case feed <- r:
		case <-time.After(10 * time.Second):
			require.Fail(t, "the lane does not read")
		}
	}
	b.wait(t, "the log is committed", func(s Status) bool { return s.Committed == 50 })
	send([]byte(`{"k":"a","t":1699996400000,"v":1}`))
	for meta().IdleEnd <= 50 {
		send([]byte("a heartbeat"))
	}
	m := meta()
	_, err := st.SetSeal(context.Background(), testLane, m.Owner, kafkaTime)
	require.NoError(t, err)
	for meta().Sealed != kafkaTime {
		send(nil)
	}
	for range 3 {
		m = meta()
		require.GreaterOrEqual(t, m.IdleEnd, int64(50), "the claim stands while nothing but refused records comes")
		require.GreaterOrEqual(t, m.Offset, m.IdleEnd)
		for meta().Offset < m.Offset+10 {
			send([]byte(`{"k":"a","t":1700007200001,"v":1}`)) // too far ahead
		}
	}
	send([]byte(`{"k":"a","t":1699996400000,"v":1}`))
	eventually(t, "idle no more", func() bool { return meta().IdleEnd == store.NotIdle })
}

// follow is open with what feed brings after the log.
func (f *fakeLog) follow(cfg source.ReaderConfig, feed <-chan source.Record) source.Reader {
	r := &fakeReader{out: make(chan source.Batch), stop: make(chan struct{})}
	records := f.records
	go func() {
		defer close(r.out)
		b := source.Batch{Records: records[cfg.Offset:], Next: int64(len(records)), HighWatermark: int64(len(records))}
		for {
			select {
			case r.out <- b:
			case <-r.stop:
				return
			}
			select {
			case next := <-feed:
				b = source.Batch{Records: []source.Record{next}, Next: next.Offset + 1, HighWatermark: next.Offset + 1}
			case <-r.stop:
				return
			}
		}
	}()
	return r
}
