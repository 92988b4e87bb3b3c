package integration

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/tests/rig"
)

// While a pipeline is stopped, what Redis holds of its lanes becomes useless in several ways. Its start asks about each, one
// command decides for all that offer a rebuild, and everything is exact.
func TestOperatorRebuildsWhatIsOfNoUse(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 8_000)
	lines = lines[:8_000]
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4)
	w.Ready(w.Worker())
	p.Start()
	p.Feed(lines[:4_000])
	p.Reach(4_000)
	p.hintsFollow()
	p.Must("stop", p.Spec.Name)
	ctx, c := context.Background(), rdb.Client()
	meta := func(n int32) string { return "mr:{" + p.Lane(n).String() + "}:meta" }
	require.NoError(t, c.HSet(ctx, meta(0), "format", 9).Err())
	require.NoError(t, c.HSet(ctx, meta(1), "offset", "many").Err())
	spoilt := 0
	for _, key := range c.Keys(ctx, strings.TrimSuffix(meta(2), "meta")+"p:*").Val() {
		for field, entry := range c.HGetAll(ctx, key).Val() {
			require.NoError(t, c.HSet(ctx, key, field, entry[:len(entry)-1]).Err())
			spoilt++
		}
	}
	require.Positive(t, spoilt)
	p.StartAsking()
	var asked told[contract.RecoverStatus]
	rig.Eventually(t, "three lanes ask", patience, func() bool {
		asked = p.deciding()
		parked := 0
		for _, l := range asked.Status.Lanes {
			if l.State == report.LaneParked {
				parked++
			}
		}
		return parked == 3
	})
	kinds := make(map[int32]string)
	for _, l := range asked.Status.Lanes {
		if l.Incident != nil {
			kinds[l.Partition] = l.Incident.Kind
		}
	}
	require.Equal(t, map[int32]string{0: report.IncidentFormat, 1: report.IncidentCorrupt, 2: report.IncidentCorrupt}, kinds)
	wrong := p.CLI("recover", "decide", asked.ID, "--all", "skip")
	require.Equal(t, cli.ExitFailed, wrong.Code, wrong.Err)
	require.Contains(t, wrong.Err, `no lane that waits for a decision offers "skip"`)
	receipt := p.decide(asked.ID, "--all", report.ChoiceRebuild, "--request-id", "all")
	require.True(t, receipt.Applied, "%+v", receipt)
	require.Len(t, receipt.Lanes, 3)
	again := p.decide(asked.ID, "--all", report.ChoiceRebuild, "--request-id", "all")
	require.True(t, again.Repeated)
	require.Equal(t, receipt.Lanes, again.Lanes)
	var result contract.RecoverResult
	p.result(asked.ID, &result)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome, "%+v", result)
	p.Feed(lines[4_000:])
	p.Reach(p.Total())
	p.Drain()
	p.RequireExact()
}
