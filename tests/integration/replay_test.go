package integration

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/tests/rig"
)

// replayed is the status of a replay.
func (p *pipeline) replayed(id string) (s contract.ReplayStatus) {
	p.T.Helper()
	a := p.CLI("replay", "show", p.Spec.Name, id, "--json")
	if a.Code == 0 {
		require.NoError(p.T, json.Unmarshal([]byte(a.Out), &s), a.Out)
	}
	return s
}

// comesTo waits until a replay is in a state.
func (p *pipeline) comesTo(id, state string) (s contract.ReplayStatus) {
	p.T.Helper()
	rig.Eventually(p.T, id+" is "+state, 2*patience, func() bool {
		s = p.replayed(id)
		return s.State == state
	})
	return s
}

// finals are the final windows of the pipeline, by start.
func (p *pipeline) finals() (rows []ledger.Row) {
	p.T.Helper()
	rows = slices.DeleteFunc(p.Ledger(), func(r ledger.Row) bool { return !r.Final })
	slices.SortFunc(rows, func(a, b ledger.Row) int { return int(a.Start - b.Start) })
	return rows
}

// A replay outlives its workers: one is killed while it reads, all of them while it asks, and one once it was approved. What comes of it
// is what everything that ever arrived adds up to, and nothing of the shadow stays.
func TestReplayOutlivesItsWorkers(t *testing.T) {
	t.Parallel()
	const records = 60_000
	yaml, lines := rig.Flights(t, records)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	workers := map[string]*rig.Process{}
	for _, name := range []string{"worker-1", "worker-2"} {
		workers[name] = rig.Spawn(t, w.WorkerProgram(name))
		w.Ready(workers[name])
	}
	p.Start()
	p.Feed(lines)
	p.Reach(records)
	var finals []ledger.Row
	rig.Eventually(t, "some windows are final", 2*patience, func() bool {
		finals = p.finals()
		return len(finals) > 4
	})
	late := lines[:30] // of the first hours, and they come again
	for n := range int32(4) {
		p.Send(n, late...)
	}
	p.Reach(records + 4*int64(len(late)))
	from, to := time.UnixMilli(finals[0].Start).UTC(), time.UnixMilli(finals[len(finals)-1].End).UTC()
	span := []string{p.Spec.Name, "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339)}

	p.Must(append([]string{"replay", "--lateness", "none", "--rate", "5000", "--id", "fix", "--detach"}, span...)...)
	var reading contract.ReplayStatus
	defer func() {
		if t.Failed() {
			t.Logf("the replay says: %s%s", p.CLI("replay", "show", p.Spec.Name, "fix").Out, p.CLI("replay", "ls", p.Spec.Name).Out)
		}
	}()
	rig.Eventually(t, "a tenth is read", patience, func() bool {
		reading = p.replayed("fix")
		return reading.Progress != nil && reading.Progress.Percent() >= 10
	})
	require.Equal(t, contract.StateReading, reading.State, "the rate leaves time for it")
	workers[reading.Progress.Worker].Kill()
	asking := p.comesTo("fix", contract.StateAsking)
	require.Positive(t, asking.Summary.Differ)
	require.NotEqual(t, reading.Progress.Worker, asking.Progress.Worker)

	for _, worker := range workers {
		if !worker.Ended() {
			worker.Kill()
		}
	}
	after := rig.Spawn(t, w.WorkerProgram("worker-3"))
	w.Ready(after)
	require.Equal(t, asking.Summary, p.comesTo("fix", contract.StateAsking).Summary)
	p.Must("replay", "approve", p.Spec.Name, "fix", asking.Summary.Checksum, "--detach")
	after.Kill()
	w.Ready(rig.Spawn(t, w.WorkerProgram("worker-4")))
	done := p.comesTo("fix", contract.StateDone)
	require.Equal(t, asking.Summary.Differ, done.Published.Count(contract.CarriedPublished)+done.Published.Count(contract.CarriedBefore),
		"%s", done.Published)
	require.False(t, slices.ContainsFunc(p.keys(), func(key string) bool { return strings.Contains(key, "@") }), "nothing of the shadow stays")

	again := p.Must(append([]string{"replay", "--lateness", "none", "--id", "again"}, span...)...)
	require.Contains(t, again.Out, "again of "+p.Spec.Name+": unchanged: nothing differs")
	recount := p.Must(append([]string{"recount", "--id", "check"}, span...)...)
	require.Contains(t, recount.Out, "check of "+p.Spec.Name+": certified: nothing differs")
	require.Contains(t, p.Must("verify", p.Spec.Name).Out, "everything agrees")
}
