package lane

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

// fakeGate lets every step through and remembers the acquisitions.
type fakeGate struct {
	mu     sync.Mutex
	seen   []*Acquisition
	ended  int
	parked []Parking
}

func (g *fakeGate) Admit(_ context.Context, a *Acquisition, step string) (string, func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if step == report.StepAcquire && (len(g.seen) == 0 || g.seen[len(g.seen)-1] != a) {
		g.seen = append(g.seen, a)
	}
	return report.ByTemporal, func() {}
}

func (g *fakeGate) Ended(*Acquisition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended++
}

func (g *fakeGate) Parked(p Parking) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parked = append(g.parked, p)
}

// parkings are the lanes that parked while they ran, so far.
func (g *fakeGate) parkings() []Parking {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.parked)
}

// fakeJournal fails a few times to bring a chain home.
type fakeJournal struct {
	*journal.Journal
	mu    sync.Mutex
	fails int
	calls [][2]store.Token
}

func (j *fakeJournal) Resume(_ context.Context, _ journal.Applier, _ journal.SideSender, _ store.LaneID, _ string,
	previous, owner store.Token, _ store.Cursor) (report.SettledChain, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, [2]store.Token{previous, owner})
	if j.fails > 0 {
		j.fails--
		return report.SettledChain{}, errors.New("redis is away")
	}
	return report.SettledChain{Outcome: report.ChainDrained, Commits: 3, Entries: 7, Bytes: 9, From: 1, To: 2}, nil
}

func TestStepsAreRecordedAndBoundToTheirToken(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(31, 31)), 200))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 200 })
	require.NoError(t, b.stop(t))
	before := b.Status().Owner

	real, _, err := journal.Open(journal.Config{Log: wal.Config{Dir: "wal", FS: faultfs.New(0), SegmentSize: wal.MinSegmentSize, HardLimit: 1 << 20}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, real.Close()) })
	gate, home := &fakeGate{}, &fakeJournal{Journal: real, fails: 2}
	l := New(&Deps{
		Store: st, Side: &sideLog{}, Cluster: log, Open: log.open, Group: "g", Budget: NewBudget(1 << 30), Desired: NewDesired(),
		Log: quiet, Gate: gate, Journal: home,
	}, mustProgram(t), log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	eventually(t, "running", func() bool { return l.Status().State == StateRunning })
	gate.mu.Lock()
	a := gate.seen[0]
	gate.mu.Unlock()
	require.Len(t, home.calls, 3)
	for _, call := range home.calls {
		require.Equal(t, [2]store.Token{before, a.Token()}, call, "a retry asks as the first try did")
	}
	steps, outcome := a.Results()
	require.Equal(t, report.LaneRunning, outcome)
	for _, s := range steps {
		require.True(t, s.Done, s.Step)
		require.Equal(t, report.ByTemporal, s.By)
		require.Equal(t, before.Epoch()+1, s.Epoch)
	}
	require.Equal(t, before.Epoch(), steps[0].From)
	require.Equal(t, 3, steps[1].Tries)
	require.Equal(t, int64(3), steps[1].Journal.Commits)
	require.Positive(t, steps[2].Entries)
	require.Positive(t, steps[2].Bytes)
	require.Equal(t, []int64{200, 200, 0, 200}, []int64{steps[3].Committed, steps[3].Start, steps[3].LogStart, steps[3].LogEnd})

	res, err := a.Result(t.Context(), a.Token(), report.StepRestore)
	require.NoError(t, err)
	require.Equal(t, steps[2], res, "done already")
	_, err = a.Result(t.Context(), before, report.StepRestore)
	require.ErrorIs(t, err, ErrStaleStep)
	_, err = a.Result(t.Context(), a.Token(), "jump")
	require.ErrorContains(t, err, "want one of")
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, 1, gate.ended)
}

// What an entry has beyond the committed offset is read again, and counted as such.
func TestReReadIsCounted(t *testing.T) {
	st, redis := testStore(t)
	p := mustProgram(t)
	p.Spec.Lane.ChunkFields = 1
	meta, owner := takeOver(t, st, p)
	s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
	quiet := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none}
	c := &fold.Commit{}
	s.Fold(batch(eventAt(0, "a", kafkaTime-600_000, 1)))
	s.Snapshot(c, quiet)
	require.NoError(t, deliverCommit(t.Context(), st, &sideLog{}, testLane, p.StateID, owner, c))
	begin(t, st, p, s, owner, 20, quiet)

	log := newFakeLog(make([]source.Record, 20))
	for i := range log.records {
		log.records[i] = eventAt(int64(i), string(rune('a'+i%26)), kafkaTime-600_000+int64(i), 1)
	}
	b := start(t, log, st, redis)
	b.wait(t, "running", func(s Status) bool { return s.State == StateRunning })
	require.NoError(t, b.stop(t))
	steps, _ := b.acquisition.Results()
	require.Equal(t, int64(19), steps[3].Reread)
}

func TestAnAcquisitionThatParksIsOver(t *testing.T) {
	log := newFakeLog(nil)
	log.hint.Offset = 5
	st, redis := testStore(t)
	b := startLost(t, log, st, redis)
	require.NoError(t, b.stop(t))
	a := b.acquisition
	steps, outcome := a.Results()
	require.Equal(t, report.LaneParked, outcome)
	require.Equal(t, report.IncidentStateLost, steps[3].Incident.Kind)
	_, err := a.Result(t.Context(), a.Token(), report.StepVerify)
	require.NoError(t, err)
	_, err = a.Result(t.Context(), a.Token(), report.StepResume)
	require.ErrorIs(t, err, ErrStaleStep)
}

// A state that is rebuilt from a log which has lost its head asks once more.
func TestRebuildBehindAGap(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(32, 32)), 500))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))
	r := b.state.Replay()
	log.hint = source.Committed{Offset: 500, Metadata: r.String()}
	redis.FlushAll()
	log.ends.Start = r.From + 30

	b = startLost(t, log, st, redis)
	inc := b.Status().Incident
	require.Equal(t, int64(30), inc.Choices[0].Lost)
	require.NoError(t, b.Decide(inc.ID, report.ChoiceRebuild, "me"))
	b.wait(t, "parked again", func(s Status) bool { return s.State == StateParked && s.Incident.Kind == report.IncidentGap })
	inc = b.Status().Incident
	require.Equal(t, []int64{r.From, r.From + 30, 30}, []int64{inc.From, inc.To, inc.Choices[0].Lost})
	require.NoError(t, b.Decide(inc.ID, report.ChoiceSkip, "me"))
	b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 500 })
	require.NoError(t, b.stop(t))
	meta, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.Equal(t, []int64{470, 30}, []int64{meta.Counters.Read, meta.Counters.Skipped})
	require.NotZero(t, meta.Era, "what was published held the records that are gone")
	conserve(t, meta.Counters)
}
