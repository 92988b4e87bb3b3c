package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/tests/rig"
)

// told is a workflow as the command line lists it.
type told[Status any] struct {
	ID     string `json:"workflow_id"`
	Open   bool   `json:"open"`
	Status Status `json:"status"`
}

// recoveries is what `millrace recover ls` tells.
func (p *pipeline) recoveries() (all []told[contract.RecoverStatus]) {
	p.T.Helper()
	out := p.Must("recover", "ls", p.Spec.Name, "--last", "100", "--json").Out
	require.NoError(p.T, json.Unmarshal([]byte(out), &all), "%s", out)
	return all
}

// recovered is what the recoveries that are over came to, by workflow.
func (p *pipeline) recovered() map[string]contract.RecoverResult {
	p.T.Helper()
	results := make(map[string]contract.RecoverResult)
	for _, r := range p.recoveries() {
		if r.Open {
			continue
		}
		var result contract.RecoverResult
		p.result(r.ID, &result)
		results[r.ID] = result
	}
	return results
}

// result waits for what a workflow comes to.
func (p *pipeline) result(id string, into any) {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(p.T, p.Client.GetWorkflow(ctx, id, "").Get(ctx, into), "%s", id)
}

// degradation is what the workflow of a worker's degradation tells now; found is false while there is none, or no answer.
func (p *pipeline) degradation(worker string) (s contract.DegradeStatus, found bool) {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := p.Client.QueryWorkflow(ctx, contract.DegradeID(p.Spec.Name, worker, report.DependencyRedis), "", contract.QueryStatus)
	if err != nil {
		return s, false
	}
	require.NoError(p.T, answer.Get(&s))
	return s, true
}

// entered waits until the timeline of a worker's degradation has come to a level.
func (p *pipeline) entered(worker string, level report.Level) {
	p.T.Helper()
	rig.Eventually(p.T, "the degradation's timeline comes to "+string(level), 2*patience, func() bool {
		s, _ := p.degradation(worker)
		for _, c := range s.Timeline {
			if c.To == level {
				return true
			}
		}
		return false
	})
}

// tell logs a timeline.
func (p *pipeline) tell(timeline []report.LevelChange) {
	p.T.Helper()
	for _, c := range timeline {
		p.T.Logf("%s %s -> %s: %s", c.At.Format("15:04:05.000"), c.From, c.To, c.Reason)
	}
}

// disk is the id of a worker's WAL directory.
func (j *journalWorker) disk(p *pipeline) string {
	p.T.Helper()
	found := regexp.MustCompile(`msg="WAL opened".* disk=(\S+)`).FindStringSubmatch(j.Said())
	require.Len(p.T, found, 2, "%s", j.Tail(20))
	return found[1]
}

// replay settles what a pipeline has left in a WAL.
func (p *pipeline) replay(args ...string) (r contract.ReplayWALResult) {
	p.T.Helper()
	out := p.Must(append([]string{"wal", "replay", p.Spec.Name, "--wait", "--json"}, args...)...).Out
	require.NoError(p.T, json.Unmarshal([]byte(out), &r), "%s", out)
	require.Equal(p.T, contract.OutcomeDrained, r.Outcome, "%s", r.Note)
	return r
}

func laneName(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }
