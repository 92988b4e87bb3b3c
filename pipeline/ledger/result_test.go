package ledger

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRowsAllocateOnce(t *testing.T) {
	p := NewResultPrefix("orders", "hourly", 0, 3_600_000, 1)
	c := Content{Key: []byte(`{"user":"user-1000000001"}`), Values: []byte(`{"events":12,"total":123456,"peak":999}`), Overflow: true, Deleted: true}
	require.Equal(t, 1.0, testing.AllocsPerRun(100, func() { p.Append(nil, 1<<30, c) }))
}
