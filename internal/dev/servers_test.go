package dev

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var discard = slog.New(slog.DiscardHandler)

func command(path string, out io.Writer) *exec.Cmd {
	cmd := exec.Command(path)
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	return cmd
}

// notify is a writer that reports the first write.
type notify chan struct{}

func (n notify) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestStartStartsAllThree(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the Temporal server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	dir := t.TempDir()
	s, err := Start(ctx, Config{Dir: dir})
	require.NoError(t, err)
	defer s.Close()
	for _, addr := range []string{s.Kafka.Addr(), s.Redis.Addr(), s.Temporal.Addr()} {
		conn, err := net.DialTimeout("tcp", addr, patience)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	for _, name := range []string{"kafka", "redis", "temporal"} {
		require.DirExists(t, filepath.Join(dir, name))
	}
	_, err = Start(ctx, Config{Dir: dir, Temporal: TemporalConfig{DataDir: t.TempDir()}})
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

func TestStartLeavesNothingRunning(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	script := filepath.Join(t.TempDir(), "temporal")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755))
	for name, cfg := range map[string]Config{
		"kafka's port is taken": {Kafka: KafkaConfig{Port: port}},
		"redis' port is taken":  {Redis: RedisConfig{Port: port}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Temporal.Binary = script
			_, err := Start(t.Context(), cfg)
			require.ErrorContains(t, err, "choose another port")
		})
	}
}
