package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/pipeline/engine"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/tests/oracle"
)

// loseStores stops the pipeline, empties Redis and deletes the consumer group, as when a pipeline was stopped for longer
// than the brokers keep a group's offsets. Only the ledger still knows that the lanes had a past: each that it names must
// ask, and none may begin anew in silence.
func (r *run) loseStores() {
	r.t.Helper()
	ctx := context.Background()
	named := make(map[int32]bool)
	for _, row := range r.pipeline.Ledger() {
		for _, c := range row.Lanes {
			if c.Offset > 0 {
				named[c.Partition] = true
			}
		}
	}
	r.say("%s: the ledger names %d lanes", StoresGone, len(named))
	r.pipeline.Must("stop", r.pipeline.Spec.Name)
	// Nobody is in the group: a hot path that Temporal took for dead outlives the stop for some seconds, and would write
	// the state of its lanes again.
	r.until("the consumer group is deleted", func() bool {
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Groups = []string{engine.Group(r.pipeline.Spec.Name)}
		resp, err := req.RequestWith(ctx, r.world.Raw)
		if err != nil || len(resp.Groups) != 1 {
			return false
		}
		err = kerr.ErrorForCode(resp.Groups[0].ErrorCode)
		return err == nil || errors.Is(err, kerr.GroupIDNotFound)
	})
	require.NoError(r.t, r.probe.FlushAll(ctx).Err())
	r.out.Faults[StoresGone]++
	r.pipeline.StartAsking()
	r.until("every lane that the ledger names has asked", func() bool {
		for n := range named {
			if r.decided[incidentOf{report.IncidentStateLost, n}] == 0 {
				return false
			}
		}
		return true
	})
	r.until("everything is read again", func() bool { return r.pipeline.Committed() >= r.out.Events })
}

// former is what the pipeline read before its source topic was made again.
type former struct {
	lanes []oracle.Lane
	until time.Time // every event of the new log is later
}

// makeTopicAgain deletes the source topic and makes it again while the pipeline is paused. The new log is longer than the
// old one, so a lane that went on at its old offset would skip its beginning. Each lane must ask. The new events lie a
// year ahead: what was final stays as it was, and the windows of the new log are exact.
func (r *run) makeTopicAgain() {
	r.t.Helper()
	ctx := context.Background()
	p := r.pipeline
	p.Must("pause", p.Spec.Name)
	r.say("%s", TopicAgain)
	r.former = &former{lanes: slices.Clone(p.Fed), until: time.Date(2001, 7, 1, 0, 0, 0, 0, time.UTC)}
	if !r.plan.variant().flights {
		r.former.until = time.UnixMilli(noon).AddDate(0, 6, 0)
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TopicNames = []string{p.Topic()}
	del.TimeoutMillis = 10_000
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = kmsg.StringPtr(p.Topic())
	del.Topics = append(del.Topics, topic)
	resp, err := del.RequestWith(ctx, r.world.Raw)
	require.NoError(r.t, err)
	require.Len(r.t, resp.Topics, 1)
	require.NoError(r.t, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	r.until("the topic is made again", func() bool {
		_, err := r.world.Cluster.EnsureTopic(ctx, source.TopicSpec{Name: p.Topic(), Partitions: p.Parts})
		return err == nil
	})
	r.world.Raw.PurgeTopicsFromClient(p.Topic()) // it remembers the id
	for n := range p.Fed {
		old := p.Fed[n].Records
		p.Fed[n].Records = nil
		values := make([][]byte, 0, len(old)+50)
		for _, rec := range old {
			values = append(values, r.plan.shift(rec.Value))
		}
		for i := range 50 { // the new log ends behind the old one
			values = append(values, fmt.Appendf(nil, `{"beyond": %d}`, i))
		}
		p.Send(int32(n), values...)
	}
	r.out.Faults[TopicAgain]++
	p.Must("resume", p.Spec.Name)
	r.until("every lane has asked", func() bool {
		for n := range p.Parts {
			if len(r.former.lanes[n].Records) > 0 && r.decided[incidentOf{report.IncidentOtherLog, n}] == 0 {
				return false
			}
		}
		return true
	})
	r.out.Events = p.Total()
	r.until("the new log is read", func() bool { return p.Committed() >= r.out.Events })
}

// shift moves an event a year ahead; what is no event stays as it is.
func (p *Plan) shift(value []byte) []byte {
	name, unit := `"t":`, int64(1000)
	if p.variant().flights {
		name, unit = `"scheduled":`, 1
	}
	head, tail, found := bytes.Cut(value, []byte(name))
	if !found {
		return value
	}
	end := bytes.IndexAny(tail, ",}")
	if end < 0 {
		return value
	}
	t, err := strconv.ParseInt(string(bytes.TrimSpace(tail[:end])), 10, 64)
	if err != nil {
		return value
	}
	const year = 365 * 24 * 3600
	return slices.Concat(head, []byte(name), strconv.AppendInt(nil, t+year*unit, 10), tail[end:])
}

// judgeFormer compares the final windows of the old log with the oracle's, and returns the rows of the new one.
func (r *run) judgeFormer(rows [][]byte) (latest [][]byte) {
	r.t.Helper()
	final := make(map[string]bool)
	for _, row := range r.pipeline.Ledger() {
		if row.Final {
			final[fmt.Sprint(row.Window, " ", time.UnixMilli(row.Start).UTC().Format(time.RFC3339))] = true
		}
	}
	keep := func(row []byte) (old, judged bool) {
		var at struct {
			Window string    `json:"window"`
			Start  time.Time `json:"start"`
		}
		require.NoError(r.t, json.Unmarshal(row, &at), "%s", row)
		return at.Start.Before(r.former.until), final[fmt.Sprint(at.Window, " ", at.Start.UTC().Format(time.RFC3339))]
	}
	var actual, expected, whole bytes.Buffer
	for _, row := range rows {
		switch old, judged := keep(row); {
		case !old:
			latest = append(latest, row)
		case judged:
			actual.Write(append(row, '\n'))
		}
	}
	o, err := oracle.ReadSpec(r.pipeline.YAML)
	require.NoError(r.t, err)
	o.Name = r.pipeline.Spec.Name
	want, err := oracle.Run(o, r.former.lanes)
	require.NoError(r.t, err)
	require.NoError(r.t, want.WriteJSON(&whole))
	for row := range bytes.Lines(whole.Bytes()) {
		if _, judged := keep(row); judged {
			expected.Write(row)
		}
	}
	diff, err := oracle.Compare(&expected, &actual, oracle.Options{})
	require.NoError(r.t, err)
	require.True(r.t, diff.Equal(), "final windows of the old log: %s", diff)
	r.say("%d windows of the old log are final and exact", len(final))
	for n, old := range r.former.lanes {
		m, found := r.pipeline.Meta(int32(n))
		require.True(r.t, found)
		require.Equal(r.t, int64(len(r.pipeline.Fed[n].Records)), m.Counters.Read, "partition %d", n)
		require.LessOrEqual(r.t, m.Counters.Skipped, int64(len(old.Records)), "partition %d", n)
	}
	return latest
}
