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
// command decides for all lanes of a recovery that offer a rebuild, and everything is exact.
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
	asked := p.asking(3, patience)
	kinds := make(map[int32]string)
	for _, r := range asked {
		for _, l := range r.Status.Lanes {
			if l.Incident != nil {
				kinds[l.Partition] = l.Incident.Kind
			}
		}
	}
	require.Equal(t, map[int32]string{0: report.IncidentFormat, 1: report.IncidentCorrupt, 2: report.IncidentCorrupt}, kinds)
	decided := 0
	for _, r := range asked {
		wrong := p.CLI("recover", "decide", r.ID, "--all", "skip")
		require.Equal(t, cli.ExitFailed, wrong.Code, wrong.Err)
		require.Contains(t, wrong.Err, `no lane that waits for a decision offers "skip"`)
		receipt := p.decide(r.ID, "--all", report.ChoiceRebuild, "--request-id", "all")
		require.True(t, receipt.Applied, "%+v", receipt)
		decided += len(receipt.Lanes)
		again := p.decide(r.ID, "--all", report.ChoiceRebuild, "--request-id", "all")
		require.True(t, again.Repeated)
		require.Equal(t, receipt.Lanes, again.Lanes)
		var result contract.RecoverResult
		p.result(r.ID, &result)
		require.Equal(t, contract.OutcomeRecovered, result.Outcome, "%+v", result)
	}
	require.Equal(t, 3, decided)
	p.Feed(lines[4_000:])
	p.Reach(p.Total())
	p.Drain()
	p.RequireExact()
}
