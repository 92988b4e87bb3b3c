package app

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"millrace/activities"
)

func TestTemporalConfig(t *testing.T) {
	c := TemporalConfig{Client: client.Options{HostPort: "t:7233"}}
	require.NoError(t, c.Validate())
	require.NotEmpty(t, c.Worker)
	require.Len(t, c.Process, 36)
	require.Equal(t, 500*time.Millisecond, c.RetryFirst)
	require.Equal(t, 10*time.Second, c.RetryMost)
	require.EqualValues(t, DefaultReportsLimit, c.ReportsLimit)

	c = TemporalConfig{RetryFirst: time.Minute, RetryMost: time.Second}
	err := c.Validate()
	require.ErrorContains(t, err, "TEMPORAL_ADDRESS")
	require.ErrorContains(t, err, "RetryFirst is 1m0s and RetryMost 1s")
}

// A process that starts while Temporal is away keeps trying, says so, and still stops when told to.
func TestStartWhileTemporalIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	why := make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	var host *activities.Host
	go func() {
		ended <- runTemporal(ctx, temporalDeps{
			Log:   slog.New(slog.DiscardHandler),
			Ready: func(_ bool, text string) { why <- text },
			Host:  func(h *activities.Host) { host = h },
		}, TemporalConfig{Client: client.Options{HostPort: address}, RetryFirst: 10 * time.Millisecond})
	}()
	for range 2 {
		select {
		case text := <-why:
			require.Contains(t, text, "Temporal at "+address+" does not take workers")
		case <-time.After(time.Minute):
			t.Fatal("nothing said")
		}
	}
	require.NotNil(t, host)
	cancel()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		t.Fatal("does not stop")
	}
	require.Empty(t, host.Statuses())
}
