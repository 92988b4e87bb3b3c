package integration

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/internal/cli"
	"millrace/internal/contract"
)

// Everything an operator does to a pipeline, each answered with a receipt, and nothing of it changes the results.
func TestControl(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 25_000)
	w := newWorld(t, servers{})
	p := w.newPipeline(yaml, 4)
	one, two := w.worker(), w.worker()
	w.ready(one, two)
	name := p.spec.Name
	fifth := len(lines) / 5 / 4 * 4

	p.start()
	again := p.cli("start", p.file)
	require.Equal(t, cli.ExitFailed, again.code)
	require.Contains(t, again.err, "is running already")
	p.feed(lines[:fifth])
	p.reach(int64(fifth))

	flushed := p.update("flush", name, "--request-id", "first", "--reason", "look")
	require.True(t, flushed.Applied)
	require.Equal(t, "first", flushed.RequestID)
	require.NotNil(t, flushed.Emitted)
	require.Positive(t, flushed.Emitted.Published)
	require.Equal(t, contract.ReasonFlush, flushed.Emitted.Reason)
	covered := int64(0)
	for _, lane := range flushed.Emitted.Covered {
		covered += lane.Offset
	}
	require.Equal(t, int64(fifth), covered)
	require.Equal(t, flushed, p.update("flush", name, "--request-id", "first"), "a repeated request is answered with its receipt")
	other := p.cli("pause", name, "--request-id", "first")
	require.Equal(t, cli.ExitFailed, other.code)
	require.Contains(t, other.err, `request id "first" was used for flush`)

	paused := p.update("pause", name)
	require.True(t, paused.Applied)
	require.Greater(t, paused.Generation, flushed.Generation)
	require.Len(t, paused.Lanes, 4)
	p.feed(lines[fifth : 2*fifth])
	p.commits(3)
	require.Equal(t, int64(fifth), p.committed(), "a paused pipeline has read on")
	eventually(t, "status says that the lanes are paused", patience, func() bool {
		s := p.status()
		n := 0
		for _, lane := range s.Lanes {
			if lane.State == "paused" && lane.Lag > 0 {
				n++
			}
		}
		return s.State == contract.StatePaused && n == 4
	})
	drain := p.cli("stop", name, "--drain")
	require.Equal(t, cli.ExitFailed, drain.code)
	require.Contains(t, drain.err, "a paused pipeline reads nothing")
	require.True(t, p.update("resume", name).Applied)
	p.reach(int64(2 * fifth))

	scaled := p.update("scale", name, "2")
	require.Equal(t, 2, scaled.Replicas)
	require.Equal(t, []string{contract.ReplicaID(name, 1)}, scaled.Started)
	eventually(t, "both replicas are placed, on different workers", patience, func() bool {
		a, b := p.holder(0), p.holder(1)
		return a != "" && b != "" && a != b
	})
	eventually(t, "both workers have lanes", patience, func() bool {
		owned := map[string]bool{}
		for _, owner := range p.owners() {
			for _, worker := range []*process{one, two} {
				if worker.saidOf("lane resumes", "owner="+string(owner)) > 0 {
					owned[worker.name] = true
				}
			}
		}
		return len(owned) == 2
	})
	p.feed(lines[2*fifth : 3*fifth])
	p.reach(int64(3 * fifth))
	scaled = p.update("scale", name, "1")
	require.Equal(t, 1, scaled.Replicas)
	require.Equal(t, []string{contract.ReplicaID(name, 1)}, scaled.Stopped)
	p.feed(lines[3*fifth : 4*fifth])
	p.reach(int64(4 * fifth))

	// A worker that is told to end gives its lanes to the other one.
	leaving, staying := one, two
	if p.holder(0) == two.name {
		leaving, staying = two, one
	}
	require.Zero(t, leaving.stop())
	eventually(t, "the other worker has the hot path", patience, func() bool { return p.holder(0) == staying.name })

	stopped := p.update("stop", name)
	require.Nil(t, stopped.Drained)
	gone := p.cli("flush", name)
	require.Equal(t, cli.ExitFailed, gone.code)
	require.Contains(t, gone.err, "is not running")
	p.feed(lines[4*fifth:])
	p.start()
	p.drain()
	p.requireExact()
}

// A lane whose log was cut off before it had read it parks and says so; the others do not notice.
func TestDeletedRecords(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 8_000)
	lines = lines[:8_000]
	w := newWorld(t, servers{})
	p := w.newPipeline(yaml, 4)
	worker := w.worker()
	w.ready(worker)
	p.start()
	p.feed(lines[:4_000])
	p.reach(4_000)
	require.True(t, p.update("pause", p.spec.Name).Applied)
	// A fetch that was under way when the lane paused still arrives: it takes the first records and no more.
	p.feed(lines[4_000:4_004])
	p.feed(lines[4_004:])
	owners := p.owners()
	admin, err := sarama.NewClusterAdmin(p.kafka.Brokers, sarama.NewConfig())
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.DeleteRecords(p.topic(), map[int32]int64{1: 1_500}))
	p.update("resume", p.spec.Name)
	eventually(t, "the lane is parked, the others have read everything", patience, func() bool {
		for _, lane := range p.status().Lanes {
			switch {
			case lane.Partition == 1 && lane.State != "parked", lane.Partition != 1 && lane.Offset != 2_000:
				return false
			}
		}
		return true
	})
	parked := p.status().Lanes[1]
	// What was fetched before it was deleted may have been read.
	require.GreaterOrEqual(t, parked.Offset, int64(1_000))
	require.Contains(t, parked.Reason, fmt.Sprintf("incident gap, offsets [%d, 1500)", parked.Offset))
	require.Equal(t, owners, p.owners())
	require.Equal(t, 4, worker.saidOf("lane resumes"), "a lane has started again")
	require.Equal(t, 1, worker.saidOf("lane parked"))

	drain := p.cli("stop", p.spec.Name, "--drain", "--timeout", "3s")
	require.Equal(t, cli.ExitIncomplete, drain.code, drain.err)
	require.Contains(t, drain.err, "is not drained and goes on")
	require.Contains(t, drain.err, p.topic()+"/1")
	p.must("stop", p.spec.Name)
}

// What cannot work says so in one line, with an exit code that scripts can decide on.
func TestUnreachableServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, servers{})
	env := w.env()
	nobody := net.JoinHostPort("127.0.0.1", "1")
	with := func(variable string) []string {
		return append(append([]string(nil), env...), variable+"="+nobody)
	}
	spec := filepath.Join("..", "..", "examples", "flights", "flights.yaml")
	for _, c := range []struct {
		name    string
		env     []string
		program string
		args    []string
		code    int
		want    string
	}{
		{"start without Temporal", with("TEMPORAL_ADDRESS"), "millrace", []string{"start", spec}, cli.ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"start without a worker", env, "millrace", []string{"start", spec}, cli.ExitUnreachable, "no worker polls task queue"},
		{"status without Kafka", with("MILLRACE_KAFKA_BROKERS"), "millrace", []string{"status", "flights", "--spec", spec}, cli.ExitUnreachable, "127.0.0.1:1"},
		{"status without Redis", with("MILLRACE_REDIS_ADDRS"), "millrace", []string{"status", "flights", "--spec", spec}, cli.ExitUnreachable, "Redis at 127.0.0.1:1 does not answer"},
		{"feed without Kafka", with("MILLRACE_KAFKA_BROKERS"), "millrace", []string{"feed", spec, "--topic", "x"}, cli.ExitUnreachable, "127.0.0.1:1"},
		{"worker without Kafka", with("MILLRACE_KAFKA_BROKERS"), "worker", nil, 1, "cannot use Kafka: no Kafka broker reachable"},
		{"worker without Redis", with("MILLRACE_REDIS_ADDRS"), "worker", nil, 1, "cannot use Redis at [127.0.0.1:1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := runProgram(t, c.env, c.program, c.args...)
			require.Equal(t, c.code, a.code, a.err)
			require.Empty(t, a.out)
			require.Equal(t, 1, strings.Count(a.err, "\n"), a.err)
			require.Contains(t, a.err, c.want)
		})
	}
}

// A Redis that holds what another version wrote is not touched.
func TestOtherFormat(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rdb := startRedis(t)
	require.NoError(t, rdb.client().Set(ctx, "mr:format", "99", 0).Err())
	w := newWorld(t, servers{redis: rdb.addr})
	a := runProgram(t, w.env(), "worker")
	require.Equal(t, 1, a.code)
	require.Equal(t, 1, strings.Count(a.err, "\n"), a.err)
	require.Contains(t, a.err, "99")
	require.Equal(t, []string{"mr:format"}, rdb.client().Keys(ctx, "*").Val())
}

// A pipeline whose source topic does not exist ends and says why.
func TestUnknownTopic(t *testing.T) {
	t.Parallel()
	yaml, _ := flights(t, 1)
	w := newWorld(t, servers{})
	p := w.newPipeline(yaml, 0)
	w.ready(w.worker())
	p.start()
	err := p.client.GetWorkflow(context.Background(), contract.PipelineID(p.spec.Name), "").Get(context.Background(), nil)
	require.ErrorContains(t, err, "source topic "+p.topic())
	require.ErrorContains(t, err, "create it first")
	status := p.status()
	require.Equal(t, "failed", status.State)
	require.Contains(t, status.Note, "create it first")
}
