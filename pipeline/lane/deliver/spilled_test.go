package deliver

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/window"
)

// A commit that finds room in the journal for a part of its calls waits for Redis, and not for ever for room: what is in the journal
// is drained once Redis may be tried.
func TestPartOfACommitInAFullJournalIsDrained(t *testing.T) {
	s, err := spec.Parse("wide.yaml", []byte(`
name: orders
source: {topics: [orders]}
event: {key: [k], time: {field: t, unit: ms}}
aggregates: {l: {func: last, field: v}}
windows: [{name: w, size: 1h}]
results: {kafka: {topic: out}}
lane: {chunk_fields: 50, overflow: journal}
`))
	require.NoError(t, err)
	p, err := fold.Compile(s)
	require.NoError(t, err)
	st, _ := testStore(t)
	owner := store.NextToken("")
	meta, _, err := st.Acquire(t.Context(), testLane, p.StateID, "", owner)
	require.NoError(t, err)
	state := fold.NewState(p, testLane, "id", 0, meta.Cursor)
	var records []source.Record
	for i := range 600 { // more than the journal takes
		records = append(records, foldtest.Record(int64(i), fmt.Sprintf(`{"k":"k%d","t":%d,"v":"%s"}`, i, foldtest.KafkaTime, strings.Repeat("v", 1000))))
	}
	state.Fold(foldtest.Batch(records...))
	commit := new(fold.Commit)
	state.Snapshot(commit, fold.Control{SealBefore: window.NoTime, DropBefore: window.NoTime, IdleAt: store.NotIdle})
	require.Greater(t, len(commit.Calls), 8)

	j := openJournal(t, 2*segment)
	tail := j.Tail(testLane, p.StateID, owner)
	gate := &gateway{}
	gate.shut.Store(true)
	c := Start(t.Context(), &Deps{Store: st, Route: gate, Log: slog.New(slog.DiscardHandler)}, Config{
		Lane: testLane, StateID: p.StateID, Owner: owner, InFlight: 1, Journal: Journal{Tail: tail},
	})
	c.Send(commit)
	require.Eventually(t, func() bool { return errors.Is(c.Failing(), wal.ErrFull) }, 20*time.Second, time.Millisecond)
	require.Positive(t, tail.Pending().Calls, "a part of it is in the journal")
	gate.shut.Store(false)
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for inRedis := false; !inRedis; {
		select {
		case d := <-c.Results():
			require.NoError(t, d.Err)
			inRedis = d.InRedis && d.Reached.Offset == 600
		case <-late.C:
			require.FailNow(t, "the commit does not come to Redis", "%+v wait in the journal", tail.Pending())
		}
	}
	c.Stop()
	at, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.EqualValues(t, 600, at.Offset)
	require.EqualValues(t, 600, at.Counters.Folded)
}
