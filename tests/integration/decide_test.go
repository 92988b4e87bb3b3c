package integration

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/tests/rig"
)

// The only worker is killed and Redis loses everything. The next worker's lanes park; the operator finds the recovery with the
// command line, reads what can be done and decides lane by lane; the lanes go on and the recovery is over.
func TestOperatorDecides(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 20_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4)
	first := w.Worker()
	w.Ready(first)
	p.Start()
	feed := p.Trickle(lines, len(lines)/15)
	p.Reach(int64(len(lines)) / 3)
	p.hintsFollow()
	first.Kill()
	require.NoError(t, rdb.Client().FlushAll(context.Background()).Err())
	second := w.Worker()
	w.Ready(second)

	asked := p.asking(int(p.Parts), 2*patience)
	rig.Eventually(t, "status says that the lanes are parked, and why", patience, func() bool {
		parked := 0
		for _, l := range p.Status().Lanes {
			if l.State == lane.StateParked && len(l.Reason) > 0 && slices.Contains(l.Choices, report.ChoiceRebuild) {
				parked++
			}
		}
		return parked == int(p.Parts)
	})
	for _, r := range asked {
		var shown contract.RecoverStatus
		out := p.Must("recover", "show", r.ID, "--json").Out
		require.NoError(t, json.Unmarshal([]byte(out), &shown), "%s", out)
		text := p.Must("recover", "show", r.ID).Out
		for _, l := range shown.Lanes {
			require.Equal(t, report.IncidentStateLost, l.Incident.Kind)
			require.Equal(t, report.ChoiceRebuild, l.Incident.Choices[0].Name)
			require.Positive(t, l.Incident.Choices[0].Reread)
			name := laneName(l.Topic, l.Partition)
			require.Contains(t, text, "INCIDENT state-lost of "+name)
			require.Contains(t, text, "millrace recover decide "+r.ID+" "+name+" rebuild")

			wrong := p.CLI("recover", "decide", r.ID, name, "skip")
			require.NotZero(t, wrong.Code)
			require.Contains(t, wrong.Err, `"skip" is no choice for state-lost`)
			wait := p.decide(r.ID, name, report.ChoiceWait)
			require.True(t, wait.Applied, "%+v", wait)
			receipt := p.decide(r.ID, name, report.ChoiceRebuild, "--request-id", "decide-"+name, "--reason", "Redis was emptied")
			require.True(t, receipt.Applied, "%+v", receipt)
			require.Equal(t, report.IncidentStateLost, receipt.Incident)
			require.Contains(t, receipt.Cost, "reads")
			again := p.decide(r.ID, name, report.ChoiceRebuild, "--request-id", "decide-"+name, "--reason", "Redis was emptied")
			require.True(t, again.Repeated, "it says that it is a repetition")
			again.Repeated = false
			require.Equal(t, receipt, again, "a repeated request is answered with its receipt")
		}
	}
	feed.Finish()
	p.Reach(p.Total())
	lanes := 0
	for _, r := range asked {
		var result contract.RecoverResult
		p.result(r.ID, &result)
		t.Logf("%s: %s by %s, %+v", r.ID, result.Outcome, result.By, result.Totals)
		require.Equal(t, contract.OutcomeRecovered, result.Outcome, "%+v", result)
		require.Len(t, result.Decisions, 2*len(result.Lanes))
		require.Positive(t, result.Totals.Reread)
		for _, l := range result.Lanes {
			require.Equal(t, report.LaneRunning, l.State, "%+v", l)
			require.Equal(t, report.ChoiceRebuild, l.Incident.Decided)
		}
		lanes += len(result.Lanes)
	}
	require.Equal(t, int(p.Parts), lanes)
	p.Drain()
	p.RequireExact()
}

// decide is `millrace recover decide`.
func (p *pipeline) decide(args ...string) (r contract.DecisionReceipt) {
	p.T.Helper()
	out := p.Must(append([]string{"recover", "decide"}, append(args, "--json")...)...).Out
	require.NoError(p.T, json.Unmarshal([]byte(out), &r), "%s", out)
	return r
}

// hintsFollow waits until the consumer group has an offset of every lane.
func (p *pipeline) hintsFollow() {
	p.T.Helper()
	rig.Eventually(p.T, "the group's offsets follow", patience, func() bool {
		for n := range p.Parts {
			tp := source.TopicPartition{Topic: p.Topic(), Partition: n}
			at, err := p.Cluster.Committed(context.Background(), engine.Group(p.Spec.Name), tp)
			if err != nil || at[tp].Offset <= 0 {
				return false
			}
		}
		return true
	})
}
