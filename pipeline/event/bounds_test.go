package event

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

func TestBounds(t *testing.T) {
	b := BoundsOf(&spec.Event{MaxFuture: spec.Duration(time.Hour), MaxPast: spec.Duration(time.Minute)})
	const at, hour, minute = int64(1_700_000_000_000), int64(3_600_000), int64(60_000)
	for _, c := range []struct {
		name        string
		ns          int64
		ahead, past bool
	}{
		{"the record's own", at * 1e6, false, false},
		{"last that is not ahead", (at + hour) * 1e6, false, false},
		{"a nanosecond ahead", (at+hour)*1e6 + 1, true, false},
		{"a millisecond ahead", (at + hour + 1) * 1e6, true, false},
		{"first that is not past", (at - minute) * 1e6, false, false},
		{"a millisecond past", (at - minute - 1) * 1e6, false, true},
	} {
		require.Equal(t, c.ahead, b.Ahead(c.ns, c.ns/1e6, at), c.name)
		require.Equal(t, c.past, b.Past(c.ns/1e6, at), c.name)
	}
	b = BoundsOf(&spec.Event{})
	require.False(t, b.Past(0, at), "without max_past nothing is too far in the past")
}
