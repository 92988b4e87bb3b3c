package integration

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/tests/rig"
)

// keys are those that Redis holds of the pipeline.
func (p *pipeline) keys() (names []string) {
	p.T.Helper()
	require.NoError(p.T, p.Store.ScanPipeline(context.Background(), p.Spec.Name, func(keys []store.PipelineKey) error {
		for _, k := range keys {
			names = append(names, k.Name)
		}
		return nil
	}))
	return names
}

// outputs are the topics that the pipeline writes and that exist.
func (p *pipeline) outputs() (names []string) {
	p.T.Helper()
	all, err := p.Cluster.Topics(context.Background())
	require.NoError(p.T, err)
	wanted := []string{ledger.Topic(p.Spec.Name)}
	if sink := p.Spec.Results.Kafka; sink != nil {
		wanted = append(wanted, sink.Topic)
	}
	if sink := p.Spec.Late.Kafka; sink != nil {
		wanted = append(wanted, sink.Topic)
	}
	if sink := p.Spec.DeadLetter.Kafka; sink != nil {
		wanted = append(wanted, sink.Topic)
	}
	return slices.DeleteFunc(wanted, func(topic string) bool { return !slices.Contains(all, topic) })
}

func (p *pipeline) grouped() bool {
	p.T.Helper()
	exists, err := p.Cluster.GroupExists(context.Background(), engine.Group(p.Spec.Name))
	require.NoError(p.T, err)
	return exists
}

func TestRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 8_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	w.Ready(w.Worker())
	p.Start()
	p.Feed(lines)
	p.Reach(int64(len(lines)))

	refused := p.CLI("rm", p.Spec.Name, "--yes", "--grace", "1s")
	require.Equal(t, 1, refused.Code, refused.Err)
	require.Contains(t, refused.Err, "workflow pipeline:"+p.Spec.Name+" is open")
	require.Contains(t, refused.Err, "stop it first")

	p.Drain()
	p.RequireExact()
	require.NotEmpty(t, p.keys())
	dry := p.Must("rm", p.Spec.Name, "--topics", "--dry-run")
	require.Contains(t, dry.Err, "4 lanes and the consumer group millrace."+p.Spec.Name)
	require.Contains(t, dry.Err, ledger.Topic(p.Spec.Name))
	require.Contains(t, dry.Err, "will be deleted")
	require.NotEmpty(t, p.keys())
	require.NotEmpty(t, p.outputs())

	done := p.Must("rm", p.Spec.Name, "--topics", "--yes", "--grace", "1s")
	require.Contains(t, done.Out, "removed")
	require.Contains(t, done.Err, "grace: keeps the lanes fenced")
	require.Empty(t, p.keys())
	require.Empty(t, p.outputs())
	require.False(t, p.grouped())
	all, err := p.Cluster.Topics(context.Background())
	require.NoError(t, err)
	require.Contains(t, all, p.Topic(), "the source topic stays")
	nothing := p.CLI("rm", p.Spec.Name, "--topics", "--yes")
	require.Equal(t, 1, nothing.Code, "it does not wait for the grace")
	require.Contains(t, nothing.Err, "nothing of pipeline "+p.Spec.Name+" is here")
	gone := p.CLI("windows", "ls", p.Spec.Name)
	require.Contains(t, gone.Err, "or it was removed")

	p.Start()
	p.Drain()
	p.RequireExact()
}

// Without --topics results and ledger stay, and a pipeline of the same name begins anew beside them.
func TestAPipelineBeginsAnewAfterARemoval(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 8_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	p.Feed(lines)
	p.Drain()
	require.NotEmpty(t, p.Ledger())
	topics := p.outputs()
	p.Must("rm", p.Spec.Name, "--yes", "--grace", "1s")
	require.Empty(t, p.keys())
	require.False(t, p.grouped())
	require.Equal(t, topics, p.outputs())

	p.Start()
	p.Reach(int64(len(lines)))
	for _, lane := range p.Status().Lanes {
		require.Empty(t, lane.Choices, "an incident: %+v", lane)
	}
	p.Drain()
	require.Zero(t, worker.SaidOf("lane parked"))
	p.RequireExact()
	require.NotEmpty(t, p.Ledger())
	for _, row := range p.Ledger() {
		require.Equal(t, 1, row.Revision, "it begins anew")
		require.Equal(t, 2, row.Edition)
	}
}

// A worker is frozen in the middle of its work, the pipeline is stopped and removed, and then the worker thaws.
func TestAThawedWorkerWritesNothingOfARemovedPipeline(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 40_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	zombie := w.Worker()
	w.Ready(zombie)
	p.Start()
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(int64(len(lines)) / 20)
	zombie.Signal(syscall.SIGSTOP)
	heir := w.Worker()
	w.Ready(heir)
	rig.Eventually(t, "the heir has the replica", patience, func() bool { return p.Holder(0) == heir.Name })
	p.Reach(p.Committed() + int64(len(lines))/100)
	feed.Finish()
	p.Update("stop", p.Spec.Name)
	p.Must("rm", p.Spec.Name, "--topics", "--yes", "--grace", "1s")
	require.Empty(t, p.keys())

	zombie.Signal(syscall.SIGCONT)
	rig.Eventually(t, "the zombie gives its hot path up", patience, func() bool { return zombie.SaidOf("hot path ended") > 0 })
	// Leases run out by themselves: nothing else may ever appear.
	for end := time.Now().Add(2 * contract.LeaseTTL); time.Now().Before(end); {
		for _, key := range p.keys() {
			require.True(t, strings.HasPrefix(key, "mr:{"+p.Spec.Name+"}:replica:"), key)
		}
		require.Empty(t, p.outputs())
		require.False(t, p.grouped())
	}
	require.Empty(t, p.keys())
}
