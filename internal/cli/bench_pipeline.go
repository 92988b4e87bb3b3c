package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"millrace/activities"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/store"
)

// benchPatience is how long a run may go on without a record read, an offset committed or a window closed.
const benchPatience = 10 * time.Minute

// pipeline runs a replica with a closer until the last row of the last window is published. The clock starts when the first lane
// is owned: joining a consumer group takes its seconds once, not per event.
func (r *benchRun) pipeline(ctx context.Context, m *measured) error {
	windows := &benchWindows{expected: r.load.expectedWindows(), latest: make(map[report.WindowRef]report.ClosedWindow)}
	knowsPeak := resetPeakMemory()
	replica, err := engine.Start(ctx, engine.Config{
		Spec: r.spec, Kafka: r.srv.kafka, Store: r.srv.store, Log: slog.New(slog.DiscardHandler),
		Measure: r.load.measure.Pipeline(r.spec.Name),
	})
	if err != nil {
		return reached(ctx, err)
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = replica.Stop(stopping)
		_ = r.srv.cluster.RemoveMember(stopping, engine.Group(r.spec.Name), engine.InstanceID(r.spec.Name, 0))
	}()
	closer, err := result.NewCloser(result.Config{
		Spec: r.spec, State: r.srv.store, Kafka: publish.NewClient(r.srv.kafka, r.srv.cluster, r.spec.Name), By: "bench",
		Measure: r.load.measure.Pipeline(r.spec.Name), Cache: merge.NewCache(merge.DefaultCacheBytes),
	})
	if err != nil {
		return err
	}
	defer closing(closer)
	owned := func(engine.Status) bool { return r.anyOwned(ctx) }
	if err := r.await(ctx, replica, windows, time.Millisecond, owned); err != nil {
		return err
	}
	began, before := time.Now(), r.load.cpu.read()
	phase := func() phaseCost {
		return newPhaseCost(time.Since(began), r.load.cpu.read().since(before), r.load.records)
	}
	working, stop := context.WithCancel(ctx)
	memory := watchRedisMemory(working, r.srv.store)
	closed := make(chan struct{})
	var closeErr error // read when closed is
	go func() {
		defer close(closed)
		closeErr = windows.closeAll(working, closer)
		m.Published = phase()
	}()
	err = r.awaitCommitted(ctx, replica, windows)
	if err == nil {
		m.Committed = phase()
		m.RedisMemoryRead = memory.most()
		r.say("every record is committed; waiting for the last row")
		err = r.await(ctx, replica, windows, benchLook, func(engine.Status) bool { return windows.ended.Load() })
	}
	if knowsPeak {
		m.EngineMemoryPeak = peakMemory()
	}
	m.RedisMemoryPeak = memory.most()
	stop()
	<-closed
	if err = cmp.Or(closeErr, err); err != nil {
		return err
	}
	m.Windows = len(windows.expected)
	r.noteCommits(replica, m)
	return nil
}

// awaitCommitted waits until every record is committed, those that close the windows included.
func (r *benchRun) awaitCommitted(ctx context.Context, replica *engine.Engine, windows *benchWindows) error {
	line := newProgress(r.out, "pipeline")
	defer line.End()
	all := r.load.records + int64(r.load.partitions)
	return r.await(ctx, replica, windows, benchLook, func(s engine.Status) bool {
		read, committed := int64(0), int64(0)
		for i := range s.Lanes {
			read += s.Lanes[i].Counters.Read
			committed += max(0, s.Lanes[i].Committed)
		}
		line.Update(read, float64(read)/float64(all))
		return committed >= all || windows.ended.Load()
	})
}

// noteCommits says what the lanes wrote to Redis.
func (r *benchRun) noteCommits(replica *engine.Engine, m *measured) {
	status, fields := replica.Status(), int64(0)
	for i := range status.Lanes {
		fields += status.Lanes[i].Written
		m.LongestCommitGap = max(m.LongestCommitGap, status.Lanes[i].GapMs)
	}
	m.FieldsPerSecond = float64(fields) / m.Committed.Seconds
	m.FieldsPerEvent = float64(fields) / float64(r.load.records)
}

// anyOwned asks Redis: what lanes say of themselves is up to a second old.
func (r *benchRun) anyOwned(ctx context.Context) bool {
	for p := range r.load.partitions {
		id := store.LaneID{Pipeline: r.spec.Name, Topic: r.spec.Source.Topics[0], Partition: p}
		if _, found, err := r.srv.store.ReadMeta(ctx, id); err == nil && found {
			return true
		}
	}
	return false
}

// benchLook is the pause between two looks at the lanes. Looks are part of what is measured: at 64
// partitions one every 5 ms took a tenth of the engine's CPU.
const benchLook = 25 * time.Millisecond

// await polls the replica until ok, its end or the context's.
func (r *benchRun) await(ctx context.Context, replica *engine.Engine, windows *benchWindows, every time.Duration,
	ok func(engine.Status) bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	moved, at := int64(-1), time.Now()
	for {
		status := replica.Status()
		if ok(status) {
			return nil
		}
		done := windows.closed.Load()
		for i := range status.Lanes {
			l := &status.Lanes[i]
			if l.State == lane.StateParked && l.Incident != nil {
				return fmt.Errorf("lane %s/%d is parked: %s", l.Topic, l.Partition, l.Reason)
			}
			done += l.Counters.Read + max(0, l.Committed)
		}
		if done != moved {
			moved, at = done, time.Now()
		}
		if time.Since(at) > benchPatience {
			return fmt.Errorf("no record was read or committed and no window closed for %s; %d of %d windows are closed",
				benchPatience, windows.closed.Load(), len(windows.expected))
		}
		select {
		case <-tick.C:
		case <-replica.Done():
			return fmt.Errorf("the pipeline ended: %w", replica.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// benchWindows are the windows of a run. The goroutine of closeAll alone touches latest.
type benchWindows struct {
	expected map[int64]int64 // events by start
	latest   map[report.WindowRef]report.ClosedWindow
	closed   atomic.Int64 // windows that are final
	ended    atomic.Bool  // closeAll has returned
}

// closeAll closes what is due until every window with records is final, and pauses as the CloseWindows workflow's activity does. It
// returns nil when ctx ends first.
func (w *benchWindows) closeAll(ctx context.Context, closer *result.Closer) error {
	defer w.ended.Store(true)
	for {
		round, err := closer.Round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !result.Waits(err) {
			return fmt.Errorf("close windows: %w", err)
		}
		for _, t := range round.Incidents {
			return errors.New(t.Problem)
		}
		for _, c := range round.Closed {
			w.latest[c.WindowRef] = c
		}
		if final := w.final(); final == len(w.expected) {
			return w.check()
		}
		select {
		case <-time.After(activities.PauseAfter(&round.Round, err)):
		case <-ctx.Done():
			return nil
		}
	}
}

// final counts the windows that no further event can change.
func (w *benchWindows) final() (n int) {
	for _, c := range w.latest {
		if c.Final {
			n++
		}
	}
	w.closed.Store(int64(n))
	return n
}

// check compares the windows' events with those of the records.
func (w *benchWindows) check() error {
	for _, c := range w.latest {
		if want := w.expected[c.Start]; c.Events != want {
			return fmt.Errorf("wrong result: window %s was published with %d events; the records give %d", instant(c.Start), c.Events, want)
		}
	}
	return nil
}
