package integration

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

// minutes counts events by key in windows of a minute.
const minutes = `
name: minutes
source: {topics: [minutes], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
  max_key_bytes: 8192
aggregates:
  n: {func: count}
  v: {func: sum, field: v, type: int}
windows:
  - {name: minute, size: 1m}
watermark: {out_of_orderness: 0s, idle_timeout: 2s}
allowed_lateness: 1m
results:     {kafka: {topic: minutes.results}}
late:        {kafka: {topic: minutes.late}}
dead_letter: {kafka: {topic: minutes.dead}}
lane: {commit_interval: 200ms}
`

// noon is when the events of these tests begin, in ms.
const noon = int64(1_699_963_200_000)

// events makes one event a second from one second after noon to another, the second excluded.
func events(from, to int) [][]byte {
	var lines [][]byte
	for s := from; s < to; s++ {
		lines = append(lines, fmt.Appendf(nil, `{"k":"k%d","t":%d,"v":%d}`, s%7, noon+int64(s)*1000, s))
	}
	return lines
}

// window returns the ledger's latest row of a minute window, nil before it is published.
func (p *pipeline) window(second int) *ledger.Row {
	p.T.Helper()
	for _, row := range p.Ledger() {
		if row.Start == noon+int64(second)*1000 {
			return &row
		}
	}
	return nil
}

// A partition is silent while the others move on for minutes of event time. Windows close without it. Then an event
// comes that is older than all of them: it is late, because the lane has agreed that nothing older may come.
func TestSilentPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(minutes, 3)
	w.Ready(w.Worker())
	p.Start()
	p.Send(2, events(0, 20)...)
	p.Send(0, events(0, 300)...)
	p.Send(1, events(0, 300)...)
	rig.Eventually(t, "the first window is final", patience, func() bool {
		row := p.window(0)
		return row != nil && row.Final
	})
	before := slices.Clone(p.Fed[2].Records)
	p.Send(2, events(30, 31)...)
	p.Reach(p.Total())
	m, _ := p.Meta(2)
	require.Equal(t, int64(1), m.Counters.Late)
	require.Equal(t, int64(20), m.Counters.Folded)

	p.Send(2, events(400, 420)...) // still on time
	p.Reach(p.Total())
	p.Drain()
	require.Equal(t, map[rig.Place]string{{Partition: 2, Offset: 20}: "late"}, p.Side(p.Spec.Late.Kafka.Topic))
	fed := slices.Clone(p.Fed)
	fed[2].Records = append(before, p.Fed[2].Records[21:]...)
	p.requireRows(fed)
	p.Must("verify", p.Spec.Name, "--spec", p.File)
}

// requireRows compares the results alone with those of some input.
func (p *pipeline) requireRows(fed []oracle.Lane) {
	p.T.Helper()
	o, err := oracle.ReadSpec(p.YAML)
	require.NoError(p.T, err)
	o.Name = p.Spec.Name
	res, err := oracle.Run(o, fed)
	require.NoError(p.T, err)
	var rows bytes.Buffer
	require.NoError(p.T, res.WriteJSON(&rows))
	diff, err := oracle.Compare(&rows, bytes.NewReader(bytes.Join(p.Latest(), []byte("\n"))), oracle.Options{})
	require.NoError(p.T, err)
	require.True(p.T, diff.Equal(), "%s", diff)
}

// The owner of an idle lane is killed, and records arrive while nobody owns the lane. It was idle up to an end that is not
// the end any more, so no window may close without it.
func TestOwnerOfAnIdleLaneKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(minutes, 2, func(s *spec.Spec) { s.Replicas = 2 })
	workers := []*rig.Process{w.Worker(), w.Worker()}
	w.Ready(workers...)
	p.Start()
	rig.Eventually(t, "each worker has a lane", patience, func() bool {
		a, b := p.ownerOf(0, workers), p.ownerOf(1, workers)
		return a != nil && b != nil && a != b
	})
	p.Send(0, events(0, 60)...)
	p.Send(1, events(0, 60)...)
	rig.Eventually(t, "both lanes are idle", patience, func() bool {
		a, _ := p.Meta(0)
		b, _ := p.Meta(1)
		return a.IdleEnd == 60 && b.IdleEnd == 60
	})
	p.ownerOf(1, workers).Kill()
	p.Send(1, events(61, 120)...)
	p.Send(0, events(61, 400)...)
	rig.Eventually(t, "a later window is published", patience, func() bool { return p.window(60) != nil })
	for _, cover := range p.window(60).Lanes {
		if cover.Partition == 1 {
			require.Equal(t, int64(59), cover.Folded, "published without what came while nobody owned the lane")
		}
	}
	p.Drain()
	p.RequireExact()
}

// ownerOf is the worker that owns a lane now.
func (p *pipeline) ownerOf(partition int32, workers []*rig.Process) *rig.Process {
	m, found := p.Meta(partition)
	for _, worker := range workers {
		if found && worker.SaidOf("lane resumes", "owner="+string(m.Owner)) > 0 {
			return worker
		}
	}
	return nil
}

// The broker is away for five times the idle timeout while every lane has records to read. Nobody is idle.
func TestBrokerAwayLongerThanTheIdleTimeout(t *testing.T) {
	t.Parallel()
	b := rig.OwnBroker(t)
	w := newWorld(t, rig.Servers{Kafka: b.Addr})
	yaml, lines := rig.Flights(t, 20_000)
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Watermark.IdleTimeout = spec.Duration(2 * time.Second) })
	w.Ready(w.Worker())
	p.Start()
	p.Commits(1)
	require.True(t, p.Update("pause", p.Spec.Name).Applied)
	p.Feed(lines)
	b.Stop()
	var resumed sync.WaitGroup
	resumed.Go(func() { p.CLI("resume", p.Spec.Name) }) // it answers when the broker is back
	absence := time.NewTimer(10 * time.Second)
	<-absence.C
	b.Restart(t)
	p.Reach(int64(len(lines)))
	resumed.Wait()
	p.Drain()
	p.RequireExact()
}

// Four partitions, one with a hundred times as many records a minute, and a memory limit at a quarter of what the
// others would hold. Those run ahead, are blocked and say so; they are not idle although they read nothing for longer
// than the idle timeout; the one that is behind reads on, so that windows close and the others follow.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	const span = 1200 // seconds
	const limit = 4 << 20
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(minutes, 4, func(s *spec.Spec) {
		s.Lane.MemoryLimit, s.Lane.FetchBytes, s.Lane.FetchBatches = limit, 16<<10, 1
		s.Lane.CommitInterval = spec.Duration(20 * time.Millisecond)
	})
	long := strings.Repeat("x", 4000)
	var sparse [][]byte
	for s := range span / 2 {
		sparse = append(sparse, fmt.Appendf(nil, `{"k":"%s%d","t":%d,"v":1}`, long, s, noon+int64(s)*2000))
	}
	for n := range int32(3) {
		p.Send(n+1, sparse...)
	}
	h := p.hotPath()
	stop := make(chan struct{})
	var closing sync.WaitGroup
	var failed error
	closing.Go(func() { failed = h.closeWhile(stop) })

	blocked := make(map[int32]int)
	var most int64
	watch := func() {
		s := h.engine.Status()
		others := int64(0)
		for _, l := range s.Lanes {
			if l.Partition != 0 {
				others += l.Bytes
			}
			if l.State == lane.StateBlocked && strings.Contains(l.Reason, "memory limit") {
				blocked[l.Partition]++
			}
		}
		most = max(most, others)
	}
	// Its records come at the pace of a hundred seconds a second.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s := range span {
		var dense [][]byte
		for i := range 50 {
			dense = append(dense, fmt.Appendf(nil, `{"k":"k%d","t":%d,"v":1}`, i%10, noon+int64(s)*1000+int64(i)*20))
		}
		<-tick.C
		p.Send(0, dense...)
		watch()
	}
	rig.Eventually(t, "everything is read", patience, func() bool {
		watch()
		return p.Committed() >= p.Total()
	})
	close(stop)
	closing.Wait()
	require.NoError(t, failed)
	for n := range int32(3) {
		require.Positive(t, blocked[n+1], "partition %d was never blocked", n+1)
	}
	t.Logf("the lanes ahead held up to %d bytes of %d", most, limit)
	// Beyond the limit goes what a lane has fetched already, and what its tables reserve.
	require.Less(t, most, int64(limit)*3/2, "memory of the lanes that are ahead")
	h.finish()
	p.RequireResults()
	h.verify()
}
