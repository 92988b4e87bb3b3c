package integration

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/tests/long"
	"millrace/tests/rig"
)

// Temporal is killed in the middle of a feed and comes back: no hot path stops, commits go on, and nothing moves when it
// returns.
func TestTemporalAway(t *testing.T) {
	t.Parallel()
	absence, pace := 20*time.Second, 50
	if long.Wanted {
		absence, pace = 2*time.Minute, 180
	}
	yaml, lines := rig.Flights(t, 40_000)
	cfg := dev.TemporalConfig{DataDir: t.TempDir()}
	server, err := dev.StartTemporal(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	w := newWorld(t, rig.Servers{Temporal: server.Addr()})
	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/pace)
	p.Reach(total / 10)
	rig.Eventually(t, "windows are closed", patience, func() bool { return len(p.Ledger()) > 0 })
	owners := p.Owners()

	require.NoError(t, server.Kill())
	gone := time.Now()
	for time.Since(gone) < absence {
		before := p.Committed()
		rig.Eventually(t, "commits go on without Temporal", 15*time.Second, func() bool { return p.Committed() > before })
	}
	require.Equal(t, owners, p.Owners())
	status := p.Must("status", p.Spec.Name, "--spec", p.File)
	require.Contains(t, status.Out, "Temporal does not answer")
	require.True(t, feed.Going(), "the feed is over before Temporal returns")

	_, port, _ := strings.Cut(server.Addr(), ":")
	cfg.Port, err = strconv.Atoi(port)
	require.NoError(t, err)
	again, err := dev.StartTemporal(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { again.Close() })
	closed := len(p.Ledger())
	rig.Eventually(t, "the replica's workflow is attached again", patience, func() bool { return p.Holder(0) == worker.Name })
	rig.Eventually(t, "windows are closed again", patience, func() bool { return len(p.Ledger()) > closed || !feed.Going() })
	p.Commits(3)
	replica := p.Replica(0)
	require.Zero(t, replica.Moves, "%+v", replica.Placements)
	require.Equal(t, owners, p.Owners(), "a lane has changed its owner")
	require.Equal(t, int(p.Parts), worker.SaidOf("lane resumes"), "a lane has started again")
	feed.Finish()
	p.Drain()
	p.RequireExact()
}
