package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// sickTemporal is a Temporal that answers, or not.
type sickTemporal struct {
	client.Client
	away atomic.Bool
}

func (s *sickTemporal) CheckHealth(context.Context, *client.CheckHealthRequest) (*client.CheckHealthResponse, error) {
	if s.away.Load() {
		return nil, errors.New("connection refused")
	}
	return &client.CheckHealthResponse{}, nil
}

// Temporal goes away while the workers poll: they poll on without a word, so the process finds out by itself.
func TestAProcessIsNotReadyWhileTemporalIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		temporal := &sickTemporal{}
		var mu sync.Mutex // guards what is said
		is, why := true, ""
		ready := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return is
		}
		f := &fleet{client: temporal, cfg: TemporalConfig{Client: client.Options{HostPort: "t:7233"}}, deps: temporalDeps{
			Log: quiet, Ready: func(now bool, text string) {
				mu.Lock()
				defer mu.Unlock()
				is, why = now, text
			},
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.attend(ctx, nil) }()
		pass(time.Minute)
		require.True(t, ready())
		temporal.away.Store(true)
		pass(5 * time.Second)
		require.True(t, ready(), "an answer may get lost")
		pass(3 * time.Second)
		require.False(t, ready())
		mu.Lock()
		require.Equal(t, "Temporal at t:7233 does not answer: connection refused", why)
		mu.Unlock()
		temporal.away.Store(false)
		pass(3 * time.Second)
		require.True(t, ready())
		cancel()
		require.NoError(t, <-ended)
	})
}
