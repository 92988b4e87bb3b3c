// Package tracing shows traces of real processes: of one record from the header that it came with to the row that was published, and
// of a recovery across its workflow and the hot path.
package tracing

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/tests/long"
	"millrace/tests/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

const orders = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [customer]
  time: {field: at, unit: ms}
aggregates:
  orders: {func: count}
  amount: {func: sum, field: amount, type: int}
windows: [{name: minute, size: 1m}]
watermark: {out_of_orderness: 0s}
results: {kafka: {topic: orders.windows}}
lane: {commit_interval: 200ms}
`

// base is a full hour, a while ago.
var base = time.Now().Add(-4 * time.Hour).Truncate(time.Hour)

func order(second int, amount int) []byte {
	return fmt.Appendf(nil, `{"customer":"c-17","at":%d,"amount":%d}`, base.Add(time.Duration(second)*time.Second).UnixMilli(), amount)
}

// wait waits until a trace has a number of spans of each name.
func (s *spanStore) wait(t *testing.T, trace string, want map[string]int) {
	t.Helper()
	rig.Eventually(t, fmt.Sprintf("the trace %s has %v", trace, want), rig.Patience, func() bool {
		have := s.names(trace)
		for name, n := range want {
			if have[name] < n {
				return false
			}
		}
		return true
	})
}

// One record, from `millrace feed`, which gives it its header, to the row of its window.
func TestARecordFromHeaderToPublishedRow(t *testing.T) {
	t.Parallel()
	spans := startStore(t)
	w := rig.NewWorld(t, rig.Servers{Env: spans.env()})
	w.Ready(w.Worker())
	p := w.Pipeline(orders, 1)
	p.Start()

	file := filepath.Join(t.TempDir(), "one.jsonl")
	require.NoError(t, os.WriteFile(file, append(order(10, 250), '\n'), 0o644))
	p.Must("feed", file, "--topic", p.Topic(), "--trace", "1")
	sent := spans.find("feed.send")
	require.Len(t, sent, 1)
	trace := sent[0].trace
	fed := p.Read(p.Topic())
	require.Equal(t, fmt.Sprintf("00-%s-%s-01", trace, sent[0].id), rig.Headers(fed[0])["traceparent"])
	p.Reach(1)
	p.Send(0, order(70, 1)) // the watermark passes the end of the window
	spans.wait(t, trace, map[string]int{"lane.record": 1, "lane.commit": 1, "window.show": 1, "window.close": 1})
	t.Log("\n" + spans.tree(trace))

	parents := map[string]string{
		"lane.record": "feed.send", "lane.fetch": "lane.record", "lane.fold": "lane.record", "lane.commit": "lane.record",
		"window.close": "lane.record", "window.merge": "window.publish",
		"window.publish": "window.close", "window.show": "window.close",
	}
	byID := make(map[string]*span)
	for _, one := range spans.of(trace) {
		byID[one.id] = one
	}
	var published *span
	for _, one := range byID {
		if one.GetName() == "feed.send" {
			continue
		}
		require.Contains(t, parents, one.GetName())
		require.Equal(t, parents[one.GetName()], byID[one.parent].GetName(), one.GetName())
		require.False(t, one.start().Before(sent[0].start().Truncate(time.Millisecond)), one.GetName())
		if one.GetName() == "window.publish" {
			published = one
		}
	}
	want := fmt.Sprintf("00-%s-%s-01", trace, published.id)
	for _, topic := range []string{p.Spec.Results.Kafka.Topic, ledger.Topic(p.Spec.Name)} {
		rows := 0
		for _, r := range p.Read(topic) {
			if header := rig.Headers(r)["traceparent"]; header != "" {
				require.Equal(t, want, header, topic)
				rows++
			}
		}
		require.Equal(t, 1, rows, topic)
	}
}

// ranOutside counts the steps of a recovery that its workflow has run.
func ranOutside(spans *spanStore, trace string) (n int) {
	names := make(map[string]string)
	for _, one := range spans.of(trace) {
		names[one.id] = one.GetName()
	}
	for _, one := range spans.of(trace) {
		if one.attribute("millrace.recovery.by") == "temporal" && names[one.parent] == "RunActivity:RecoverStep" {
			n++
		}
	}
	return n
}

// A recovery is one trace, whoever runs its steps: Temporal's workflow, or the hot path itself while Temporal is away. Of the
// latter the workflow that is started with the report is part.
func TestARecoveryAcrossWorkflowAndHotPath(t *testing.T) {
	t.Parallel()
	spans := startStore(t)
	front := rig.StartProxy(t, rig.TemporalAddr(t))
	w := rig.NewWorld(t, rig.Servers{Env: spans.env(), Temporal: front.Addr})
	w.Ready(w.Worker())
	p := w.Pipeline(orders, 2)
	p.Start()
	p.Send(0, order(10, 250))
	p.Send(1, order(11, 20))
	p.Reach(2)

	steps := []string{"recovery.acquire", "recovery.journal", "recovery.restore", "recovery.verify", "recovery.resume"}
	t.Run("Temporal runs the steps", func(t *testing.T) {
		require.NotZero(t, len(spans.find("recovery")), "that of the start")
		// A workflow that takes long to begin leaves the steps to the hot path, as on a busy machine.
		for try := 1; ; try++ {
			before := len(spans.find("recovery"))
			steal(t, p)
			rig.Eventually(t, "a recovery has ended", rig.Patience, func() bool { return len(spans.find("recovery")) > before })
			trace := spans.find("recovery")[before].trace
			spans.wait(t, trace, map[string]int{"RunWorkflow:RecoverLanes": 1, "recovery": 1})
			t.Log("\n" + spans.tree(trace))
			for _, step := range steps {
				require.NotZero(t, spans.names(trace)[step], step)
			}
			if ranOutside(spans, trace) > 0 {
				return
			}
			require.Less(t, try, 10, "steps that the workflow has run go below its activities")
		}
	})

	t.Run("the hot path runs them while Temporal is away", func(t *testing.T) {
		before := len(spans.find("recovery"))
		front.Point("")
		steal(t, p)
		rig.Eventually(t, "a recovery has ended", rig.Patience, func() bool { return len(spans.find("recovery")) > before })
		whole := spans.find("recovery")[before]
		require.Zero(t, spans.names(whole.trace)["RunWorkflow:RecoverLanes"])
		front.Point(rig.TemporalAddr(t))
		spans.wait(t, whole.trace, map[string]int{"RunWorkflow:RecoverLanes": 1})
		t.Log("\n" + spans.tree(whole.trace))
		for _, one := range spans.of(whole.trace) {
			switch one.GetName() {
			case "RunWorkflow:RecoverLanes":
				require.True(t, one.start().After(whole.end()), "it is told afterwards")
			case steps[0], steps[1], steps[2], steps[3], steps[4]:
				require.Equal(t, "inline", one.attribute("millrace.recovery.by"))
				require.Equal(t, whole.id, one.parent)
				require.False(t, one.start().Before(whole.start()), "with the time at which it ran")
				require.False(t, one.end().After(whole.end()))
			}
		}
	})
}

// A replay is one trace from the command to what it publishes: the workflow, reading and comparing, and the job that the closer's own
// workflow carries out. A compaction is another.
func TestAReplayAndACompactionAreTracesOfTheirOwn(t *testing.T) {
	if !long.Wanted {
		t.Skip("waits for windows to become final; MILLRACE_TEST_LONG asks for it")
	}
	t.Parallel()
	spans := startStore(t)
	w := rig.NewWorld(t, rig.Servers{Env: spans.env()})
	w.Ready(w.Worker())
	p := w.Pipeline(orders+"rollups: [{name: hourly, from: minute, calendar: hour}]\n", 1)
	p.Start()
	p.Send(0, order(10, 250), order(100, 1))
	p.Reach(2)
	p.Send(0, order(30, 7), order(7300, 1)) // the first is late
	p.Reach(4)
	rig.Eventually(t, "the first window is final", rig.Patience, func() bool {
		return slices.ContainsFunc(p.Ledger(), func(r ledger.Row) bool { return r.Final && r.Start == base.UnixMilli() })
	})

	from, to := base.UTC().Format(time.RFC3339), base.Add(time.Minute).UTC().Format(time.RFC3339)
	p.Must("replay", p.Spec.Name, "--lateness", "none", "--id", "fix", "--from", from, "--to", to, "--detach")
	status := func() (s contract.ReplayStatus) {
		require.NoError(t, json.Unmarshal([]byte(p.Must("replay", "show", p.Spec.Name, "fix", "--json").Out), &s))
		return s
	}
	rig.Eventually(t, "it asks", rig.Patience, func() bool { return status().State == contract.StateAsking })
	p.Must("replay", "approve", p.Spec.Name, "fix", status().Summary.Checksum)
	p.Must("compact", "run", p.Spec.Name)
	for _, c := range []struct {
		workflow string
		last     string
		spans    []string
	}{
		{"RunWorkflow:Replay", "closer.corrections", []string{"shadow.read", "shadow.compare", "window.correct", "window.publish"}},
		{"RunWorkflow:Compact", "closer.rollup", []string{"RunActivity:PlanCompact"}},
	} {
		rig.Eventually(t, c.last, rig.Patience, func() bool { return len(spans.find(c.last)) > 0 })
		trace := spans.find(c.last)[0].trace
		spans.wait(t, trace, map[string]int{c.workflow: 1})
		t.Log("\n" + spans.tree(trace))
		for _, name := range c.spans {
			require.NotZero(t, spans.names(trace)[name], "%s in the trace of %s", name, c.workflow)
		}
	}
}

// steal takes a lane from its owner, as another worker would that believes it owns the partition: the lane is acquired anew.
func steal(t *testing.T, p *rig.Pipeline) {
	t.Helper()
	ctx := context.Background()
	meta, found := p.Meta(0)
	require.True(t, found)
	_, _, err := p.Store.Acquire(ctx, p.Lane(0), p.Spec.StateID(), meta.Owner, store.NextToken(meta.Owner))
	require.NoError(t, err)
}
