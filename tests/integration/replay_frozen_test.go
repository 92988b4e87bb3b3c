package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/tests/rig"
)

// The worker that runs two shadows is frozen in the middle of reading. Another one goes on with the first replay, which is
// rejected; the second one is cancelled. Then the worker thaws: it writes nothing of either.
func TestShadowFrozenOverTheReject(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, replayedFlights)
	from, to := hourOf(6), hourOf(18)
	w := newWorld(t, rig.Servers{})
	m := w.newMistake(yaml)
	zombie := w.Worker()
	w.Ready(zombie)
	m.Start()
	m.fill(misposted(t, lines[:replayedFlights], hourOf(5), hourOf(10)), to)
	want := m.differenceOf(m.counted(m.YAML, from, to, 0), m.counted(m.fixed, from, to, 0))
	shown, ids := m.published(), []string{"rejected", "cancelled"}
	for _, id := range ids {
		m.Must(m.replayArgs(id, from, to, "--spec", m.fixedFile, "--rate", "1000", "--detach")...)
	}
	for _, id := range ids {
		rig.Eventually(t, "the shadow has committed", patience, func() bool { return m.begunReading(id) })
	}
	heir := w.Worker()
	w.Ready(heir)
	zombie.Signal(syscall.SIGSTOP)
	for _, id := range ids {
		done, total := m.shadowProgress(id)
		t.Logf("%s: frozen after %d of %d records", id, done, total)
		require.Less(t, done, total/2, "it is nearly over before the worker is frozen")
	}
	m.Must("replay", "cancel", m.Spec.Name, "cancelled")
	require.Empty(t, m.shadowKeys("cancelled"))
	m.Must("replay", "rate", m.Spec.Name, "rejected", "0")
	m.requireSummary(m.comesTo("rejected", contract.StateAsking).Summary, want)
	m.requireDiff("rejected", want)
	m.Must("replay", "reject", m.Spec.Name, "rejected")
	require.Empty(t, m.shadowKeys("rejected"))

	zombie.Signal(syscall.SIGCONT)
	rig.Eventually(t, "the zombie hears that it runs nothing any more", patience, func() bool {
		return zombie.SaidOf("activity already timed out") > 0
	})
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		for _, id := range ids {
			require.Empty(t, m.shadowKeys(id))
		}
	}
	require.Equal(t, shown, m.published(), "records were left")
	m.requireClean()
}
