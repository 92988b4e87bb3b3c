package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
	"millrace/internal/dev"
	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/tests/oracle"
)

const (
	flightsSpec = "../../examples/flights/flights.yaml"
	flightsFeed = "../../examples/flights/flights-2001-01.jsonl.gz"
)

// TestCommandsOverAPipeline runs a replica and a closer over the first flights and looks at them with every command that
// reads, Temporal being away.
func TestCommandsOverAPipeline(t *testing.T) {
	ctx := t.Context()
	srv := startKafka(t)
	redis, err := dev.StartRedis(ctx, dev.RedisConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, redis.Close()) })
	t.Setenv("CLI_TEST_"+connect.EnvRedisAddrs, redis.Addr())
	sh := &shell{out: io.Discard, err: io.Discard, conn: &connect.Options{
		Kafka: connect.KafkaOptions{Addrs: srv.kafka.Brokers}, Redis: connect.RedisOptions{Addrs: []string{redis.Addr()}}}}
	srv, err = sh.connectData(ctx)
	require.NoError(t, err)
	t.Cleanup(srv.Close)

	text, err := os.ReadFile(flightsSpec)
	require.NoError(t, err)
	s, err := spec.Parse(flightsSpec, text)
	require.NoError(t, err)
	const partitions, records = 4, 20_000
	lines := firstLines(t, records)
	feedFile := filepath.Join(t.TempDir(), "flights.jsonl")
	require.NoError(t, os.WriteFile(feedFile, lines, 0o600))
	for _, topic := range []source.TopicSpec{
		{Name: s.Results.Kafka.Topic, Partitions: 2}, {Name: s.Late.Kafka.Topic, Partitions: 1}, {Name: s.DeadLetter.Kafka.Topic, Partitions: 1},
		{Name: ledger.Topic(s.Name), Partitions: ledger.DefaultSlots, Compacted: true},
	} {
		_, err := srv.cluster.EnsureTopic(ctx, topic)
		require.NoError(t, err)
	}
	done, err := feed(ctx, srv, feedJob{file: feedFile, topic: "flights", create: partitions, from: 1, progress: io.Discard})
	require.NoError(t, err)
	require.Equal(t, feedDone{Topic: "flights", Partitions: partitions, Created: true, Records: records, Bytes: done.Bytes,
		Next: records + 1, Seconds: done.Seconds, Rate: done.Rate, first: 1}, done)

	replica, err := engine.Start(ctx, engine.Config{Spec: s, Kafka: srv.kafka, Store: srv.store, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, replica.Stop(t.Context())) }()
	kafka := publish.NewClient(srv.kafka, srv.cluster, s.Name)
	closer, err := result.NewCloser(result.Config{Spec: s, State: srv.store, Kafka: kafka, By: "test"})
	require.NoError(t, err)
	defer closing(closer)
	follow := newFollower(srv.cluster, s.Name, s.Results.Kafka.Topic)
	var ends []report.LaneEnd
	for p := range int32(partitions) {
		ends = append(ends, report.LaneEnd{Topic: "flights", Partition: p, End: records / partitions})
	}
	require.Eventually(t, func() bool {
		receipt, err := closer.Drain(ctx, ends)
		return err == nil && receipt.Done
	}, 60*time.Second, 50*time.Millisecond, "never drained")

	// What was published is what the oracle says.
	published, err := ledger.Results(ctx, srv.cluster, s.Results.Kafka.Topic, s.Name)
	require.NoError(t, err)
	naive, err := oracle.ReadSpec(text)
	require.NoError(t, err)
	want, err := oracle.Run(naive, oracle.RoundRobin("flights", oracle.Lines(lines), partitions, time.Now().UnixMilli()))
	require.NoError(t, err)
	var expected, actual bytes.Buffer
	require.NoError(t, want.WriteJSON(&expected))
	require.NoError(t, writeRows(&actual, published))
	diff, err := oracle.Compare(&expected, &actual, oracle.Options{})
	require.NoError(t, err)
	require.True(t, diff.Equal(), diff.String())

	closed, err := follow.look(ctx)
	require.NoError(t, err)
	rows := 0
	for _, c := range closed {
		require.Len(t, c.rows, int(c.Keys))
		rows += len(c.rows)
	}
	require.Equal(t, len(published), rows)
	again, err := follow.look(ctx)
	require.NoError(t, err)
	require.Empty(t, again)
	var drawn bytes.Buffer
	require.NoError(t, drawClosed(&drawn, closed, 2))
	require.Contains(t, drawn.String(), "earlier revisions")

	code, out, errs := millrace(t, "verify", "flights", "--spec", flightsSpec)
	require.Equal(t, ExitOK, code, out+errs)
	require.Contains(t, out, "everything agrees")
	require.Contains(t, out, "20000 read = ")

	code, out, errs = millrace(t, "status", "flights", "--spec", flightsSpec, "--json")
	require.Equal(t, ExitOK, code, errs)
	var view statusView
	require.NoError(t, json.Unmarshal([]byte(out), &view))
	require.Zero(t, view.Lag)
	require.Len(t, view.Lanes, partitions)
	require.Positive(t, view.Open)
	require.NotNil(t, view.Watermark)
	code, out, _ = millrace(t, "status", "flights", "--spec", flightsSpec)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "flights/3")

	code, out, errs = millrace(t, "windows", "ls", "flights", "--last", "2", "--json")
	require.Equal(t, ExitOK, code, errs)
	require.Len(t, jsonList(t, out), 2)
	require.Contains(t, out, `"reason":"drain"`)
	code, out, errs = millrace(t, "windows", "get", "flights", "hourly", "2001-01-01T00:00:00Z", "--key", `{"origin":"ATL"}`, "--json")
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, out, `"key":{"origin":"ATL"},"revision":1,"values":{"flights":14,`)
	require.Len(t, jsonList(t, out), 1)
	code, out, errs = millrace(t, "windows", "get", "flights", "hourly", "978307200000")
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, out, "delay_avg")
	code, _, errs = millrace(t, "windows", "get", "flights", "hourly", "1999-01-01T00:00:00Z")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, errs, "has no ledger row of window hourly 1999-01-01T00:00:00Z")
	for _, args := range [][]string{{"get", "flights", "daily", "978307200000"}, {"ls", "flights", "--window", "daily"}} {
		code, _, errs = millrace(t, append([]string{"windows"}, args...)...)
		require.Equal(t, ExitFailed, code)
		require.Contains(t, errs, `no window of pipeline flights in the ledger is named "daily"; there are hourly`)
	}
	code, _, errs = millrace(t, "windows", "ls", "nothing")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, errs, "has no ledger topic here: it was never started on this Kafka, or it was removed")

	// A removal that was given up half-way shows.
	_, err = srv.store.Fence(ctx, store.LaneID{Pipeline: "flights", Topic: "flights", Partition: 2}, "removed:x")
	require.NoError(t, err)
	code, out, errs = millrace(t, "status", "flights", "--spec", flightsSpec)
	require.Equal(t, ExitOK, code, errs)
	require.Contains(t, out, "REMOVAL remove:flights has fenced 1 lane of the pipeline and has not ended; finish it with `millrace "+
		"rm flights`\n")
	require.Regexp(t, `flights/2 +fenced .*a removal has fenced it and has not ended\n`, out)
}

func firstLines(t *testing.T, n int) []byte {
	t.Helper()
	in, err := openLines(flightsFeed)
	require.NoError(t, err)
	defer in.Close()
	var out []byte
	for range n {
		line, err := in.Next()
		require.NoError(t, err)
		out = append(append(out, line...), '\n')
	}
	return out
}
