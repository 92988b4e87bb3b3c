package report

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLevelsAreOrdered(t *testing.T) {
	for i, level := range append(Levels(), "a level of a later release") {
		require.Equal(t, i, level.Rank(), level)
	}
	require.Zero(t, Level("").Rank(), "no level is normal")
}

func TestOverridesAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]Override{"auto": OverrideNone, "": OverrideNone, "hold": OverrideHold, "open": OverrideOpen, "close": OverrideClose} {
		got, err := ParseOverride(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	_, err := ParseOverride("ajar")
	require.ErrorContains(t, err, `override is "ajar"; want auto, hold, open or close`)
}

func TestAccountsAddUp(t *testing.T) {
	a := Account{Commits: 1, Calls: 2, Entries: 3, Bytes: 4, Checksum: "ffffffffffffffff"}
	b := Account{Commits: 10, Calls: 20, Entries: 30, Bytes: 40, Checksum: "0000000000000002"}
	sum := Account{Commits: 11, Calls: 22, Entries: 33, Bytes: 44, Checksum: "0000000000000001"}
	require.Equal(t, sum, a.Plus(b), "checksums add up modulo 2^64")
	require.True(t, sum.Same(b.Plus(a)))
	require.True(t, a.Same(Account{}.Plus(a)), "an account without a checksum adds nothing")
	require.False(t, a.Same(b))
	torn := a
	torn.Checksum = "?"
	require.False(t, torn.Same(torn), "what cannot be read equals nothing")
	require.False(t, torn.Plus(b).Same(torn.Plus(b)))
}

func TestTexts(t *testing.T) {
	require.Equal(t, "orders/3", LaneRef{Topic: "orders", Partition: 3}.String())
	require.Equal(t, "hourly 2001-01-01T00:00:00Z", WindowRef{Window: "hourly", Start: 978307200000}.String())
	require.Equal(t, "?–7", (&RecoveredLane{LogStart: -1, LogEnd: 7}).Log())
	inc := &Incident{Choices: []Choice{{Name: "skip", Text: "go on", Lost: 1, Reread: -1}}}
	c, ok := inc.Choice("skip")
	require.True(t, ok)
	require.Equal(t, "skip (go on; loses 1 record, reads an unknown number of records again)", c.String())
	_, ok = inc.Choice("rebuild")
	require.False(t, ok)
}
