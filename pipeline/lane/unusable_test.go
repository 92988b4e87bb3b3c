package lane

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

const testMeta = "mr:{orders/orders/0}:meta"

// Where the entries of the lane stand.
const (
	fieldKeys = "mr:{orders/orders/0}:s:"
	pageKeys  = "mr:{orders/orders/0}:p:"
)

// spoilValue changes the bytes of an entry in a field, or of a page.
func spoilValue(t *testing.T, redis *miniredis.Miniredis, prefix string, change func(value []byte)) {
	t.Helper()
	for _, key := range redis.Keys() {
		if strings.HasPrefix(key, prefix) {
			fields, err := redis.HKeys(key)
			require.NoError(t, err)
			value := []byte(redis.HGet(key, fields[0]))
			change(value)
			redis.HSet(key, fields[0], string(value))
			return
		}
	}
	require.Fail(t, "no entries under "+prefix)
}

// inFields keeps the entries of a lane in fields.
func inFields(d *Deps) { d.KeepFields = func() string { return "the test wants it" } }

// ways to make what Redis holds of a lane useless, and what the lane calls that.
var spoilers = map[string]struct {
	kind  string
	spoil func(t *testing.T, redis *miniredis.Miniredis)
}{
	"entry in a field corrupt": {report.IncidentCorrupt, func(t *testing.T, redis *miniredis.Miniredis) {
		spoilValue(t, redis, fieldKeys, func(entry []byte) { entry[len(entry)-1] |= 0x80 })
	}},
	"entry in a field of a newer version": {report.IncidentFormat, func(t *testing.T, redis *miniredis.Miniredis) {
		spoilValue(t, redis, fieldKeys, func(entry []byte) { entry[0] = 99 })
	}},
	"page corrupt": {report.IncidentCorrupt, func(t *testing.T, redis *miniredis.Miniredis) {
		spoilValue(t, redis, pageKeys, func(page []byte) { page[len(page)-1] ^= 1 })
	}},
	"page of a newer format": {report.IncidentFormat, func(t *testing.T, redis *miniredis.Miniredis) {
		spoilValue(t, redis, pageKeys, func(page []byte) { page[0] = store.PageFormat + 1 })
	}},
	"cursor unreadable": {report.IncidentCorrupt, func(_ *testing.T, redis *miniredis.Miniredis) { redis.HSet(testMeta, "cursor", "x") }},
	"offset unreadable": {report.IncidentCorrupt, func(_ *testing.T, redis *miniredis.Miniredis) { redis.HSet(testMeta, "offset", "many") }},
	"folds unreadable": {report.IncidentCorrupt, func(t *testing.T, redis *miniredis.Miniredis) {
		slices, err := redis.HKeys("mr:{orders/orders/0}:folds")
		require.NoError(t, err)
		redis.HSet("mr:{orders/orders/0}:folds", slices[0], "many")
	}},
	"newer format": {report.IncidentFormat, func(_ *testing.T, redis *miniredis.Miniredis) {
		redis.HSet(testMeta, "format", strconv.Itoa(store.PageFormat+1))
	}},
	"another spec": {report.IncidentOtherSpec, func(_ *testing.T, redis *miniredis.Miniredis) { redis.HSet(testMeta, "state", "ffffffffffffffff") }},
}

// ran is a lane that has committed 300 of 400 records and was stopped, with what its group knows.
func ran(t *testing.T, seed uint64, change ...func(*Deps)) (log *fakeLog, st *store.Store, redis *miniredis.Miniredis) {
	t.Helper()
	records := randomLog(rand.New(rand.NewPCG(seed, seed)), 400)
	log = newFakeLog(records[:300])
	st, redis = testStore(t)
	b := start(t, log, st, redis, change...)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 300 })
	require.NoError(t, b.stop(t))
	log.hint = source.Committed{Offset: 300, Metadata: b.state.Replay().String()}
	log.records, log.ends = records, source.Ends{End: 400, HighWatermark: 400}
	return log, st, redis
}

// Whatever makes a state useless, the lane asks, says what a rebuild costs, and is exact afterwards: as if nothing had happened,
// but for a spec that computes something else.
func TestOperatorRebuildsAStateThatIsOfNoUse(t *testing.T) {
	for name, c := range spoilers {
		t.Run(name, func(t *testing.T) {
			var change []func(*Deps)
			if strings.Contains(name, "field") {
				change = append(change, inFields)
			}
			log, st, redis := ran(t, 51, change...)
			c.spoil(t, redis)
			gate := &fakeGate{}
			b := start(t, log, st, redis, func(d *Deps) { d.Gate = gate })
			b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
			inc := b.Status().Incident
			require.Equal(t, c.kind, inc.Kind, inc.Detail)
			require.NotContains(t, inc.Detail, "orders/orders/0: ", "whoever shows it names the lane")
			names := make([]string, len(inc.Choices))
			for i, choice := range inc.Choices {
				names[i] = choice.Name
			}
			require.Equal(t, []string{report.ChoiceRebuild, report.ChoiceRetry, report.ChoiceWait}, names)
			require.Zero(t, inc.Choices[0].Lost)
			require.Positive(t, inc.Choices[0].Reread)

			require.NoError(t, b.Decide(inc.ID, report.ChoiceRetry, "me"))
			b.wait(t, "asked again", func(s Status) bool { return s.State == StateParked && s.Incident.ID != inc.ID })
			require.Contains(t, b.Status().Decisions[0].Void, "the cause is still there")
			require.Empty(t, gate.parkings(), "these are incidents of acquisitions")

			require.NoError(t, b.Decide(b.Status().Incident.ID, report.ChoiceRebuild, "me"))
			b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 400 })
			d := b.Status().Decisions[1]
			require.Empty(t, d.Void)
			require.Equal(t, inc.Choices[0].Reread, 300-d.Start)
			require.NoError(t, b.stop(t))
			meta, _, err := st.ReadMeta(t.Context(), testLane)
			require.NoError(t, err)
			require.NotZero(t, meta.Era, "what was published may not come back as it was")
			require.Zero(t, meta.Counters.Skipped)
			conserve(t, meta.Counters)
			for _, key := range redis.Keys() {
				require.NotContains(t, key, "ffffffffffffffff")
			}
			if c.kind == report.IncidentOtherSpec {
				return
			}
			b.requireExact(t, reference(t, log.records))
			for _, r := range b.side.records {
				offset, err := strconv.ParseInt(headerOf(r, "mr-offset"), 10, 64)
				require.NoError(t, err)
				require.GreaterOrEqual(t, offset, int64(300), "late and dead-letter records go out once")
			}
		})
	}
}

// Another spec begins where the oldest open slice of the one before did, and owes nothing to its watermark.
func TestRebuildUnderAnotherSpec(t *testing.T) {
	records := randomLog(rand.New(rand.NewPCG(52, 52)), 400)
	log := newFakeLog(records[:300])
	st, redis := testStore(t)
	old := programOf(t, manyWindows)
	r := lost(t, old, st)
	_, meta, err := r.writeToken(t.Context())
	require.NoError(t, err)
	r.s = fold.NewState(old, testLane, "id", 0, meta.Cursor)
	quiet := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none}
	r.s.Fold(batch(records[:200]...))
	r.commit(t, quiet, -1)
	r.commit(t, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: r.s.Watermark()}, -1) // final windows go
	r.s.Fold(batch(records[200:300]...))
	r.commit(t, quiet, -1)
	replay := r.s.Replay()
	require.Positive(t, replay.From)
	log.hint = source.Committed{Offset: 300, Metadata: replay.String()}
	log.records, log.ends = records, source.Ends{End: 400, HighWatermark: 400}

	b := startLost(t, log, st, redis)
	inc := b.Status().Incident
	require.Equal(t, report.IncidentOtherSpec, inc.Kind)
	require.Contains(t, inc.Choices[0].Text, "--discard-state --from")
	require.NoError(t, b.Decide(inc.ID, report.ChoiceRebuild, "me"))
	b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 400 })
	require.NoError(t, b.stop(t))

	want := fold.NewState(mustProgram(t), testLane, "id", replay.From, store.Cursor{})
	want.Fold(batch(records[replay.From:]...))
	b.requireExactBut(t, want, replay.Basis.Counters)
	require.NotEqual(t, contents(r.s), contents(want))
	for _, key := range redis.Keys() {
		require.NotContains(t, key, old.StateID, "nothing of the spec before is left")
	}
}

// Where the log or the group cannot say where to begin, the way on is a restart, and it says what that loses.
func TestRestartOfAStateThatIsOfNoUse(t *testing.T) {
	log, st, redis := ran(t, 53)
	log.hint = source.Committed{Offset: -1}
	log.ends.Start = 250
	redis.HSet(testMeta, "format", "9")
	b := startLost(t, log, st, redis)
	inc := b.Status().Incident
	require.Equal(t, report.IncidentFormat, inc.Kind)
	require.Contains(t, inc.Detail, "format 9 found")
	require.Contains(t, inc.Detail, "run the release that wrote it, or a newer one")
	require.Equal(t, report.ChoiceRestart, inc.Choices[0].Name)
	require.Equal(t, int64(report.UnknownCost), inc.Choices[0].Lost)
	require.NoError(t, b.Decide(inc.ID, report.ChoiceRestart, "me"))
	b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 400 })
	require.NoError(t, b.stop(t))
	meta, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.Equal(t, int64(150), meta.Counters.Read)
	conserve(t, meta.Counters)
}

// A cause that is gone needs no decision that costs anything.
func TestRetryWhenTheCauseIsGone(t *testing.T) {
	log, st, redis := ran(t, 54)
	format := redis.HGet(testMeta, "format")
	redis.HSet(testMeta, "format", "9")
	b := startLost(t, log, st, redis)
	redis.HSet(testMeta, "format", format)
	inc := b.Status().Incident
	require.NoError(t, b.Decide(inc.ID, report.ChoiceRetry, "me"))
	b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 400 })
	require.Equal(t, int64(300), b.Status().Decisions[0].Start)
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log.records))
	meta, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.Zero(t, meta.Era)
}

// A lane that runs has its state in memory: what somebody made of it in Redis is written over, and nothing is asked.
func TestRunningLaneWritesOverWhatCannotBeRead(t *testing.T) {
	for _, name := range []string{"cursor unreadable", "cursor and folds unreadable"} {
		t.Run(name, func(t *testing.T) {
			records := randomLog(rand.New(rand.NewPCG(55, 55)), 400)
			log := newFakeLog(records[:300])
			st, redis := testStore(t)
			b := start(t, log, st, redis)
			b.wait(t, "all committed", func(s Status) bool { return s.Committed == 300 })
			if name == "cursor and folds unreadable" {
				spoilers["folds unreadable"].spoil(t, redis)
			}
			spoilers["cursor unreadable"].spoil(t, redis)
			b.wait(t, "written over", func(s Status) bool { return s.Reseeds == 1 && redis.HGet(testMeta, "offset") == "300" })
			require.Equal(t, StateRunning, b.Status().State)
			require.NoError(t, b.stop(t))
			b.requireExact(t, reference(t, records[:300]))
		})
	}
}

// A batch that cannot be decoded is tried again, or given up with exactly its offsets.
func TestOperatorDecidesAboutABatchThatCannotBeDecoded(t *testing.T) {
	records := randomLog(rand.New(rand.NewPCG(56, 56)), 300)
	log := newFakeLog(records[:100])
	st, redis := testStore(t)
	gate := &fakeGate{}
	b := start(t, log, st, redis, func(d *Deps) { d.Gate = gate })
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	bad := &source.DecodeError{TopicPartition: b.tp, Offset: 100, Next: 130, Err: source.ErrLegacyFormat}
	fail := func(reader int) report.Incident {
		eventually(t, "read", func() bool {
			log.mu.Lock()
			defer log.mu.Unlock()
			return len(log.readers) > reader
		})
		log.readers[reader].fail = bad
		log.readers[reader].Close()
		b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
		return *b.Status().Incident
	}
	first := fail(0)
	require.Equal(t, []any{report.IncidentUndecoded, int64(100), int64(130)}, []any{first.Kind, first.From, first.To})
	require.NoError(t, b.Decide(first.ID, report.ChoiceRetry, "me"))
	second := fail(1)
	require.NotEqual(t, first.ID, second.ID)
	require.Equal(t, int64(30), second.Choices[0].Lost)
	require.Len(t, gate.parkings(), 2)
	log.mu.Lock()
	log.records, log.ends = records, source.Ends{End: 300, HighWatermark: 300}
	log.mu.Unlock()
	require.NoError(t, b.Decide(second.ID, report.ChoiceSkip, "me"))
	b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 300 })
	d := b.Status().Decisions[1]
	require.Equal(t, []int64{130, 30}, []int64{d.Start, d.Lost})
	require.NoError(t, b.stop(t))
	want := reference(t, records[:100])
	want.ReadFrom("id", 130)
	want.Fold(batch(records[130:]...))
	b.requireExactBut(t, want, store.Counters{Skipped: 30})
}

// A decision to give a batch up waits until the lane has come to the batch, when Redis has gone back behind it.
func TestGivingUpABatchWaitsForTheLane(t *testing.T) {
	d := &Decisions{made: []report.Decision{{Kind: report.IncidentUndecoded, Choice: report.ChoiceSkip, From: 100, To: 130, Start: -1}}}
	require.Nil(t, d.due(nil, store.Meta{Offset: 60}))
	require.NotNil(t, d.open(), "it is still to be carried out")
	require.Equal(t, int64(130), d.due(nil, store.Meta{Offset: 100}).To)
	require.Equal(t, int64(130), d.due(nil, store.Meta{Offset: 129}).To)
	require.Nil(t, d.due(nil, store.Meta{Offset: 130}))
	require.Equal(t, "the incident is gone", d.made[0].Void)
	d.made = []report.Decision{{Kind: report.IncidentUndecoded, Choice: report.ChoiceSkip, From: 100, To: 130, Start: -1}}
	require.Nil(t, d.due(&report.Incident{Kind: report.IncidentGap}, store.Meta{Offset: 60}))
	require.Equal(t, "the incident is gone", d.made[0].Void)
}

// Redis may forget a lane, and the batch that it has to give up, in the moment in which the lane ends its reading at that batch:
// the lane writes its state again as it leaves, and its next life carries the decision out.
func TestGivingUpABatchWhileRedisForgets(t *testing.T) {
	records := randomLog(rand.New(rand.NewPCG(57, 57)), 300)
	log := newFakeLog(records[:100])
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	l := b.Lane
	l.decisions.mu.Lock()
	l.decisions.made = []report.Decision{{Kind: report.IncidentUndecoded, Choice: report.ChoiceSkip, From: 100, To: 130, At: time.Now(), Start: -1}}
	l.decisions.mu.Unlock()
	log.mu.Lock()
	log.records, log.ends = records, source.Ends{End: 300, HighWatermark: 300}
	log.mu.Unlock()
	redis.FlushAll()
	log.readers[0].fail = &source.DecodeError{TopicPartition: b.tp, Offset: 100, Next: 130, Err: source.ErrLegacyFormat}
	log.readers[0].Close()
	b.wait(t, "all committed", func(s Status) bool { return s.State == StateRunning && s.Committed == 300 })
	require.Equal(t, []int64{130, 30}, []int64{b.Status().Decisions[0].Start, b.Status().Decisions[0].Lost})
	require.Positive(t, b.Status().Reseeds)
	require.NoError(t, b.stop(t))
}
