package fold

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// What a filter reports may quote a text as long as the record, which then would no longer fit beside it.
func TestDetailOfADeadLetterIsShort(t *testing.T) {
	state := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s := &state.sides
	for _, n := range []int{10, maxDetail, 100_000} {
		state.refuseInvalid(&source.Record{Value: []byte("{}")}, errors.New(strings.Repeat("é", n/2)))
		got := headerOf(s.takeCollected()[0], "mr-detail")
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), maxDetail+len("..."))
		require.Equal(t, n > maxDetail, strings.HasSuffix(got, "..."))
	}
	state.refuseInvalid(&source.Record{}, errors.New("x"+strings.Repeat("é", maxDetail)))
	require.True(t, utf8.ValidString(headerOf(s.takeCollected()[0], "mr-detail")), "a character is not cut apart")
}

// The names of many windows are most of a late record, and count as memory.
func TestHeadersOfSideRecordsCountAsMemory(t *testing.T) {
	s := sides{id: testLane, lateTopic: "late"}
	names := strings.Repeat("window@2024-01-01T00:00:00Z,", 1000)
	s.addRecord("late", &source.Record{Key: []byte("k"), Value: []byte("v")}, ReasonLate, header{"mr-windows", names})
	require.Greater(t, s.bytes, len(names))
	s.takeCollected()
	require.Zero(t, s.bytes)
}

// A record that is late for a thousand windows does not take a thousand times its size.
func TestMissedWindowsAreNamedUpToALimit(t *testing.T) {
	name := strings.Repeat("w", 64)
	s := sides{id: testLane, lateTopic: "late", windows: []spec.Window{{Name: name}}}
	missed := make([]window.Ref, 1000)
	for i := range missed {
		missed[i].Start = int64(i) * 1000
	}
	one := name + "@1970-01-01T00:00:00Z"
	require.Equal(t, one, s.missedNames(missed[:1]))
	fitting := (maxNames + 1) / (len(one) + 1)
	all := s.missedNames(missed[:fitting])
	require.Equal(t, fitting, strings.Count(all, "@"))
	require.Equal(t, all+",...", s.missedNames(missed[:fitting+1]))
	require.Equal(t, all+",...", s.missedNames(missed))
}
