package result_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
)

const keepsHours = hourly + `
retention: {results: 10m, ledger: 2h}
`

// floors maps families to the latest floor of a slot.
func (w *world) floor(slot int) (f *ledger.Floor, tombstones int) {
	w.t.Helper()
	require.NoError(w.t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
		switch {
		case int(rec.Partition) != slot:
		case rec.Floor != nil:
			f = rec.Floor
		case rec.Tombstone != nil:
			tombstones++
		}
		return nil
	}))
	return f, tombstones
}

func TestFloorsAreRaisedAndOldRowsGivenUp(t *testing.T) {
	w := newWorld(t, keepsHours, 1)
	clk := w.newClock()
	c := w.closer(clk.use)
	w.finals(c, 20)
	clk.pass(time.Minute)
	kept := w.round(c).Kept
	require.Equal(t, at(1200), kept.Floor)
	require.Equal(t, base, kept.Oldest)
	require.Len(t, w.ledger(), 21)
	for slot := range ledger.DefaultSlots {
		f, tombstones := w.floor(slot)
		require.NotNil(t, f, slot)
		require.Zero(t, tombstones)
		require.Equal(t, "hourly", f.Window)
		require.Equal(t, ledger.Edition, f.Edition)
		require.Equal(t, at(1200), f.End, "all 20 windows are final")
		require.Equal(t, w.spec.Version(), f.Spec)
		lane, ok := f.Lane("orders", 0)
		require.True(t, ok)
		require.Equal(t, int64(23), lane.Offset)
	}
	before, _ := w.floor(0)
	clk.pass(time.Minute)
	w.round(c)
	after, _ := w.floor(0)
	require.Equal(t, before, after, "nothing new, nothing is written")

	clk.pass(118 * time.Minute)
	w.round(c)
	w.round(c)
	require.Len(t, w.ledger(), 1, "the open window keeps its row")
	total := 0
	for slot := range ledger.DefaultSlots {
		_, n := w.floor(slot)
		total += n
	}
	require.Equal(t, 20, total)
	v := w.verifyAt(clk)
	require.Equal(t, 20, v.Expired)

	// Neither this closer nor the next closes a window anew whose row is gone, and both say that it is final.
	for _, c := range []*result.Closer{c, w.closer(clk.use)} {
		row, published, err := c.CloseWindow(w.ctx, ref(0, 60), "")
		require.NoError(t, err)
		require.False(t, published)
		require.True(t, row.Final)
		require.Equal(t, at(120), row.End)
	}
	require.Len(t, w.ledger(), 1)
}

// Redis loses everything after the rows were given up, and the lane reads everything again: what comes back of final
// windows is dropped without being published, and without an incident.
func TestLostLanesUnderFloors(t *testing.T) {
	w := newWorld(t, keepsHours, 1)
	clk := w.newClock()
	w.finals(w.closer(clk.use), 5)
	clk.pass(3 * time.Hour)
	w.round(w.closer(clk.use))
	clk.pass(time.Minute)
	w.round(w.closer(clk.use))
	require.Len(t, w.ledger(), 1)
	rows := len(w.results())

	require.NoError(t, w.redis.FlushAll(w.ctx).Err())
	l := w.lanes[0]
	l.acquire()
	l.commit()
	c := w.closer(clk.use)
	for range 3 {
		r := w.round(c)
		require.Empty(t, r.Incidents)
		require.Empty(t, r.Closed)
	}
	require.Equal(t, at(330), l.ctl().DropBefore, "restored from the floors")
	l.idle()
	r := w.round(c)
	require.Equal(t, 2, r.Open, "slices of final windows are gone")
	require.Len(t, w.results(), rows)
}

// A partition that is added brings an event of a window whose row is gone: it is bound by what is final before it reads, and
// what it folded all the same is an incident, never a second first revision.
func TestAddedPartitionUnderFloors(t *testing.T) {
	w := newWorld(t, keepsHours, 1)
	clk := w.newClock()
	w.finals(w.closer(clk.use), 5)
	clk.pass(3 * time.Hour)
	w.round(w.closer(clk.use))
	require.Len(t, w.ledger(), 1)
	results := len(w.results())

	w.kafka.AddTopic("orders", 2)
	b := w.newLane(1)
	b.event("x", 20, 1)
	b.commit()
	c := w.closer(clk.use)
	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Equal(t, at(330), b.ctl().DropBefore, "the new lane is told at once")
	require.Len(t, r.Incidents, 1)
	require.Contains(t, r.Incidents[0].Problem, "incident final-grew: lane orders/orders/1 folded offset 0 into window hourly 2023-11-14T00:00:00Z")
	b.idle()
	b.event("x", 20, 1)
	b.commit()
	r = w.round(c)
	require.Empty(t, r.Incidents, "what comes now is late")
	require.Len(t, w.results(), results)
}

// A floor says nothing about windows of another edition, is kept for ever, and moves with the others.
func TestFloorsOfAnotherEdition(t *testing.T) {
	w := newWorld(t, keepsHours, 1)
	clk := w.newClock()
	other := &ledger.Floor{Pipeline: "orders", Window: "hourly", Edition: 2, End: at(6000), Spec: "other", RaisedAt: base}
	slot := w.slotOf("hourly", base)
	text, err := json.Marshal(other)
	require.NoError(t, err)
	w.kafka.Append(source.TopicPartition{Topic: "orders.ledger", Partition: int32(slot)}, source.Record{Key: other.Key(), Value: text})

	c := w.closer(clk.use)
	w.finals(c, 2)
	require.Len(t, w.ledger(), 3, "windows below the other edition's floor are closed")
	clk.pass(3 * time.Hour)
	w.round(c)
	require.Len(t, w.ledger(), 1)
	found := map[int]int64{}
	require.NoError(t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
		if rec.Floor != nil && int(rec.Partition) == slot {
			found[rec.Floor.Edition] = rec.Floor.End
		}
		return nil
	}))
	require.Equal(t, map[int]int64{1: at(120), 2: at(6000)}, found)
}
