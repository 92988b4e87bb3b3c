package integration

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/tests/rig"
)

// Everything an operator does to a pipeline, each answered with a receipt, and nothing of it changes the results.
func TestControl(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 25_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	one, two := w.Worker(), w.Worker()
	w.Ready(one, two)
	name := p.Spec.Name
	fifth := len(lines) / 5 / 4 * 4

	p.Start()
	again := p.CLI("start", p.File)
	require.Equal(t, cli.ExitFailed, again.Code)
	require.Contains(t, again.Err, "is running already")
	p.Feed(lines[:fifth])
	p.Reach(int64(fifth))

	flushed := p.Update("flush", name, "--request-id", "first", "--reason", "look")
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
	repeated := p.Update("flush", name, "--request-id", "first", "--reason", "look")
	require.True(t, repeated.Repeated, "it says that it is one")
	repeated.Repeated = false
	require.Equal(t, flushed, repeated, "a repeated request is answered with its receipt")
	changed := p.CLI("flush", name, "--request-id", "first", "--reason", "another")
	require.Equal(t, cli.ExitFailed, changed.Code)
	require.Contains(t, changed.Err, `request id "first" was used for another flush, with other input`)
	other := p.CLI("pause", name, "--request-id", "first")
	require.Equal(t, cli.ExitFailed, other.Code)
	require.Contains(t, other.Err, `request id "first" was used for flush`)

	paused := p.Update("pause", name)
	require.True(t, paused.Applied)
	require.Greater(t, paused.Generation, flushed.Generation)
	require.Len(t, paused.Lanes, 4)
	p.Feed(lines[fifth : 2*fifth])
	p.Commits(3)
	require.Equal(t, int64(fifth), p.Committed(), "a paused pipeline has read on")
	rig.Eventually(t, "status says that the lanes are paused", patience, func() bool {
		s := p.Status()
		n := 0
		for _, lane := range s.Lanes {
			if lane.State == "paused" && lane.Lag > 0 {
				n++
			}
		}
		return s.State == contract.StatePaused && n == 4
	})
	drain := p.CLI("stop", name, "--drain")
	require.Equal(t, cli.ExitFailed, drain.Code)
	require.Contains(t, drain.Err, "a paused pipeline reads nothing")
	require.True(t, p.Update("resume", name).Applied)
	p.Reach(int64(2 * fifth))

	scaled := p.Update("scale", name, "2")
	require.Equal(t, 2, scaled.Replicas)
	require.Equal(t, []string{contract.ReplicaID(name, 1)}, scaled.Started)
	rig.Eventually(t, "both replicas are placed, on different workers", patience, func() bool {
		a, b := p.Holder(0), p.Holder(1)
		return a != "" && b != "" && a != b
	})
	rig.Eventually(t, "both workers have lanes", patience, func() bool {
		owned := map[string]bool{}
		for _, owner := range p.Owners() {
			for _, worker := range []*rig.Process{one, two} {
				if worker.SaidOf("lane resumes", "owner="+string(owner)) > 0 {
					owned[worker.Name] = true
				}
			}
		}
		return len(owned) == 2
	})
	p.Feed(lines[2*fifth : 3*fifth])
	p.Reach(int64(3 * fifth))
	scaled = p.Update("scale", name, "1")
	require.Equal(t, 1, scaled.Replicas)
	require.Equal(t, []string{contract.ReplicaID(name, 1)}, scaled.Stopped)
	p.Feed(lines[3*fifth : 4*fifth])
	p.Reach(int64(4 * fifth))

	// A worker that is told to end gives its lanes to the other one.
	leaving, staying := one, two
	if p.Holder(0) == two.Name {
		leaving, staying = two, one
	}
	require.Zero(t, leaving.Stop())
	rig.Eventually(t, "the other worker has the hot path", patience, func() bool { return p.Holder(0) == staying.Name })

	stopped := p.Update("stop", name)
	require.Nil(t, stopped.Drained)
	gone := p.CLI("flush", name)
	require.Equal(t, cli.ExitFailed, gone.Code)
	require.Contains(t, gone.Err, "is not running")
	p.Feed(lines[4*fifth:])
	p.Start()
	p.Drain()
	p.RequireExact()
}

// A lane whose log was cut off before it had read it parks and says so; the others do not notice. The operator need not stop
// anything to decide: its recovery begins by itself, and once it is decided the lane reads on.
func TestDeletedRecords(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 8_000)
	lines = lines[:8_000]
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	p.Feed(lines[:4_000])
	p.Reach(4_000)
	require.True(t, p.Update("pause", p.Spec.Name).Applied)
	// A fetch that was under way when the lane paused still arrives: it takes the first records and no more.
	p.Feed(lines[4_000:4_004])
	p.Feed(lines[4_004:])
	owners := p.Owners()
	admin, err := sarama.NewClusterAdmin(p.Kafka.Brokers, sarama.NewConfig())
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.DeleteRecords(p.Topic(), map[int32]int64{1: 1_500}))
	p.Update("resume", p.Spec.Name)
	rig.Eventually(t, "the lane is parked, the others have read everything", patience, func() bool {
		for _, l := range p.Status().Lanes {
			switch {
			case l.Partition == 1 && l.State != lane.StateParked, l.Partition != 1 && l.Offset != 2_000:
				return false
			}
		}
		return true
	})
	parked := p.Status().Lanes[1]
	// What was fetched before it was deleted may have been read.
	require.GreaterOrEqual(t, parked.Offset, int64(1_000))
	require.Contains(t, parked.Reason, fmt.Sprintf("incident gap, offsets [%d, 1500)", parked.Offset))
	require.Equal(t, owners, p.Owners())
	require.Equal(t, 4, worker.SaidOf("lane resumes"), "a lane has started again")
	require.Equal(t, 1, worker.SaidOf("lane parked"))

	drain := p.CLI("stop", p.Spec.Name, "--drain", "--timeout", "3s")
	require.Equal(t, cli.ExitIncomplete, drain.Code, drain.Err)
	require.Contains(t, drain.Err, "is not drained and goes on")
	require.Contains(t, drain.Err, p.Topic()+"/1")

	asked := p.deciding()
	require.True(t, asked.Status.Batch.MidRun, "%+v", asked)
	require.Len(t, asked.Status.Lanes, 1)
	inc := asked.Status.Lanes[0].Incident
	require.Equal(t, []int64{parked.Offset, 1_500}, []int64{inc.From, inc.To})
	receipt := p.decide(asked.ID, laneName(p.Topic(), 1), report.ChoiceSkip)
	require.True(t, receipt.Applied, "%+v", receipt)
	require.Contains(t, receipt.Cost, fmt.Sprintf("loses %d records", 1_500-parked.Offset))
	var result contract.RecoverResult
	p.result(asked.ID, &result)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome, "%+v", result)
	require.Equal(t, report.LaneRunning, result.Lanes[0].State)
	require.NotEmpty(t, result.Lanes[0].Steps, "what the lane did to go on")
	require.Equal(t, owners[0], p.Owners()[0], "no other lane was touched")
	p.Reach(p.Total())
	p.Drain()
	p.Skipped = map[int32][2]int64{1: {parked.Offset, 1_500}}
	p.RequireExact()
}

// A stop ends the recovery that asks about the pipeline's lanes: nobody could carry its decision out. The next start asks anew.
func TestStopEndsAnOpenRecovery(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 2_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 1)
	w.Ready(w.Worker())
	p.Start()
	p.Feed(lines[:1_000])
	p.Reach(1_000)
	p.Must("pause", p.Spec.Name)
	p.Feed(lines[1_000:1_001])
	p.Feed(lines[1_001:2_000])
	admin, err := sarama.NewClusterAdmin(p.Kafka.Brokers, sarama.NewConfig())
	require.NoError(t, err)
	defer admin.Close()
	require.NoError(t, admin.DeleteRecords(p.Topic(), map[int32]int64{0: 1_500}))
	p.Must("resume", p.Spec.Name)
	first := p.deciding()
	p.Must("stop", p.Spec.Name)
	var result contract.RecoverResult
	p.result(first.ID, &result)
	require.Equal(t, contract.OutcomeSuperseded, result.Outcome, "%+v", result)
	require.Contains(t, result.Lanes[0].Note, "the pipeline was stopped")
	p.StartAsking()
	second := p.deciding()
	require.False(t, second.Status.Batch.MidRun)
	require.True(t, p.decide(second.ID, laneName(p.Topic(), 0), report.ChoiceSkip).Applied)
	p.Reach(p.Total())
	inc := second.Status.Lanes[0].Incident
	p.Drain()
	p.Skipped = map[int32][2]int64{0: {inc.From, inc.To}}
	p.RequireExact()
}

// asking waits for the recoveries that ask about that many parked lanes between them. Lanes that are claimed at about the same
// time share a recovery.
func (p *pipeline) asking(lanes int, within time.Duration) (asks []told[contract.RecoverStatus]) {
	p.T.Helper()
	rig.Eventually(p.T, fmt.Sprintf("%d parked lanes have an incident in an open recovery", lanes), within, func() bool {
		asks = asks[:0]
		parked := 0
		for _, r := range p.recoveries() {
			if !r.Open || r.Status.State != contract.StateDeciding {
				continue
			}
			asks = append(asks, r)
			for _, l := range r.Status.Lanes {
				if l.State == report.LaneParked && l.Incident != nil {
					parked++
				}
			}
		}
		return parked == lanes
	})
	return asks
}

// deciding waits for the one recovery that asks.
func (p *pipeline) deciding() (asks told[contract.RecoverStatus]) {
	p.T.Helper()
	rig.Eventually(p.T, "a recovery asks", patience, func() bool {
		n := 0
		for _, r := range p.recoveries() {
			if r.Open && r.Status.State == contract.StateDeciding {
				asks = r
				n++
			}
		}
		return n == 1
	})
	return asks
}

// What cannot work says so in one line, with an exit code that scripts can decide on.
func TestUnreachableServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.Servers{})
	env := w.Env()
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
		{"verify without Kafka", with("MILLRACE_KAFKA_BROKERS"), "millrace", []string{"verify", "flights", "--spec", spec},
			cli.ExitUnreachable, "127.0.0.1:1"},
		{"verify without Redis", with("MILLRACE_REDIS_ADDRS"), "millrace", []string{"verify", "flights", "--spec", spec},
			cli.ExitUnreachable, "Redis at 127.0.0.1:1 does not answer"},
		{"feed without Kafka", with("MILLRACE_KAFKA_BROKERS"), "millrace", []string{"feed", spec, "--topic", "x"}, cli.ExitUnreachable, "127.0.0.1:1"},
		{"worker without Kafka", with("MILLRACE_KAFKA_BROKERS"), "worker", nil, 1, "cannot use Kafka: no Kafka broker reachable"},
		{"worker without Redis", with("MILLRACE_REDIS_ADDRS"), "worker", nil, 1, "cannot use Redis at [127.0.0.1:1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := rig.RunProgram(t, c.env, c.program, c.args...)
			require.Equal(t, c.code, a.Code, a.Err)
			require.Empty(t, a.Out)
			problem := a.Err
			if c.program == "worker" {
				problem = afterStart(t, a.Err)
			}
			require.Equal(t, 1, strings.Count(problem, "\n"), problem)
			require.Contains(t, problem, c.want)
		})
	}
}

// Status shows what it can: a server that does not answer is a finding.
func TestStatusWithoutServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.Servers{})
	spec := filepath.Join("..", "..", "examples", "flights", "flights.yaml")
	for variable, want := range map[string]string{
		"MILLRACE_KAFKA_BROKERS": "! kafka-away", "MILLRACE_REDIS_ADDRS": "! redis-away", "TEMPORAL_ADDRESS": "! temporal-away",
	} {
		env := append(append([]string(nil), w.Env()...), variable+"="+net.JoinHostPort("127.0.0.1", "1"))
		a := rig.RunProgram(t, env, "millrace", "status", "flights", "--spec", spec)
		require.Equal(t, cli.ExitOK, a.Code, a.Err)
		require.Contains(t, a.Out, want)
		checked := rig.RunProgram(t, env, "millrace", "status", "flights", "--spec", spec, "--check")
		require.Equal(t, cli.ExitFailed, checked.Code, checked.Out)
	}
}

// afterStart is what a worker says after the line that names its build.
func afterStart(t *testing.T, text string) string {
	t.Helper()
	first, rest, _ := strings.Cut(text, "\n")
	require.Contains(t, first, `"msg":"worker starts","version":"`)
	for strings.Contains(rest, `"msg":"a setting of Redis serves lanes badly"`) { // the server has its defaults
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return rest
}

// A Redis that holds what another version wrote is not touched.
func TestOtherFormat(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rdb := rig.StartRedis(t)
	require.NoError(t, rdb.Client().Set(ctx, "mr:format", "99", 0).Err())
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	a := rig.RunProgram(t, w.Env(), "worker")
	require.Equal(t, 1, a.Code)
	problem := afterStart(t, a.Err)
	require.Equal(t, 1, strings.Count(problem, "\n"), problem)
	require.Contains(t, problem, "99")
	require.Equal(t, []string{"mr:format"}, rdb.Client().Keys(ctx, "*").Val())
}

// A pipeline whose source topic does not exist ends and says why.
func TestUnknownTopic(t *testing.T) {
	t.Parallel()
	yaml, _ := rig.Flights(t, 1)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 0)
	w.Ready(w.Worker())
	start := p.CLI("start", p.File)
	require.Equal(t, cli.ExitFailed, start.Code)
	require.Contains(t, start.Err, "source topic "+p.Topic()+": unknown topic; create it first")
	err := p.Client.GetWorkflow(context.Background(), contract.PipelineID(p.Spec.Name), "").Get(context.Background(), nil)
	require.ErrorContains(t, err, "source topic "+p.Topic())
	require.ErrorContains(t, err, "create it first")
	status := p.Status()
	require.Equal(t, "failed", status.State)
	require.Contains(t, status.Note, "create it first")
}
