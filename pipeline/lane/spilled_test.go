package lane

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
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
	p, err := Compile(s)
	require.NoError(t, err)
	st, _ := testStore(t)
	owner := store.NextToken("")
	meta, _, err := st.Acquire(t.Context(), testLane, p.StateID, "", owner)
	require.NoError(t, err)
	state := NewState(p, testLane, "id", 0, meta.Cursor)
	var records []source.Record
	for i := range 600 { // more than the journal takes
		records = append(records, record(int64(i), fmt.Sprintf(`{"k":"k%d","t":%d,"v":"%s"}`, i, kafkaTime, strings.Repeat("v", 1000))))
	}
	state.Fold(batch(records...))
	commit := new(Commit)
	state.Snapshot(commit, Control{SealBefore: none, DropBefore: none, IdleAt: store.NotIdle})
	require.Greater(t, len(commit.Calls), 8)

	j := openJournal(t, faultfs.New(0), 2*segment)
	gate := &gateway{}
	gate.shut.Store(true)
	full := make(chan struct{}, 1)
	c := &committer{
		deps: &Deps{Store: st, Route: gate, Log: slog.New(slog.DiscardHandler)}, id: testLane, stateID: p.StateID,
		in: make(chan *Commit, 1), out: make(chan delivery, 1), tail: j.Tail(testLane, p.StateID, owner), disk: t.Context(),
		spilled: make(chan struct{}, 1),
		stuck: func(err error) {
			if errors.Is(err, wal.ErrFull) {
				select {
				case full <- struct{}{}:
				default:
				}
			}
		},
	}
	go c.run(t.Context(), owner)
	c.in <- commit
	<-full
	require.Positive(t, c.tail.Pending().Calls, "a part of it is in the journal")
	gate.shut.Store(false)
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	for inRedis := false; !inRedis; {
		select {
		case d := <-c.out:
			require.NoError(t, d.err)
			inRedis = d.commit == commit && !d.journaled || d.drained.offset == 600
		case <-late.C:
			require.FailNow(t, "the commit does not come to Redis", "%+v wait in the journal", c.tail.Pending())
		}
	}
	close(c.in)
	at, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.EqualValues(t, 600, at.Offset)
	require.EqualValues(t, 600, at.Counters.Folded)
}
