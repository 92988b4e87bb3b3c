package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/breaker"
	"millrace/pipeline/report"
	"millrace/pipeline/store/storetest"
)

// A Redis that answers PING and refuses writes opens the breaker, and is not found well again by the probes until it takes writes.
func TestRefusedWritesAreNotRecovered(t *testing.T) {
	for _, tt := range []struct{ refusal, why string }{
		{storetest.ReadOnly, "read-only replica"}, {storetest.Full, "raise maxmemory"},
	} {
		server, s := startRedis(t)
		quick := breaker.Thresholds{
			PingEvery: 40 * time.Millisecond, PingTimeout: 40 * time.Millisecond, OpenFor: 80 * time.Millisecond,
			ReviewEvery: 10 * time.Millisecond,
		}
		prober, err := breaker.NewProber(s.Probe, quick)
		require.NoError(t, err)
		g, err := breaker.New(breaker.Config{Pipeline: "orders", Dependency: "redis", Prober: prober, Thresholds: quick})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go g.Run(ctx)

		storetest.RefuseWrites(server, tt.refusal)
		changes, err := g.Await(ctx, 0)
		require.NoError(t, err)
		require.Equal(t, report.LevelPaused, changes[0].To)
		require.Contains(t, changes[0].Reason, tt.why)

		limited, stop := context.WithTimeout(ctx, time.Second)
		_, err = g.Await(limited, changes[0].Seq)
		stop()
		require.ErrorIs(t, err, context.DeadlineExceeded, "no return to normal while writes are refused")
		require.True(t, g.Status().Turned.After(changes[0].At), "it was probed")

		storetest.RefuseWrites(server, "")
		changes, err = g.Await(ctx, changes[0].Seq)
		require.NoError(t, err)
		require.Equal(t, report.LevelNormal, changes[0].To)
		cancel()
	}
}
