package lane

import (
	"slices"
	"testing"
	"time"

	"millrace/pipeline/source"
)

// BenchmarkStampsOfBatches is what the stamps of batches cost a lane, in per cent of folding them: batches with stamps and without, in
// turns of a few milliseconds, so that whatever else the machine does hits both. One operation is ten batches of each kind.
func BenchmarkStampsOfBatches(b *testing.B) {
	const perBatch, batches = 1000, 10
	in := benchLog(perBatch*batches, 1000)
	r := benchLoop(b)
	stamps := benchStamps(perBatch)
	run := func(stamps []source.Stamp) time.Duration {
		r.state.ReadFrom("id", 0)
		began := time.Now()
		for from := 0; from < perBatch*batches; from += perBatch {
			r.foldBatch(&source.Batch{
				Records: in.Records[from : from+perBatch], Next: in.Records[from+perBatch-1].Offset + 1, Stamps: stamps,
			})
		}
		return time.Since(began)
	}
	var plain, stamped []time.Duration
	for b.Loop() {
		plain = append(plain, run(nil))
		stamped = append(stamped, run(stamps))
	}
	slices.Sort(plain)
	slices.Sort(stamped)
	without, with := plain[len(plain)/2], stamped[len(stamped)/2]
	b.ReportMetric(float64(without.Nanoseconds())/perBatch/batches, "plain-ns/event")
	b.ReportMetric(100*(float64(with)/float64(without)-1), "stamps-%")
}
