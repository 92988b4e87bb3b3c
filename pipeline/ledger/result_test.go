package ledger

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The room that Append makes at once is enough for a row, so that nothing grows while the row is written.
func TestRowsFitTheirRoom(t *testing.T) {
	p := NewResultPrefix("orders", "hourly", 0, 3_600_000, 1)
	c := Content{Key: []byte(`{"user":"user-1000000001"}`), Values: []byte(`{"events":12,"total":123456,"peak":999}`), Overflow: true, Deleted: true}
	room := make([]byte, 0, len(p)+len(c.Key)+len(c.Values)+rowRoom)
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Append(room, math.MaxInt64, c) }))
}
