package lane

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// script is what one lane went through: where it took which snapshot, and what it adopted there.
type script struct {
	log    []source.Record
	at     []int64 // offsets of snapshots, ascending
	ctl    []fold.Control
	hints  []string // metadata after each snapshot
	states []map[string]string
	final  []int64 // drop_before in force at each snapshot
	sides  []int   // side records reported up to each snapshot
}

// play runs an undisturbed lane over a random log: now and then it is sealed as an idle lane, and slices are dropped.
func play(t *testing.T, p *fold.Program, rng *rand.Rand, n int) *script {
	t.Helper()
	sc := &script{log: randomLog(rng, n)}
	s := fold.NewState(p, testLane, "id", 0, store.Cursor{})
	drop, committed, sides := int64(none), int64(none), 0
	for s.Offset() < int64(n) {
		to := min(int64(n), s.Offset()+1+rng.Int64N(40))
		s.Fold(batch(sc.log[s.Offset():to]...))
		ctl := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none}
		if rng.IntN(6) == 0 {
			ctl.IdleAt, ctl.SealBefore = to, s.Watermark()+rng.Int64N(60_000)
		}
		if rng.IntN(4) == 0 && committed != none {
			drop = max(drop, committed-rng.Int64N(200_000))
		}
		ctl.DropBefore = drop
		c := &fold.Commit{}
		s.Snapshot(c, ctl)
		s.Acknowledged(c)
		committed = max(committed, c.Effective)
		sides += len(c.Side)
		sc.at, sc.ctl, sc.final = append(sc.at, to), append(sc.ctl, ctl), append(sc.final, drop)
		sc.hints, sc.states, sc.sides = append(sc.hints, c.Replay.String()), append(sc.states, contents(s)), append(sc.sides, sides)
	}
	return sc
}

// open leaves out the slices of windows that are final: a rebuild brings them back until the closer's request is followed.
func (sc *script) open(t *testing.T, p *fold.Program, state map[string]string, before int64) map[string]string {
	t.Helper()
	plan, err := window.NewPlan(p.Spec)
	require.NoError(t, err)
	out := maps.Clone(state)
	maps.DeleteFunc(out, func(k, _ string) bool {
		name, _, _ := strings.Cut(k, "/")
		id, err := store.ParseSliceID(name)
		return err == nil && plan.LastDeadline(id.Start) <= before
	})
	return out
}

// rebuilding is a lane whose state comes back.
type rebuilding struct {
	*Lane
	st    *store.Store
	s     *fold.State
	sides int
}

func lost(t *testing.T, p *fold.Program, st *store.Store) *rebuilding {
	t.Helper()
	l := New(&Deps{Store: st, Budget: NewBudget(1 << 30), Desired: NewDesired(), Log: quiet}, p, newFakeLog(nil))
	return &rebuilding{Lane: l, st: st}
}

// decide takes the lane and carries a decision out.
func (r *rebuilding) decide(t *testing.T, kind, choice string, at *position, s *fold.State) store.Meta {
	t.Helper()
	_, _, err := r.writeToken(t.Context())
	require.NoError(t, err)
	if s == nil && kind != report.IncidentStateLost {
		s, _, err = Restore(t.Context(), r.st, r.program, testLane, r.token)
		require.NoError(t, err)
	}
	meta, err := r.carryOut(t.Context(), &report.Decision{Kind: kind, Choice: choice, Lost: report.UnknownCost, At: time.UnixMilli(kafkaTime)}, at, s)
	require.NoError(t, err)
	r.restored(t)
	return meta
}

func (r *rebuilding) restored(t *testing.T) {
	t.Helper()
	var err error
	r.s, _, err = Restore(t.Context(), r.st, r.program, testLane, r.token)
	require.NoError(t, err)
}

// commit delivers a snapshot, or a part of it when the lane is to crash there.
func (r *rebuilding) commit(t *testing.T, ctl fold.Control, crash int) {
	t.Helper()
	c := &fold.Commit{}
	r.s.Snapshot(c, ctl)
	if crash >= 0 {
		c.Calls = c.Calls[:crash%len(c.Calls)]
	}
	r.sides += len(c.Side)
	side := &sideLog{}
	require.NoError(t, deliverCommit(context.Background(), r.st, side, testLane, r.program.StateID, r.token, c))
	if crash < 0 {
		r.s.Acknowledged(c)
		return
	}
	_, _, err := r.writeToken(t.Context())
	require.NoError(t, err)
	r.restored(t)
}

const manyWindows = `
windows:
  - {name: minute, size: 1m}
  - {name: slide, size: 2m, slide: 40s}
  - {name: five, size: 5m}
`

// programOf compiles the test spec, with other windows if any are given.
func programOf(t *testing.T, windows string) *fold.Program {
	t.Helper()
	text := testSpec
	if windows != "" {
		from := strings.Index(text, "windows:")
		to := strings.Index(text, "watermark:")
		text = text[:from] + strings.TrimPrefix(windows, "\n") + text[to:]
	}
	s, err := spec.Parse("orders.yaml", []byte(text))
	require.NoError(t, err)
	p, err := fold.Compile(s)
	require.NoError(t, err)
	p.Spec.Lane.ChunkFields = 16
	return p
}

// Whatever is left of a lane's past in the group's offset brings back exactly the lane that never lost anything, wherever
// it was lost and however often it crashes on the way back.
func TestRebuildOfALostState(t *testing.T) {
	for i, windows := range []string{"", manyWindows} {
		p := programOf(t, windows)
		for seed := range uint64(15) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			sc := play(t, p, rng, 400)
			k := rng.IntN(len(sc.at))
			name := fmt.Sprintf("windows %d, seed %d, lost at %d: %s", i, seed, sc.at[k], sc.hints[k])
			replay, err := fold.ParseReplay(sc.hints[k])
			require.NoError(t, err, name)
			require.True(t, replay.Exact(), name)

			st, _ := testStore(t)
			r := lost(t, p, st)
			at := &position{
				hint: source.Committed{Offset: sc.at[k], Metadata: sc.hints[k]}, topicID: "id",
				ends: source.Ends{End: 400, HighWatermark: 400},
			}
			meta := r.decide(t, report.IncidentStateLost, report.ChoiceRebuild, at, nil)
			require.Equal(t, replay.From, meta.Offset, name)
			require.Zero(t, meta.Era, name)
			r.again(t, rng, sc, k)
			require.Zero(t, r.sides, "%s: side records were reported before", name)
			require.Equal(t, sc.open(t, p, sc.states[k], sc.final[k]), sc.open(t, p, contents(r.s), sc.final[k]), name)
			r.goOn(t, sc, k)
			last := len(sc.at) - 1
			require.Equal(t, sc.open(t, p, sc.states[last], sc.final[last]), sc.open(t, p, contents(r.s), sc.final[last]), name)
			require.Equal(t, sc.sides[last]-sc.sides[k], r.sides, name)
			conserve(t, r.s.Counters())
		}
	}
}

// again reads up to the offset that was lost, with snapshots at random places that ask for more than may be adopted now.
func (r *rebuilding) again(t *testing.T, rng *rand.Rand, sc *script, k int) {
	t.Helper()
	crashes := 3
	for r.s.Offset() < sc.at[k] {
		to := min(sc.at[k], r.s.Offset()+1+rng.Int64N(60))
		r.s.Fold(batch(sc.log[r.s.Offset():to]...))
		if to == sc.at[k] {
			return
		}
		crash := -1
		if crashes > 0 && rng.IntN(3) == 0 {
			crash, crashes = rng.IntN(100), crashes-1
		}
		r.commit(t, fold.Control{IdleAt: to, SealBefore: kafkaTime, DropBefore: sc.final[k]}, crash)
	}
}

// goOn does from the lost snapshot on what the first lane did.
func (r *rebuilding) goOn(t *testing.T, sc *script, k int) {
	t.Helper()
	for i := k + 1; i < len(sc.at); i++ {
		r.s.Fold(batch(sc.log[r.s.Offset():sc.at[i]]...))
		r.commit(t, sc.ctl[i], -1)
	}
}

// A log that lost its tail: the lane ends as one that never read the tail.
func TestRebuildOfATruncatedLog(t *testing.T) {
	p := programOf(t, manyWindows)
	exact := 0
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 7))
		sc := play(t, p, rng, 400)
		st, _ := testStore(t)
		r := lost(t, p, st)
		_, meta, err := r.writeToken(t.Context())
		require.NoError(t, err)
		r.s = fold.NewState(p, testLane, "id", 0, meta.Cursor)
		r.goOn(t, sc, -1)

		k := rng.IntN(len(sc.at) - 1)
		replay := r.s.Replay()
		if replay.From > sc.at[k] {
			continue
		}
		exact++
		r.sides = 0
		ends := source.Ends{End: sc.at[k], HighWatermark: sc.at[k]}
		meta = r.decide(t, report.IncidentTruncated, report.ChoiceRebuild, &position{topicID: "id", ends: ends}, nil)
		require.Equal(t, replay.From, meta.Offset)
		require.Equal(t, int64(kafkaTime), meta.Era)
		r.again(t, rng, sc, k)
		last := sc.final[len(sc.at)-1]
		require.Equal(t, sc.open(t, p, sc.states[k], last), sc.open(t, p, contents(r.s), last), "seed %d", seed)
		require.Zero(t, r.sides)
	}
	require.Greater(t, exact, 3)
}

func TestSkippedRecordsAreCountedExactly(t *testing.T) {
	p := programOf(t, "")
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		log := randomLog(rng, 300)
		st, _ := testStore(t)
		r := lost(t, p, st)
		_, meta, err := r.writeToken(t.Context())
		require.NoError(t, err)
		r.s = fold.NewState(p, testLane, "id", 0, meta.Cursor)
		quiet := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none}
		r.s.Fold(batch(log[:100]...))
		r.commit(t, quiet, -1)
		r.s.Fold(batch(log[100:160]...))
		r.commit(t, quiet, 1+rng.IntN(100)) // a part of it stands in entries
		kept := r.s.Unconfirmed()

		start := 100 + 1 + rng.Int64N(150)
		inc := &report.Incident{Kind: report.IncidentGap, From: 100, To: start}
		r.offer(inc, nil, r.s, 100)
		ahead := r.s.Stamped()
		meta = r.decide(t, report.IncidentGap, report.ChoiceSkip, &position{topicID: "id", ends: source.Ends{Start: start, End: 300, HighWatermark: 300}}, nil)
		require.Equal(t, max(start, ahead), meta.Offset)
		require.Equal(t, meta.Offset-100-kept, meta.Counters.Skipped)
		require.Equal(t, inc.Choices[0].Lost, meta.Counters.Skipped, "what the operator was told")
		require.Equal(t, meta.Offset, meta.Counters.Read+meta.Counters.Skipped)
		r.s.Fold(batch(log[meta.Offset:]...))
		r.commit(t, quiet, -1)
		r.restored(t)
		conserve(t, r.s.Counters())
		require.Equal(t, int64(300), r.s.Counters().Read+r.s.Counters().Skipped)
		for name, sum := range contents(r.s) {
			if strings.HasSuffix(name, "/sum") {
				require.Equal(t, "true", sum, name)
			}
		}
	}
}

func startLost(t *testing.T, log *fakeLog, st *store.Store, redis *miniredis.Miniredis) *bench {
	t.Helper()
	b := start(t, log, st, redis)
	b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
	return b
}

// The whole way: a process dies, Redis is emptied, the next owner parks, the operator decides, the lane is exact.
func TestOperatorDecidesRebuild(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(21, 21)), 500))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))
	want := contents(b.state)
	log.hint = source.Committed{Offset: 500, Metadata: b.state.Replay().String()}
	redis.FlushAll()

	b = startLost(t, log, st, redis)
	inc := b.Status().Incident
	require.Equal(t, report.IncidentStateLost, inc.Kind)
	require.Equal(t, report.ChoiceRebuild, inc.Choices[0].Name)
	require.True(t, inc.Choices[0].Exact)
	require.Positive(t, inc.Choices[0].Reread)
	require.ErrorIs(t, b.Decide(inc.ID, "forget", "me"), ErrUnknownChoice)
	require.NotContains(t, b.Decide(inc.ID, "forget", "me").Error(), "orders/0", "whoever asks names the lane")
	require.ErrorContains(t, b.Decide(inc.ID, "forget", "me"), "rebuild, retry, wait")
	require.ErrorIs(t, b.Decide("gap:1", report.ChoiceRebuild, "me"), ErrOtherIncident)
	require.NoError(t, b.Decide(inc.ID, report.ChoiceWait, "me"))
	require.NoError(t, b.Decide(string(b.Status().Owner), report.ChoiceRebuild, "me"))
	require.NoError(t, b.Decide(inc.ID, report.ChoiceRebuild, "me again"))
	require.ErrorIs(t, b.Decide(inc.ID, report.ChoiceWait, "me"), ErrDecided)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 && s.State == StateRunning })
	decisions := b.Status().Decisions
	require.Len(t, decisions, 2)
	require.Equal(t, "me", decisions[1].By)
	require.Less(t, decisions[1].Start, int64(500))
	require.ErrorIs(t, b.Decide("gap:1", report.ChoiceSkip, "me"), ErrNotParked)
	require.NoError(t, b.stop(t))
	require.Empty(t, b.side.records, "they were sent before the state was lost")
	require.Equal(t, want, contents(b.state))
	b.requireExact(t, b.state)
}

func TestOperatorDecidesAboutAGapThatTheReaderMet(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(22, 22)), 300))
	st, redis := testStore(t)
	all := log.records
	log.records = all[:100]
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	log.mu.Lock()
	log.records, log.ends = all, source.Ends{Start: 150, End: 300, HighWatermark: 300}
	log.mu.Unlock()
	log.readers[0].fail = &source.OutOfRangeError{Offset: 100, Ends: log.ends}
	log.readers[0].Close()
	b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
	inc := b.Status().Incident
	require.Equal(t, int64(50), inc.Choices[0].Lost)
	require.NoError(t, b.Decide(inc.ID, report.ChoiceSkip, "me"))
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 300 })
	require.NoError(t, b.stop(t))
	meta, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.Equal(t, int64(50), meta.Counters.Skipped)
	require.Equal(t, int64(250), meta.Counters.Read)
	conserve(t, meta.Counters)
}

func TestOperatorDecidesAboutTheOtherIncidents(t *testing.T) {
	records := randomLog(rand.New(rand.NewPCG(23, 23)), 400)
	tests := []struct {
		name   string
		change func(*fakeLog)
		choice string
		want   func(t *testing.T, d report.Decision, m store.Meta)
	}{
		{"truncated", func(f *fakeLog) { f.records, f.ends.HighWatermark = records[:380], 380 }, report.ChoiceRebuild, func(t *testing.T, d report.Decision, m store.Meta) {
			require.Equal(t, int64(380), m.Counters.Read)
			require.NotZero(t, m.Era)
		}},
		{"other log", func(f *fakeLog) {
			f.records, f.ends.HighWatermark, f.topicID = records[:200], 200, "another"
		}, report.ChoiceRestart, func(t *testing.T, d report.Decision, m store.Meta) {
			require.Positive(t, d.Lost)
			require.Equal(t, d.Lost, m.Counters.Skipped)
			require.Equal(t, int64(200), m.Counters.Read)
			require.Equal(t, "another", m.TopicID)
			require.NotZero(t, m.Era)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := newFakeLog(records)
			st, redis := testStore(t)
			b := start(t, log, st, redis)
			b.wait(t, "all committed", func(s Status) bool { return s.Committed == 400 })
			require.NoError(t, b.stop(t))
			tt.change(log)
			b = startLost(t, log, st, redis)
			require.NoError(t, b.Decide(b.Status().Incident.ID, tt.choice, "me"))
			b.wait(t, "all committed", func(s Status) bool {
				return s.State == StateRunning && s.Committed == log.ends.HighWatermark
			})
			require.NoError(t, b.stop(t))
			meta, _, err := st.ReadMeta(t.Context(), testLane)
			require.NoError(t, err)
			tt.want(t, b.Status().Decisions[0], meta)
			conserve(t, meta.Counters)
			b.requireExact(t, b.state)
			want := fold.NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
			want.Fold(batch(log.records...))
			got := contents(b.state)
			got["counters"] = fmt.Sprint(want.Counters())
			require.Equal(t, contents(want), got)
		})
	}
}
