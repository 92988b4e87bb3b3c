package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// widest is a spec with the given number of aggregates that keep texts and the longest names and keys there can be.
func widest(t *testing.T, texts, keyFields int, more string) (*Spec, error) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nsource: {topics: [in]}\nevent:\n  key: [", strings.Repeat("n", 64))
	for i := range keyFields {
		fmt.Fprintf(&b, "%s, ", strings.Repeat(fmt.Sprintf("k%02d", i), 300))
	}
	fmt.Fprintf(&b, "]\n  time: {field: t, unit: s}\n%saggregates:\n", more)
	for i := range texts {
		fmt.Fprintf(&b, "  %s%03d: {func: last, field: f%d}\n", strings.Repeat("a", 61), i, i)
	}
	b.WriteString("windows: [{name: w, size: 1h}]\nresults: {kafka: {topic: out}}\n")
	return Parse("x.yaml", []byte(b.String()))
}

func TestDefaultRowsFitADefaultTopic(t *testing.T) {
	for _, c := range []struct{ texts, fields, key int }{{1, 1, 1024}, {2, 1, 1024}, {7, 3, 1024}, {256, 16, 1024}, {1, 16, 65536}, {256, 16, 65536}} {
		s, err := widest(t, c.texts, c.fields, fmt.Sprintf("  max_key_bytes: %d\n", c.key))
		require.NoError(t, err)
		require.LessOrEqual(t, s.RecordBytes(), DefaultRecordBytes, "%+v", c)
		require.Greater(t, s.RecordBytes(), DefaultRecordBytes-(c.texts+1)<<10, "%+v: room is given away", c)
		require.Greater(t, s.Event.MaxValueBytes, 256, "%+v", c)
	}
}

func TestNoTextsNoLimit(t *testing.T) {
	s, err := Parse("x.yaml", []byte(`{name: a, source: {topics: [in]}, event: {key: [k], time: {field: t, unit: s}},
  aggregates: {n: {func: count}, f: {func: first, field: v, type: int}}, windows: [{name: w, size: 1h}], results: {kafka: {topic: out}}}`))
	require.NoError(t, err)
	require.Zero(t, s.Event.MaxValueBytes)
	text, err := s.JSON()
	require.NoError(t, err)
	require.NotContains(t, string(text), "max_value_bytes")
	require.Empty(t, s.Notes())
	s.Event.MaxValueBytes = 10 << 20
	require.Equal(t, []string{"event.max_value_bytes 10MiB has no effect: no aggregate publishes a text, as first and last do"}, s.Notes())
}

// A spec that says what the default is has the state of one that does not, and of one from before there was a limit.
func TestStateIDKnowsTheDefaultLimit(t *testing.T) {
	implied, err := widest(t, 2, 1, "")
	require.NoError(t, err)
	said, err := widest(t, 2, 1, fmt.Sprintf("  max_value_bytes: %d\n", implied.Event.MaxValueBytes))
	require.NoError(t, err)
	require.Equal(t, implied.StateID(), said.StateID())
	before := *implied
	before.Event.MaxValueBytes = 0
	require.Equal(t, implied.StateID(), before.StateID())
	other, err := widest(t, 2, 1, "  max_value_bytes: 64KiB\n")
	require.NoError(t, err)
	require.NotEqual(t, implied.StateID(), other.StateID())
}

func TestRowsLargerThanAnyTopic(t *testing.T) {
	_, err := widest(t, 8, 1, "  max_value_bytes: 8MiB\n")
	require.ErrorContains(t, err, `event.max_value_bytes: "8MiB" makes result rows of more than 64MiB`)
	require.ErrorContains(t, err, "8 aggregates keep a text; want 1 to 8190KiB")
	s, err := widest(t, 8, 1, "  max_value_bytes: 8386560\n")
	require.NoError(t, err)
	require.LessOrEqual(t, s.RecordBytes(), MaxRecordBytes)
}
