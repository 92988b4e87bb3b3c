package integration

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
)

// Temporal is killed in the middle of a feed and comes back: no hot path stops, commits go on, and nothing moves when it
// returns.
func TestTemporalAway(t *testing.T) {
	t.Parallel()
	absence, pace := 20*time.Second, 50
	if long {
		absence, pace = 2*time.Minute, 180
	}
	yaml, lines := flights(t, 40_000)
	cfg := dev.TemporalConfig{DataDir: t.TempDir()}
	server, err := dev.StartTemporal(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	w := newWorld(t, servers{temporal: server.Addr()})
	p := w.newPipeline(yaml, 4)
	worker := w.worker()
	w.ready(worker)
	p.start()
	total := int64(len(lines))
	feed := p.trickle(lines, len(lines)/pace)
	p.reach(total / 10)
	eventually(t, "windows are closed", patience, func() bool { return len(p.ledger()) > 0 })
	owners := p.owners()

	require.NoError(t, server.Kill())
	gone := time.Now()
	for time.Since(gone) < absence {
		before := p.committed()
		eventually(t, "commits go on without Temporal", 15*time.Second, func() bool { return p.committed() > before })
	}
	require.Equal(t, owners, p.owners())
	status := p.must("status", p.spec.Name, "--spec", p.file)
	require.Contains(t, status.out, "Temporal does not answer")
	require.True(t, feed.going(), "the feed is over before Temporal returns")

	_, port, _ := strings.Cut(server.Addr(), ":")
	cfg.Port, err = strconv.Atoi(port)
	require.NoError(t, err)
	again, err := dev.StartTemporal(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { again.Close() })
	closed := len(p.ledger())
	eventually(t, "the replica's workflow is attached again", patience, func() bool { return p.holder(0) == worker.name })
	eventually(t, "windows are closed again", patience, func() bool { return len(p.ledger()) > closed || !feed.going() })
	p.commits(3)
	replica := p.replica(0)
	require.Zero(t, replica.Moves, "%+v", replica.Placements)
	require.Equal(t, owners, p.owners(), "a lane has changed its owner")
	require.Equal(t, int(p.parts), worker.saidOf("lane resumes"), "a lane has started again")
	feed.finish()
	p.drain()
	p.requireExact()
}

// ledger returns the latest row of every window; none before the pipeline has made its topic.
func (p *pipeline) ledger() []result.LedgerRow {
	p.t.Helper()
	rows, err := result.Ledger(context.Background(), result.NewPublished(p.cluster), p.spec.Name)
	if errors.Is(err, source.ErrUnknownTopic) {
		return nil
	}
	require.NoError(p.t, err)
	return rows
}
