package app

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// A closer that froze between the commit of a transaction and the flip of the view leaves the new incarnation's view alone.
func TestFlipOfARemovedIncarnation(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 61, 1)
	w.event("x", 20, 5) // late but allowed
	w.event("x", 21, 5)
	l.read(2)
	l.commit(false)
	old, state, _ := w.closer()
	for i := 3; i <= 4; i++ {
		require.Len(t, w.round(old).Closed, 1)
		l.read(i)
		l.commit(false)
	}
	var next *result.Closer
	var n *removableLane
	state.beforeFlip = func() {
		w.remove()
		n = w.start() // the next incarnation reads the topic from its start
		n.read(2)
		n.commit(false)
		next, _, _ = w.closer()
		require.Len(t, w.round(next).Closed, 1)
		require.Equal(t, "edition 2 r1: 1 events", w.shown(0))
		require.Equal(t, "edition 2 r1: 1 events", w.ledgerRow(0))
	}
	_, _ = old.Round(w.ctx) // thaws inside
	t.Log("after the thaw Redis shows:", w.shown(0), "; the ledger says:", w.ledgerRow(0))
	w.event("x", 200, 1)
	n.read(len(w.log))
	for range 4 {
		n.commit(true)
		w.round(next)
		w.pass(2 * time.Minute)
	}
	t.Log("later Redis shows:", w.shown(0), "; the ledger says:", w.ledgerRow(0), "; time to live of the view:",
		w.server.TTL(fmt.Sprintf("mr:{orders/hourly/%d}:ledger", firstDay)))
	require.Equal(t, w.ledgerRow(0), w.shown(0))
}

// A closer that froze between its look and its requests asks nothing of the new incarnation's lanes.
func TestDropOfARemovedIncarnation(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 100, 1)
	w.event("x", 130, 1)
	w.event("x", 240, 1)
	l.read(4)
	l.commit(false)
	old, state, _ := w.closer()
	var n *removableLane
	state.beforeDrop = func() {
		w.remove()
		n = w.start()
		n.read(1)
		n.commit(false)
	}
	_, err := old.Round(w.ctx)
	t.Log("the thawed round:", err)
	require.NotNil(t, n)
	ctl, err := w.store.ReadCtl(w.ctx, n.id)
	require.NoError(t, err)
	t.Logf("asked of the new lane: drop before %d min", (ctl[0].DropBefore-firstDay)/minuteMS)
	next, _, _ := w.closer()
	for i := 2; i <= 4; i++ {
		n.read(i)
		n.commit(false)
		n.commit(true)
		r := w.round(next)
		for _, x := range r.Incidents {
			t.Log("incident:", x.Problem)
		}
	}
	n.commit(true)
	w.round(next)
	for _, at := range []int64{0, 60, 120} {
		t.Logf("window at %d min: ledger says %s", at, w.ledgerRow(at))
	}
	require.Equal(t, "edition 2 r1: 1 events final", w.ledgerRow(0))
	require.Equal(t, "edition 2 r1: 1 events final", w.ledgerRow(60))
}

// A closer that froze after its look and takes a slot over after the removal publishes nothing of what it saw.
func TestFinalRowFromAnOldLook(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 61, 1)
	w.event("x", 200, 1)
	w.event("x", 20, 5) // too late for the first incarnation, in time for the second
	w.event("x", 201, 1)
	l.read(5)
	l.commit(false)

	old, _, k := w.closer() // a worker's closer begins, looks, and is frozen
	var next *result.Closer
	var n *removableLane
	k.afterLook = func() {
		w.remove()
		var err error
		w.spec, err = spec.Parse("b.yaml", []byte(strings.Replace(removableSpec, "allowed_lateness: 30m", "allowed_lateness: 5h", 1)))
		require.NoError(t, err)
		n = w.start()
		n.read(2)
		n.commit(false)
		next, _, _ = w.closer()
		require.Len(t, w.round(next).Closed, 1)
		require.Equal(t, "edition 1 r1: 1 events", w.ledgerRow(0), "the first incarnation had published nothing yet")
	}
	_, err := old.Round(w.ctx)
	t.Log("the thawed round:", err, "; the ledger says:", w.ledgerRow(0))
	w.event("x", 600, 1)
	w.event("x", 601, 1)
	for i := 3; i <= 7; i++ {
		n.read(i)
		n.commit(false)
		for range 3 {
			r := w.round(next)
			for _, x := range append(append(r.Incidents, r.Failed...), r.Pending...) {
				t.Log("trouble:", x.Problem)
			}
		}
	}
	require.Equal(t, "edition 1 r2: 2 events final", w.ledgerRow(0))
}

// commitBlind commits before the lane has looked at what is asked of it.
func (l *removableLane) commitBlind() {
	c := new(fold.Commit)
	l.state.Snapshot(c, fold.Control{SealBefore: store.NoTime, DropBefore: store.NoTime, IdleAt: -1})
	require.NoError(l.w.t, deliver.PublishSides(l.w.ctx, c, new(countSides)))
	_, err := l.w.store.Apply(l.w.ctx, l.id, l.program.StateID, l.token, c.Calls)
	require.NoError(l.w.t, err)
	l.state.Acknowledged(c)
}

// Nor does it raise floors by what it saw.
func TestFloorsFromAnOldLook(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	for i := range 20 {
		w.event("x", float64(60*i+10), 1)
	}
	l.read(19)
	l.commit(false)
	first, _, _ := w.closer()
	for range 4 {
		w.round(first)
		l.commit(false)
	}
	w.pass(2 * time.Minute)
	w.round(first) // floors
	old, _, k := w.closer()
	w.round(old)
	w.pass(2 * time.Minute)
	l.commit(false)
	w.event("x", 60*20+10, 1)
	w.event("x", 60*21+10, 1)
	w.event("x", 60*22+10, 1)
	l.read(22)
	l.commitBlind()
	w.round(old)
	l.read(23)
	l.commitBlind()
	var n *removableLane
	k.afterLook = func() {
		w.remove()
		n = w.start()
		n.read(1)
		n.commit(false)
	}
	rep, err := old.Round(w.ctx)
	t.Logf("the thawed round: %v %+v", err, rep)
	require.NotNil(t, n)
	low := int64(math.MinInt64)
	require.NoError(t, ledger.Read(w.ctx, w.cluster, "orders", func(rec ledger.Record) error {
		if rec.Floor != nil && rec.Floor.Edition == 2 {
			low = max(low, rec.Floor.End)
			t.Logf("slot %d: floor of edition 2 at %d min, lanes %+v", rec.Partition, (rec.Floor.End-firstDay)/minuteMS, rec.Floor.Lanes)
		}
		return nil
	}))
	next, _, _ := w.closer()
	for i := 2; i <= 23; i++ {
		n.read(i)
		n.commitBlind()
		r := w.round(next)
		for _, x := range r.Incidents {
			t.Log("incident:", x.Problem)
		}
	}
	for i := range 22 {
		t.Logf("window at %d h: ledger says %s", i, w.ledgerRow(int64(60*i)))
	}
	require.Equal(t, int64(math.MinInt64), low)
}

// A closer that froze in its sweep leaves the new incarnation's view there.
func TestExpiryOfTheNewIncarnationsView(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 61, 1)
	w.event("x", 130, 1)
	l.read(3)
	l.commit(false)
	old, state, _ := w.closer()
	w.round(old)
	require.Equal(t, "edition 1 r1: 1 events final", w.shown(0))
	w.pass(61 * time.Minute)
	l.commit(false)
	var next *result.Closer
	var n *removableLane
	state.beforeExpire = func() {
		w.remove()
		n = w.start()
		n.read(2)
		n.commit(false)
		next, _, _ = w.closer()
		w.round(next)
		require.Equal(t, "edition 2 r1: 1 events", w.shown(0))
	}
	_, err := old.Round(w.ctx)
	t.Log("the thawed round:", err)
	require.NotNil(t, n)
	for range 3 {
		n.commit(false)
		w.round(next)
	}
	require.Equal(t, w.ledgerRow(0), w.shown(0))
}
