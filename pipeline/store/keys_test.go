package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeys(t *testing.T) {
	lane := LaneID{Pipeline: "flights", Topic: "in.flights", Partition: 3}
	window := WindowID{Pipeline: "flights", Window: "hourly", Start: -3600000}
	for want, got := range map[string]string{
		"mr:{flights/in.flights/3}:meta":                        lane.metaKey(),
		"mr:{flights/in.flights/3}:ctl":                         lane.ctlKey(),
		"mr:{flights/in.flights/3}:slices":                      lane.slicesKey(),
		"mr:{flights/in.flights/3}:folds":                       lane.foldsKey(),
		"mr:{flights/in.flights/3}:s:abc:3600000:-7200000:1:15": entryKey(lane.entryPrefix("abc"), SliceID{3600000, -7200000, 1}, 15),
		"mr:{flights}:ctl":                                      pipelineCtlKey("flights"),
		"mr:{flights}:replica:2":                                leaseKey("flights", 2),
		"mr:{flights/hourly/-3600000}:r:7":                      window.revisionKey(7),
		"mr:{flights/hourly/-3600000}:v:5":                      window.viewKey(5),
		"mr:{flights/hourly/-3600000}:v:drafts":                 window.draftsKey(),
		"mr:{flights/hourly/-3600000}:v:2:6:ab":                 window.draftKey(draftName(Version{2, 6}, "ab")),
		"mr:{flights/hourly/-3600000}:rows:2:6:ab":              window.stagedRowsKey(draftName(Version{2, 6}, "ab")),
		"mr:{flights/hourly/-3600000}:ledger":                   window.ledgerKey(),
	} {
		require.Equal(t, want, got)
	}
}

func TestParse(t *testing.T) {
	slice := SliceID{Width: 3600000, Start: -7200000, Gen: 2}
	got, err := ParseSliceID(slice.String())
	require.NoError(t, err)
	require.Equal(t, slice, got)
	require.EqualValues(t, -3600000, slice.End())

	cursor := Cursor{Seq: 12, Chunk: 3}
	parsed, err := ParseCursor(cursor.String())
	require.NoError(t, err)
	require.Equal(t, cursor, parsed)
	for _, bad := range []string{"", "1", "1:2:3", "a:1"} {
		_, err := ParseCursor(bad)
		require.ErrorIs(t, err, ErrCorrupt, bad)
		_, err = ParseSliceID(bad + ":x")
		require.ErrorIs(t, err, ErrCorrupt, bad)
	}
	_, err = parseSliceStat("1:2:3", "1,2")
	require.ErrorIs(t, err, ErrCorrupt)

	require.True(t, cursor.Less(cursor.NextChunk()))
	require.True(t, cursor.NextChunk().Less(cursor.NextCommit()))
	require.False(t, cursor.Less(cursor))
}

func TestToken(t *testing.T) {
	first := NextToken("")
	require.Regexp(t, `^1:[0-9a-f]{32}$`, string(first))
	require.Regexp(t, `^2:[0-9a-f]{32}$`, string(NextToken(first)))
	require.NotEqual(t, NextToken(first), NextToken(first))
	require.Zero(t, Token("nonsense").Epoch())
}
