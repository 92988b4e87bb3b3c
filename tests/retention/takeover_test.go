package retention

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/pipeline/ledger"
	"millrace/pipeline/parallel"
	"millrace/pipeline/result"
)

// inForce is how many rows the ledger holds when it is taken over.
const inForce = 500

// takeOver is what a closer that takes a ledger over does until its first round is done.
type takeOver struct {
	records int64
	times   []time.Duration // of several, sorted
}

// TestTakeOver: what a take-over costs follows from the rows in force, not from those that were given up, whether
// Kafka's cleaner has run or not. The cleaner is that of a real broker.
func TestTakeOver(t *testing.T) {
	addrs, real := brokers(t)
	few, many := newOld(t, addrs, 1_000), newOld(t, addrs, *history)
	compare := func(when string) {
		a, b := few.takeOver(), many.takeOver()
		t.Logf("%s: 1,000 rows given up: %d records, %v; %d rows given up: %d records, %v", when, a.records, a.times,
			*history, b.records, b.times)
		require.LessOrEqual(t, b.records, 2*a.records) // times are for the reader: machines are shared
	}
	compare("before the cleaner has run")
	if real {
		few.clean()
		many.clean()
		compare("after the cleaner has run")
	}
}

// old is a pipeline whose ledger has given up many rows.
type old struct {
	*world
	now atomic.Int64 // ms
}

func newOld(t *testing.T, addrs []string, gone int) *old {
	t.Helper()
	o := &old{world: newWorld(t, addrs, time.Second, lanes, map[string]string{
		"min.cleanable.dirty.ratio": "1", "delete.retention.ms": "0",
	})}
	o.now.Store(time.Now().UnixMilli())
	began := time.Now()
	c := o.closer(o.store, o.clock, 5000)
	o.seed(gone)
	o.publish(c, gone, gone+1) // with it the seeded windows are final, and floors are raised over them
	o.now.Add((2 * time.Hour).Milliseconds())
	for kept := gone; kept > 0; {
		r, err := c.Round(o.ctx)
		require.NoError(t, err)
		kept = r.Kept.Rows
		o.now.Add(time.Minute.Milliseconds())
	}
	o.publish(c, gone+2*lateness, gone+2*lateness+inForce-1) // and the one of the minute that made the others final
	o.now.Add(2 * time.Minute.Milliseconds())
	_, err := c.Round(o.ctx) // raises the floors over them
	require.NoError(t, err)
	require.NoError(t, c.Close())
	t.Logf("%d rows given up and %d in force after %s", gone, inForce, time.Since(began).Round(time.Second))
	return o
}

func (o *old) clock() time.Time { return time.UnixMilli(o.now.Load()) }

// seed writes the final rows of the first n windows, many at a time, as closers wrote them one by one long ago.
func (o *old) seed(n int) {
	o.t.Helper()
	records := make([]*kgo.Record, n)
	for at := range n {
		row := &ledger.Row{
			Version: ledger.RowVersion, Pipeline: o.spec.Name, Window: "minutely", Start: base + int64(at)*minute,
			End: base + int64(at+1)*minute, Edition: ledger.Edition, Spec: o.spec.Version(), Revision: 1,
			Reason: ledger.ReasonWatermark, Final: true, Exact: true, By: "test", ClosedAt: o.now.Load(), Keys: 1, Events: 1,
			Checksum: "00", Algorithm: ledger.ChecksumAlgorithm, Lanes: []ledger.Cover{{Topic: o.spec.Name}},
		}
		text, err := json.Marshal(row)
		require.NoError(o.t, err)
		id := row.ID()
		records[at] = &kgo.Record{Partition: int32(id.Slot(ledger.DefaultSlots)), Key: id.Key(), Value: text}
	}
	o.append(records...)
}

// append writes records to the ledger topic as they are.
func (o *old) append(records ...*kgo.Record) {
	o.t.Helper()
	for _, r := range records {
		r.Topic = ledger.Topic(o.spec.Name)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(o.addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(o.t, err)
	defer client.Close()
	require.NoError(o.t, client.ProduceSync(o.ctx, records...).FirstErr())
}

// publish makes the windows of the minutes [from, to) final.
func (o *old) publish(c *result.Closer, from, to int) {
	o.t.Helper()
	fed := make(chan struct{}, 1)
	progress := make([]chan struct{}, lanes)
	for i := range progress {
		progress[i] = make(chan struct{}, 1)
	}
	err := parallel.Do(o.ctx, lanes+1, lanes+1, func(ctx context.Context, i int) error {
		if i < lanes {
			l := o.lanes[i]
			l.drop = max(l.drop, base+int64(from)*minute)
			return l.feed(ctx, from, to, 100, 10_000, fed, progress[i])
		}
		for last := base + int64(to-1)*minute; ; {
			r, err := c.Round(ctx)
			if err != nil || len(r.Failed) > 0 {
				o.t.Logf("%+v", r.Failed)
				return err
			}
			for _, c := range progress {
				wake(c)
			}
			if r.Progress.DropBefore >= last+minute+lateness*minute {
				return nil
			}
			if len(r.Closed) == 0 {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-fed:
				}
			}
		}
	})
	require.NoError(o.t, err)
}

// takeOver lets closers take over, one after the other.
func (o *old) takeOver() takeOver {
	o.t.Helper()
	var all takeOver
	for range 7 {
		o.kafka.records.Store(0)
		began := time.Now()
		c := o.closer(o.store, o.clock, 0)
		r, err := c.Round(o.ctx)
		require.NoError(o.t, err)
		all.times = append(all.times, time.Since(began).Round(time.Millisecond/10))
		all.records = max(all.records, o.kafka.records.Load())
		require.Equal(o.t, inForce, r.Kept.Rows)
		require.NoError(o.t, c.Close())
	}
	slices.Sort(all.times)
	return all
}

// clean lets the broker's cleaner run, and waits until it has taken all rows that are not in force. The cleaner leaves the
// segment that is written to, and a broker begins a new one only when it appends: so the first window's row is given up
// once more in every slot until it has worked.
func (o *old) clean() {
	o.t.Helper()
	for name, value := range map[string]string{"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.0001"} {
		require.NoError(o.t, o.cluster.SetTopic(o.ctx, ledger.Topic(o.spec.Name), name, value))
	}
	given := ledger.WindowID{Window: "minutely", Start: base}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	began := time.Now()
	for rows := o.rows(); rows > inForce; rows = o.rows() {
		require.Less(o.t, time.Since(began), 5*time.Minute, "the cleaner leaves %d rows", rows)
		for slot := range ledger.DefaultSlots {
			o.append(&kgo.Record{Partition: int32(slot), Key: given.Key()})
		}
		<-tick.C
	}
	o.t.Logf("the cleaner took %s", time.Since(began).Round(time.Second))
}

// rows counts the rows that the ledger topic holds, in force or not.
func (o *old) rows() (n int) {
	o.t.Helper()
	require.NoError(o.t, ledger.Read(o.ctx, o.kafka, o.spec.Name, func(rec ledger.Record) error {
		if rec.Row != nil {
			n++
		}
		return nil
	}))
	return n
}
