package chaos

import (
	"context"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

// refuseAsReplica makes Redis the replica of a server that is not there, as a fail-over that went wrong does: it answers every
// read, and every write with READONLY.
func (r *run) refuseAsReplica() (end func() bool) {
	ctx := context.Background()
	require.NoError(r.t, r.probe.ReplicaOf(ctx, "127.0.0.1", strconv.Itoa(rig.FreePort(r.t))).Err())
	return func() bool {
		require.NoError(r.t, r.probe.ReplicaOf(ctx, "NO", "ONE").Err())
		return true
	}
}

// refuseForMemory sets Redis's memory limit below what it uses: it answers every read, and every write that takes memory with OOM.
func (r *run) refuseForMemory() (end func() bool) {
	ctx := context.Background()
	require.NoError(r.t, r.probe.ConfigSet(ctx, "maxmemory", "1mb").Err())
	return func() bool {
		require.NoError(r.t, r.probe.ConfigSet(ctx, "maxmemory", "0").Err())
		return true
	}
}

// closeUnderHeartbeats waits until windows of the second half of the input are final, while the last partition gets nothing but
// heartbeats: such a partition must not hold windows open.
func (r *run) closeUnderHeartbeats() {
	r.t.Helper()
	half := noon + int64(45*time.Minute/time.Millisecond)
	last, sent := r.plan.Partitions-1, 0
	r.until("windows are final while a partition gets heartbeats only", func() bool {
		r.pipeline.Send(last, heartbeat(sent))
		sent++
		return slices.ContainsFunc(r.pipeline.Ledger(), func(row ledger.Row) bool { return row.Final && row.End > half })
	})
	r.say("windows are final after %d heartbeats", sent)
	r.out.Events = r.pipeline.Total()
	r.until("the heartbeats are read", func() bool { return r.pipeline.Committed() >= r.out.Events })
}

// trimLog pauses the pipeline, appends records a year ahead to every partition and deletes some of them again before they were
// read, as retention does. A lane that runs must park, ask, and skip exactly what is gone. The workers are frozen meanwhile: their
// readers fetch ahead, and of a partition only what comes first lies in their connections then.
func (r *run) trimLog() {
	r.t.Helper()
	const most, first = 400, 10 // records appended to a partition, and those of them in a batch of their own
	p := r.pipeline
	p.Must("pause", p.Spec.Name)
	r.say("%s", LogTrimmed)
	for _, w := range r.workers {
		w.signal(syscall.SIGSTOP)
	}
	cuts := make([]int64, p.Parts)
	for n := range p.Fed {
		old := p.Fed[n].Records
		if len(old) == 0 {
			continue
		}
		var values [][]byte
		for _, rec := range old[max(0, len(old)-most):] {
			values = append(values, r.plan.shift(rec.Value))
		}
		split := min(first, len(values))
		cuts[n] = int64(len(old) + split + 1 + int(r.plan.Seed)%(len(values)-split+1))
		cuts[n] = min(cuts[n], int64(len(old)+len(values)))
		p.Send(int32(n), values[:split]...)
		p.Send(int32(n), values[split:]...)
	}
	ends := p.Total()
	r.deleteRecords(cuts)
	for _, w := range r.workers {
		w.signal(syscall.SIGCONT)
	}
	r.out.Faults[LogTrimmed]++
	p.Must("resume", p.Spec.Name)
	r.until("every lane has asked or read everything", func() bool {
		for n, cut := range cuts {
			m, found := p.Meta(int32(n))
			if cut > 0 && r.decided[incidentOf{report.IncidentGap, int32(n)}] == 0 && (!found || m.Offset < cut) {
				return false
			}
		}
		return true
	})
	require.NotEmpty(r.t, r.skipped, "no lane has missed a record")
	r.until("what is left is read", func() bool { return p.Committed() >= ends })
	r.out.Events = p.Total()
}

// deleteRecords moves the start of every partition's log.
func (r *run) deleteRecords(starts []int64) {
	r.t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic = r.pipeline.Topic()
	for n, start := range starts {
		if start > 0 {
			topic.Partitions = append(topic.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Partition: int32(n), Offset: start})
		}
	}
	req.Topics = append(req.Topics, topic)
	for _, shard := range r.world.Raw.RequestSharded(context.Background(), req) {
		require.NoError(r.t, shard.Err)
		for _, t := range shard.Resp.(*kmsg.DeleteRecordsResponse).Topics {
			for _, part := range t.Partitions {
				require.NoError(r.t, kerr.ErrorForCode(part.ErrorCode), "partition %d", part.Partition)
			}
		}
	}
}

// skip takes records that the operator has given up out of what the oracle reads.
func (r *run) skip(partition int32, from, to int64) {
	fed := &r.pipeline.Fed[partition]
	before := len(fed.Records)
	fed.Records = slices.DeleteFunc(fed.Records, func(rec oracle.Record) bool { return rec.Offset >= from && rec.Offset < to })
	r.skipped[partition] += int64(before - len(fed.Records))
	r.say("  lane %d skips the %d records of offsets %d to %d", partition, before-len(fed.Records), from, to)
}
