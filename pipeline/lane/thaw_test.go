package lane

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// freezingGate lets the world go on before a step of the first acquisition, as if the process had been frozen there.
type freezingGate struct {
	fakeGate
	step  string
	while func()
}

func (g *freezingGate) Admit(ctx context.Context, a *Acquisition, step string) (string, func()) {
	if step == g.step && g.while != nil {
		while := g.while
		g.while = nil
		while()
	}
	return g.fakeGate.Admit(ctx, a, step)
}

// TestThawedLaneReportsNoIncident: while the process was frozen, another one has begun the lane, and the group has an offset. That
// the meta of then says nothing of it is no loss.
func TestThawedLaneReportsNoIncident(t *testing.T) {
	st, redis := testStore(t)
	p := mustProgram(t)
	log := newFakeLog(make([]source.Record, 20))
	for i := range log.records {
		log.records[i] = eventAt(int64(i), "a", kafkaTime-600_000+int64(i), 1)
	}
	gate := &freezingGate{step: report.StepVerify}
	gate.while = func() {
		meta, owner := takeOver(t, st, p)
		require.Negative(t, meta.Offset)
		s, c := fold.NewState(p, testLane, "id", 0, meta.Cursor), &fold.Commit{}
		s.Fold(batch(log.records...))
		s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
		require.NoError(t, deliverCommit(t.Context(), st, &sideLog{}, testLane, p.StateID, owner, c))
		log.mu.Lock()
		defer log.mu.Unlock()
		log.hint.Offset = 20
	}
	b := start(t, log, st, redis, func(d *Deps) { d.Gate = gate })
	eventually(t, "the lane is given up", func() bool { return len(b.done) == 1 })
	err := <-b.done
	b.done <- err
	require.ErrorIs(t, err, store.ErrFenced)
	require.Len(t, gate.seen, 1)
	steps, outcome := gate.seen[0].Results()
	require.Equal(t, report.LaneSuperseded, outcome)
	for _, s := range steps {
		require.Nil(t, s.Incident, s.Step)
	}
}
