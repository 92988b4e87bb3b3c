package workflows

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
)

// TestJobThatFailsLetsOthersGoFirst: what has failed again and again becomes the last, says why, and goes on with what it has
// done when Kafka is well again.
func TestJobThatFailsLetsOthersGoFirst(t *testing.T) {
	var mu sync.Mutex
	well := false
	tried := 0
	env, c := jobEnv(t, func(job contract.CarryOutJob) (*contract.CarriedOut, error) {
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, contract.JobTries, job.Tries)
		if job.ID != jobOf(1).ID || well {
			return &contract.CarriedOut{ID: job.ID, Report: booked(job.Report.Booked() + 2)}, nil
		}
		tried++
		return &contract.CarriedOut{ID: job.ID, Report: booked(3), Unfinished: true, Trouble: "no broker answers"}, nil
	})
	var inputs []contract.CloseDueInput
	dues(env, &inputs)
	asks(env, time.Second, jobOf(1), jobOf(2), jobOf(3))
	asks(env, 10*time.Minute, jobOf(4))
	env.RegisterDelayedCallback(func() {
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, tried, 2, "it is tried again, with a rest in between")
		require.Less(t, tried, 12)
		well = true
		value, err := env.QueryWorkflow(contract.QueryStatus)
		require.NoError(t, err)
		var status contract.CloseWindowsStatus
		require.NoError(t, value.Get(&status))
		require.Equal(t, []string{jobOf(1).ID}, status.Jobs)
		require.Equal(t, []contract.JobTrouble{{ID: jobOf(1).ID, Why: "no broker answers"}}, status.Troubles)
	}, 20*time.Minute)
	stopsAt(env, time.Hour)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{
		"replay:orders:1 replay:orders:1/corrections: 3 published", // the only time that it is told the same trouble
		"replay:orders:2 replay:orders:2/corrections: 2 published", "replay:orders:3 replay:orders:3/corrections: 2 published",
		"replay:orders:4 replay:orders:4/corrections: 2 published", "replay:orders:1 replay:orders:1/corrections: 5 published",
	}, c.heard)
	require.Equal(t, []string{jobOf(1).ID, jobOf(2).ID, jobOf(3).ID}, []string{c.began[0].ID, c.began[1].ID, c.began[2].ID})
}

// TestWhoeverAsksHearsWhyAJobFails: the trouble of a job is no answer to it, and is shown meanwhile.
func TestWhoeverAsksHearsWhyAJobFails(t *testing.T) {
	m := newMill()
	m.after = 10 * time.Minute
	env := compactEnv(m, contract.CompactID("orders"))
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(contract.SignalCarriedOut, contract.CarriedOut{ID: m.jobs[0].ID, Unfinished: true, Trouble: "no broker answers"})
	}, time.Minute)
	var status contract.CompactStatus
	env.RegisterDelayedCallback(func() { status = statusOf[contract.CompactStatus](t, env) }, 2*time.Minute)
	startCompact(env, contract.CompactInput{Until: firstNoon})
	require.Equal(t, contract.OutcomeCompacted, resultOf[contract.CompactResult](t, env).Outcome)
	require.Len(t, status.Pending, 1)
	require.Equal(t, "no broker answers", status.Pending[0].Why)
}
