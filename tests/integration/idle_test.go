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
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
	"millrace/tests/oracle"
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
func (p *pipeline) window(second int) *result.LedgerRow {
	p.t.Helper()
	for _, row := range p.ledger() {
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
	w := newWorld(t, servers{})
	p := w.newPipeline(minutes, 3)
	w.ready(w.worker())
	p.start()
	p.send(2, events(0, 20)...)
	p.send(0, events(0, 300)...)
	p.send(1, events(0, 300)...)
	eventually(t, "the first window is final", patience, func() bool {
		row := p.window(0)
		return row != nil && row.Final
	})
	before := slices.Clone(p.fed[2].Records)
	p.send(2, events(30, 31)...)
	p.reach(p.total())
	m, _ := p.meta(2)
	require.Equal(t, int64(1), m.Counters.Late)
	require.Equal(t, int64(20), m.Counters.Folded)

	p.send(2, events(400, 420)...) // still on time
	p.reach(p.total())
	p.drain()
	require.Equal(t, map[place]string{{2, 20}: "late"}, p.side(p.spec.Late.Kafka.Topic))
	fed := slices.Clone(p.fed)
	fed[2].Records = append(before, p.fed[2].Records[21:]...)
	p.requireRows(fed)
	p.must("verify", p.spec.Name, "--spec", p.file)
}

// requireRows compares the results alone with those of some input.
func (p *pipeline) requireRows(fed []oracle.Lane) {
	p.t.Helper()
	o, err := oracle.ReadSpec(p.yaml)
	require.NoError(p.t, err)
	o.Name = p.spec.Name
	res, err := oracle.Run(o, fed)
	require.NoError(p.t, err)
	var rows bytes.Buffer
	require.NoError(p.t, res.WriteJSON(&rows))
	diff, err := oracle.Compare(&rows, bytes.NewReader(bytes.Join(p.latest(), []byte("\n"))), oracle.Options{})
	require.NoError(p.t, err)
	require.True(p.t, diff.Equal(), "%s", diff)
}

// The owner of an idle lane is killed, and records arrive while nobody owns the lane. It was idle up to an end that is not
// the end any more, so no window may close without it.
func TestOwnerOfAnIdleLaneKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, servers{})
	p := w.newPipeline(minutes, 2, func(s *spec.Spec) { s.Replicas = 2 })
	workers := []*process{w.worker(), w.worker()}
	w.ready(workers...)
	p.start()
	eventually(t, "each worker has a lane", patience, func() bool {
		a, b := p.ownerOf(0, workers), p.ownerOf(1, workers)
		return a != nil && b != nil && a != b
	})
	p.send(0, events(0, 60)...)
	p.send(1, events(0, 60)...)
	eventually(t, "both lanes are idle", patience, func() bool {
		a, _ := p.meta(0)
		b, _ := p.meta(1)
		return a.IdleEnd == 60 && b.IdleEnd == 60
	})
	p.ownerOf(1, workers).kill()
	p.send(1, events(61, 120)...)
	p.send(0, events(61, 400)...)
	eventually(t, "a later window is published", patience, func() bool { return p.window(60) != nil })
	for _, cover := range p.window(60).Lanes {
		if cover.Partition == 1 {
			require.Equal(t, int64(59), cover.Folded, "published without what came while nobody owned the lane")
		}
	}
	p.drain()
	p.requireExact()
}

// ownerOf is the worker that owns a lane now.
func (p *pipeline) ownerOf(partition int32, workers []*process) *process {
	m, found := p.meta(partition)
	for _, worker := range workers {
		if found && worker.saidOf("lane resumes", "owner="+string(m.Owner)) > 0 {
			return worker
		}
	}
	return nil
}

// The broker is away for five times the idle timeout while every lane has records to read. Nobody is idle.
func TestBrokerAwayLongerThanTheIdleTimeout(t *testing.T) {
	t.Parallel()
	b := ownBroker(t)
	w := newWorld(t, servers{kafka: b.addr})
	yaml, lines := flights(t, 20_000)
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Watermark.IdleTimeout = spec.Duration(2 * time.Second) })
	w.ready(w.worker())
	p.start()
	p.commits(1)
	require.True(t, p.update("pause", p.spec.Name).Applied)
	p.feed(lines)
	b.kill()
	var resumed sync.WaitGroup
	resumed.Go(func() { p.cli("resume", p.spec.Name) }) // it answers when the broker is back
	absence := time.NewTimer(10 * time.Second)
	<-absence.C
	b.restart(t)
	p.reach(int64(len(lines)))
	resumed.Wait()
	p.drain()
	p.requireExact()
}

// Four partitions, one with a hundred times as many records a minute, and a memory limit at a quarter of what the
// others would hold. Those run ahead, are blocked and say so; they are not idle although they read nothing for longer
// than the idle timeout; the one that is behind reads on, so that windows close and the others follow.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	const span = 1200 // seconds
	const limit = 4 << 20
	w := newWorld(t, servers{})
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
		p.send(n+1, sparse...)
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
		p.send(0, dense...)
		watch()
	}
	eventually(t, "everything is read", patience, func() bool {
		watch()
		return p.committed() >= p.total()
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
	p.requireResults()
	h.verify()
}
