package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/tests/rig"
)

// replayedFlights is how many of the flights replays are tested with: they end on the second of January.
const replayedFlights = 20_000

// One aggregate of the spec was wrong for a few hours. A replay with the right spec names exactly the windows and keys that
// differ, leaves nothing when it is rejected or cancelled, and publishes one revision of just these windows when it is approved,
// whatever else is asked for at the same time.
func TestReplayFlights(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, replayedFlights)
	from, to := hourOf(6), hourOf(18)
	w := newWorld(t, rig.Servers{})
	m := w.newMistake(yaml)
	w.Ready(w.Worker())
	m.Start()
	m.fill(misposted(t, lines[:replayedFlights], hourOf(5), hourOf(10)), to)
	want := m.differenceOf(m.counted(m.YAML, from, to, 0), m.counted(m.fixed, from, to, 0))
	require.Equal(t, []time.Time{hourOf(6), hourOf(7), hourOf(8), hourOf(9)}, want.starts(t), "of five wrong hours the range holds four")
	shown, revisions := m.published(), m.revisions()

	// Rejected.
	asks := m.replay("reject", from, to, "--spec", m.fixedFile)
	m.requireSummary(asks.Summary, want)
	m.requireDiff("reject", want)
	require.NotEmpty(t, m.shadowKeys("reject"))
	old := asks.Summary.Checksum
	refused := m.CLI("replay", "approve", m.Spec.Name, "reject", "c0ffee")
	require.NotZero(t, refused.Code)
	require.Contains(t, refused.Err, "that of the diff is \""+old+"\"")
	m.Must("replay", "reject", m.Spec.Name, "reject")
	require.Empty(t, m.shadowKeys("reject"))
	require.Equal(t, shown, m.published(), "records were left")

	// Cancelled while it reads.
	m.Must(m.replayArgs("cancel", from, to, "--spec", m.fixedFile, "--rate", "500", "--detach")...)
	rig.Eventually(t, "the shadow has committed", patience, func() bool { return m.begunReading("cancel") })
	m.Must("replay", "cancel", m.Spec.Name, "cancel")
	require.Empty(t, m.shadowKeys("cancel"))
	require.Equal(t, shown, m.published(), "records were left")

	// Two replays of the same windows ask. Then one of these windows is corrected: an event came too late for it.
	first := m.replay("first", from, to, "--spec", m.fixedFile)
	second := m.replay("second", from, to, "--spec", m.fixedFile)
	late := hourOf(7)
	m.Send(0, misposted(t, [][]byte{flightAt(late.Add(time.Minute))}, from, from)...)
	m.Reach(m.Total())
	m.replayAll("late", late, late.Add(time.Hour), "--lateness", contract.LatenessNone)
	revisions[late]++
	require.Equal(t, revisions, m.revisions())
	m.requireClean()

	// Approved: one revision of each of the other three, and every reader sees all of it or nothing.
	published := slices.DeleteFunc(want.starts(t), late.Equal)
	reader := m.poll(want.starts(t)...)
	moved := m.CLI("replay", "approve", m.Spec.Name, "first", first.Summary.Checksum)
	require.Equal(t, cli.ExitIncomplete, moved.Code, "%s%s", moved.Out, moved.Err)
	require.Contains(t, moved.Out, "1 moved, 3 published")
	reader.requireWhole(published...)
	for _, start := range published {
		revisions[start]++
	}
	require.Equal(t, revisions, m.revisions())
	require.Empty(t, m.shadowKeys("first"))
	m.requireClean()

	// Approved twice, and the old diff of the other replay.
	shown = m.published()
	again := m.CLI("replay", "approve", m.Spec.Name, "first", first.Summary.Checksum)
	require.NotZero(t, again.Code)
	moved = m.CLI("replay", "approve", m.Spec.Name, "second", second.Summary.Checksum)
	require.Equal(t, cli.ExitIncomplete, moved.Code, "%s%s", moved.Out, moved.Err)
	require.Contains(t, moved.Out, "4 moved\n")
	require.Empty(t, m.shadowKeys("second"))
	require.Equal(t, shown, m.published(), "records were left")
	require.Equal(t, revisions, m.revisions())

	// The window that has moved is replayed anew, with its late event.
	reader = m.poll(want.starts(t)...)
	m.replayAll("anew", late, late.Add(time.Hour), "--spec", m.fixedFile, "--lateness", contract.LatenessNone)
	reader.requireWhole(late)
	revisions[late]++
	require.Equal(t, revisions, m.revisions())
	m.requireClean()
	m.requirePublished(from, to, late)
}
