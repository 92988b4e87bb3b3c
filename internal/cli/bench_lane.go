package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// benchLane measures the lane's own work on one goroutine, in steady state: every key is known, the memory of the first
// commit is used again. It folds a million events, or all there are.
func benchLane(s *spec.Spec, load workload) (allocs, ns float64, err error) {
	load.records = min(load.records, 1_000_000)
	batches, err := benchBatches(newBenchSource(load, 0))
	if err != nil {
		return 0, 0, err
	}
	patient := *s
	patient.AllowedLateness = spec.Duration(2 * load.span) // the second pass must find its windows open
	program, err := fold.Compile(&patient)
	if err != nil {
		return 0, 0, err
	}
	state := fold.NewState(program, store.LaneID{Pipeline: s.Name, Topic: s.Name}, "", 0, store.Cursor{})
	var commit fold.Commit
	pass := func() {
		for i := range batches {
			state.Fold(&batches[i])
			if i%64 == 63 || i == len(batches)-1 {
				state.Snapshot(&commit, fold.Control{
					SealBefore: window.NoTime, DropBefore: window.NoTime, IdleAt: store.NotIdle, Pages: true,
				})
				state.Acknowledged(&commit)
			}
		}
	}
	pass()
	// The same records once more, behind the first ones.
	next := batches[len(batches)-1].Next
	for i := range batches {
		b := &batches[i]
		for j := range b.Records {
			b.Records[j].Offset += next
		}
		b.Next += next
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	watch := startWatch()
	pass()
	spent := watch.stop()
	runtime.ReadMemStats(&after)
	if c := state.Counters(); c.Folded != c.Read {
		return 0, 0, fmt.Errorf("the benchmark's records are not all folded: %+v", c)
	}
	n := float64(load.records)
	return float64(after.Mallocs-before.Mallocs) / n, float64(spent.cpu) / n, nil
}

func benchBatches(gen *benchSource) ([]source.Batch, error) {
	var batches []source.Batch
	now := time.Now().UnixMilli()
	for offset := int64(0); ; offset++ {
		_, value, err := gen.next()
		if errors.Is(err, io.EOF) {
			return batches, nil
		}
		if err != nil {
			return nil, err
		}
		if offset%512 == 0 {
			batches = append(batches, source.Batch{})
		}
		b := &batches[len(batches)-1]
		b.Records = append(b.Records, source.Record{Offset: offset, Timestamp: now, Value: value})
		b.Next = offset + 1
	}
}
