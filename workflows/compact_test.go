package workflows

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// kindsOf are the kinds of jobs, with their bodies.
func kindsOf(t *testing.T, jobs []contract.CarryOutJob) (kinds []string) {
	for _, j := range jobs {
		require.Equal(t, "orders", j.Pipeline)
		require.Equal(t, contract.CompactID("orders"), j.ReplyTo)
		require.True(t, strings.HasSuffix(j.ID, "/"+j.Kind), j.ID)
		require.True(t, json.Valid(j.Spec))
		kinds = append(kinds, j.Kind+" "+string(j.Body))
	}
	return kinds
}

func TestCompactRollsUpThenArchivesThenCounts(t *testing.T) {
	m := newMill()
	env := compactEnv(m, contract.CompactID("orders"))
	env.RegisterDelayedCallback(func() {
		s := statusOf[contract.CompactStatus](t, env)
		require.Equal(t, contract.StateRollingUp, s.State)
		require.Equal(t, "close:orders to carry it out", s.Pending[0].For)
		require.Equal(t, contract.CompactPatience, s.Until.Sub(s.Began))
	}, time.Second)
	startCompact(env, contract.CompactInput{Until: firstNoon})
	result := resultOf[contract.CompactResult](t, env)
	require.Equal(t, contract.OutcomeCompacted, result.Outcome)
	require.Equal(t, firstNoon, result.Bound)
	require.Equal(t, "3 rolled up, 1 corrected, 20 unchanged, 24 archived (9000 bytes)", result.Note)
	require.Equal(t, []string{`rollup {"upper_bound":978350400000}`, `archive {"by":978350400000}`}, kindsOf(t, m.jobs))
	require.Empty(t, m.here)
	require.Equal(t, m.rolledUp, *result.Rollup)
	require.Equal(t, []report.ArchivedFamily{{Name: "hourly", Files: 24, Bytes: 9000}, {Name: "daily"}}, result.Archived.Families)
	require.Equal(t, m.stock, *result.Stock)
	require.Equal(t, []string{contract.ActivityPlanCompact, contract.ActivityTakeStock}, m.calls)
	require.Equal(t, []string{contract.ChildEnded}, toldOf(*m.told), "nobody knows what a run before may have told")
	require.Equal(t, contract.CompactID("orders"), (*m.told)[0].ID)
}

// The upper bound is the time that the schedule meant, however late the run is, and whatever the input says; by hand it is what the
// input says, or the start.
func TestCompactUpTo(t *testing.T) {
	scheduled := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		id    string
		on    bool
		until time.Time
		want  time.Time
	}{
		"by hand":              {"compact:orders", false, time.Time{}, epochTime},
		"by hand, until":       {"compact:orders", false, firstNoon, firstNoon},
		"by a schedule":        {"compact:orders-2026-01-01T03:00:00Z", true, time.Time{}, scheduled},
		"by a schedule, until": {"compact:orders-2026-01-01T03:00:00Z", true, firstNoon, scheduled},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMill()
			env := compactEnv(m, c.id)
			env.SetStartTime(epochTime)
			if c.on {
				attributes := temporal.NewSearchAttributes(scheduledStart.ValueSet(scheduled))
				require.NoError(t, env.SetTypedSearchAttributesOnStart(attributes))
			}
			startCompact(env, contract.CompactInput{Until: c.until})
			require.Equal(t, c.want, resultOf[contract.CompactResult](t, env).Bound)
		})
	}
}

// Whatever does not need doing is not asked for.
func TestCompactDoesWhatTheSpecSays(t *testing.T) {
	for _, c := range []struct{ without, kinds string }{
		{`"rollups":[{"name":"daily","from":"hourly","calendar":"day"}],`, contract.JobArchive},
		{`"archive":{"dir":"/archive"},`, contract.JobRollup},
	} {
		m := newMill()
		m.spec = strings.Replace(m.spec, c.without, "", 1)
		env := compactEnv(m, contract.CompactID("orders"))
		startCompact(env, contract.CompactInput{})
		resultOf[contract.CompactResult](t, env)
		require.Len(t, m.jobs, 1)
		require.Equal(t, c.kinds, m.jobs[0].Kind)
	}
}

func TestCompactRefuses(t *testing.T) {
	plain := newMill()
	plain.spec = specJSON
	unknown := newMill()
	unknown.fail[contract.ActivityPlanCompact] = func(int) error { return refused("compact orders: Temporal knows no pipeline of that name") }
	for name, c := range map[string]struct {
		m    *mill
		id   string
		in   any
		says string
	}{
		"a spec without either": {plain, "", map[string]any{"pipeline": "orders"}, "pipeline orders has nothing to compact: add rollups"},
		"no such pipeline":      {unknown, "", map[string]any{"pipeline": "orders"}, "Temporal knows no pipeline"},
		"an unknown field": {newMill(), "", map[string]any{"pipeline": "orders", "upto": "x"},
			`compact: unknown field "upto"; want only pipeline, until`},
		"a wrong time": {newMill(), "", map[string]any{"pipeline": "orders", "until": "noon"},
			`compact: until is "noon"; want a time as RFC 3339`},
		"no pipeline": {newMill(), "", map[string]any{}, "compact: pipeline is missing"},
		"another id": {newMill(), "nightly", map[string]any{"pipeline": "orders"},
			`workflow id is "nightly"; the input makes it "compact:orders"`},
		"another's id": {newMill(), "compact:flights-2026-01-01T03:00:00Z", map[string]any{"pipeline": "orders"},
			`the input makes it "compact:orders"`},
	} {
		t.Run(name, func(t *testing.T) {
			if c.id == "" {
				c.id = contract.CompactID("orders")
			}
			env := compactEnv(c.m, c.id)
			env.ExecuteWorkflow(contract.WorkflowCompact, c.in)
			var app *temporal.ApplicationError
			require.ErrorAs(t, env.GetWorkflowError(), &app)
			require.Contains(t, app.Message(), c.says)
			require.True(t, app.NonRetryable())
			require.Empty(t, c.m.jobs)
		})
	}
}

// While the pipeline is stopped the run does the closer's work itself.
func TestCompactOfAStoppedPipeline(t *testing.T) {
	m := newMill()
	m.open = false
	m.fail[contract.ActivityCarryOut] = func(n int) error {
		if n == 1 {
			return errRefusedConnection
		}
		return nil
	}
	env := compactEnv(m, contract.CompactID("orders"))
	startCompact(env, contract.CompactInput{})
	result := resultOf[contract.CompactResult](t, env)
	require.Equal(t, contract.OutcomeCompacted, result.Outcome)
	require.Equal(t, 3, len(m.here))
	require.Equal(t, m.here[0], m.here[1], "another attempt at the same job")
	require.Equal(t, 3, result.Rollup.Families[0].Published)
}

// A closer that does not answer is asked again with the same job, and given up in time to say so.
func TestCompactOfASilentCloser(t *testing.T) {
	m := newMill()
	m.silent = true
	env := compactEnv(m, contract.CompactID("orders"))
	began := env.Now()
	startCompact(env, contract.CompactInput{})
	var app *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &app)
	require.Contains(t, app.Message(), "rolling up of orders: close:orders has not answered until ")
	require.Contains(t, app.Message(), "archiving of orders: close:orders has not answered until ")
	require.Less(t, env.Now().Sub(began), contract.CompactTimeout, "before Temporal ends it without a word")
	require.Greater(t, len(m.jobs), 10)
	require.Less(t, len(m.jobs), 60)
	for _, j := range m.jobs {
		require.Equal(t, m.jobs[0].ID, j.ID, "there was no time to ask for the other one")
	}
	require.Equal(t, contract.StateFailed, (*m.told)[0].State)
}

// A pipeline that is stopped while the closer is asked gets its work done all the same.
func TestCompactOfAPipelineThatIsStoppedMeanwhile(t *testing.T) {
	m := newMill()
	m.silent = true
	env := compactEnv(m, contract.CompactID("orders"))
	env.RegisterDelayedCallback(func() { m.open = false }, 90*time.Second)
	startCompact(env, contract.CompactInput{})
	require.Equal(t, contract.OutcomeCompacted, resultOf[contract.CompactResult](t, env).Outcome)
	require.Len(t, m.here, 2)
	require.Equal(t, m.jobs[0].ID, m.here[0].ID)
}

func unfinished(why string) []report.Unfinished {
	return []report.Unfinished{{
		Window: "daily", Start: 978307200000, Child: "hourly", ChildStart: 978325200000, Why: why,
	}}
}

// What somebody has to see to is told to the pipeline, and is the outcome; the rest of the run is done.
func TestCompactTellsProblems(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(m *mill)
		says    string
		fails   bool
	}{
		"a state is missing": {func(m *mill) {
			m.rolledUp.Families[0].Incidents, m.rolledUp.Incidents = 3, unfinished("the states of hourly 2001-01-01T05:00:00Z are gone")
		}, "3 windows cannot be rolled up: daily 2001-01-01T00:00:00Z: the states of hourly 2001-01-01T05:00:00Z are gone; and 2 more", false},
		"a window failed": {func(m *mill) {
			m.rolledUp.Families[0].Failed, m.rolledUp.Failed = 1, unfinished("Kafka does not answer")
		}, "1 window could not be rolled up this time: daily 2001-01-01T00:00:00Z: Kafka does not answer", false},
		"a window was not archived": {func(m *mill) {
			m.archived = append(m.archived, contract.CarriedWindow{
				WindowRef: archivedHour.WindowRef, Outcome: contract.CarriedFailed, Problem: "no space left on device",
			})
		}, "1 window could not be archived: hourly 2001-01-01T00:00:00Z: no space left on device", false},
		"the archive is not shared": {func(m *mill) {
			m.problem[contract.JobArchive] = "archive.dir /archive is not a directory that all workers share"
		}, "archiving of orders cannot be carried out: archive.dir /archive is not a directory that all workers share", true},
		"the closer refuses roll-ups": {func(m *mill) { m.problem[contract.JobRollup] = "of another spec" },
			"rolling up of orders cannot be carried out: of another spec", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMill()
			c.prepare(m)
			env := compactEnv(m, contract.CompactID("orders"))
			startCompact(env, contract.CompactInput{})
			require.True(t, env.IsWorkflowCompleted())
			require.Len(t, m.jobs, 2, "one does not keep the other from being carried out")
			require.Contains(t, m.calls, contract.ActivityTakeStock)
			require.Len(t, *m.told, 1)
			told := (*m.told)[0]
			require.Equal(t, []string{contract.CompactID("orders"), contract.StateFailed, c.says}, []string{told.ID, told.State, told.Note})
			conditions := contract.ChildConditions("orders", false, contract.ChildState{ID: told.ID, State: told.State, Note: told.Note})
			require.Equal(t, contract.ConditionCompactFails, conditions[0].Kind)
			if c.fails {
				require.ErrorContains(t, env.GetWorkflowError(), c.says)
				return
			}
			result := resultOf[contract.CompactResult](t, env)
			require.Equal(t, contract.OutcomeIncomplete, result.Outcome)
			require.Equal(t, []string{c.says}, result.Problems)
		})
	}
}

// runAfter runs a Compact with what the run before has left.
func runAfter(t *testing.T, m *mill, before *contract.CompactResult, failed error, bound time.Time) contract.CompactResult {
	env := compactEnv(m, contract.CompactID("orders"))
	if before != nil {
		env.SetLastCompletionResult(before)
	}
	if failed != nil {
		env.SetLastError(failed)
	}
	m.rolledUp.UpperBound = bound.UnixMilli()
	startCompact(env, contract.CompactInput{Until: bound})
	return resultOf[contract.CompactResult](t, env)
}

// A window that waits is nothing to look at, unless it waits for many runs and for longer than a window stays open.
func TestCompactCountsHowLongWindowsWait(t *testing.T) {
	m := newMill()
	m.rolledUp.Families[0].Waiting, m.rolledUp.Waiting = 1, unfinished("it is not final")
	var last *contract.CompactResult
	for n := range 5 {
		bound := firstNoon.Add(time.Duration(n) * 40 * time.Minute)
		result := runAfter(t, m, last, nil, bound)
		require.Equal(t, n+1, result.Rollup.Waiting[0].Runs)
		require.Equal(t, firstNoon.UnixMilli(), result.Rollup.Waiting[0].Since)
		if 40*n < 90+1 { // allowed lateness, out-of-orderness and an hour
			require.Equal(t, contract.OutcomeCompacted, result.Outcome)
			last = &result
			continue
		}
		require.Equal(t, contract.OutcomeIncomplete, result.Outcome)
		require.Equal(t, []string{"1 window to roll up have waited for 3 runs or longer: daily 2001-01-01T00:00:00Z waits for " +
			"hourly 2001-01-01T05:00:00Z: it is not final"}, result.Problems)
		last = &result
	}
	m.rolledUp.Waiting, m.rolledUp.Families[0].Waiting = nil, 0
	require.Equal(t, contract.OutcomeCompacted, runAfter(t, m, last, nil, firstNoon.Add(4*time.Hour)).Outcome)
	require.Equal(t, []string{contract.ChildEnded}, toldOf(*m.told), "it is taken back")
}

// A run that has nothing to tell says so only when an earlier one may have told something.
func TestCompactTakesBackWhatWasTold(t *testing.T) {
	well := &contract.CompactResult{CompactWork: contract.CompactWork{Stock: &contract.Stock{At: firstNoon}}}
	for name, c := range map[string]struct {
		before *contract.CompactResult
		failed error
		told   []string
	}{
		"all was well":          {well, nil, nil},
		"one before has failed": {well, errors.New("refused"), []string{contract.ChildEnded}},
		"it had problems": {&contract.CompactResult{CompactWork: contract.CompactWork{Problems: []string{"x"}}}, nil,
			[]string{contract.ChildEnded}},
		"nobody knows": {nil, nil, []string{contract.ChildEnded}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMill()
			runAfter(t, m, c.before, c.failed, firstNoon)
			require.Equal(t, c.told, toldOf(*m.told))
			if c.before == well {
				require.Equal(t, []time.Time{firstNoon}, m.since)
			}
		})
	}
}

// A ledger that cannot be read for the count is no reason to fail: the work is done.
func TestCompactDoesWithoutTheCount(t *testing.T) {
	m := newMill()
	m.fail[contract.ActivityTakeStock] = func(int) error { return errRefusedConnection }
	env := compactEnv(m, contract.CompactID("orders"))
	startCompact(env, contract.CompactInput{})
	result := resultOf[contract.CompactResult](t, env)
	require.Equal(t, contract.OutcomeCompacted, result.Outcome)
	require.Nil(t, result.Stock)
}

// What a run has told stands until the next one, though its workflow is closed, also when the pipeline looks for children that ended.
func TestWhatCompactTellsStands(t *testing.T) {
	env, w := pipelineEnv(t)
	id := contract.CompactID("orders")
	w.closed = []string{id}
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(contract.SignalReport, contract.ChildReport{ID: id, State: contract.StateFailed, Note: "a state is gone"})
	}, time.Minute)
	line := func(after time.Duration, want string) {
		env.RegisterDelayedCallback(func() {
			require.Equal(t, want, statusOf[contract.PipelineStatus](t, env).Standing.Line)
		}, after)
	}
	line(2*time.Minute, "degraded (compact:orders: a state is gone, see `millrace compact ls orders`)")
	w.closed = nil
	line(2*contract.ReconcileEvery, "degraded (compact:orders: a state is gone, see `millrace compact ls orders`)")
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(contract.SignalReport, contract.ChildReport{ID: id, State: contract.ChildEnded})
	}, 2*contract.ReconcileEvery+time.Minute)
	line(2*contract.ReconcileEvery+2*time.Minute, "running")
	env.RegisterDelayedCallback(env.CancelWorkflow, 3*contract.ReconcileEvery)
	start(env, nil)
	for _, call := range w.calls {
		require.NotContains(t, call, id, "nobody asks whether it is open")
	}
}

func compactSituations() []situation {
	in := func(prepare func(m *mill), activity string) beginning {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			m := newMill()
			if prepare != nil {
				prepare(m)
			}
			env := compactEnv(m, contract.CompactID("orders"))
			if activity != "" {
				busy(env, activity)
			}
			return env, func() { startCompact(env, contract.CompactInput{}) }, func(t *testing.T) {
				if activity != "" {
					require.Empty(t, *m.told, "a run that is called off has found nothing")
				}
			}
		}
	}
	silent := func(m *mill) { m.silent = true }
	stopped := func(m *mill) { m.open = false }
	archiving := func(m *mill) {
		m.spec = strings.Replace(m.spec, `"rollups":[{"name":"daily","from":"hourly","calendar":"day"}],`, "", 1)
	}
	return []situation{
		{state: contract.StatePlanning, at: 30 * time.Second, begin: in(nil, contract.ActivityPlanCompact)},
		{state: contract.StateRollingUp, name: "waits for the closer", at: 5 * time.Minute, begin: in(silent, "")},
		{state: contract.StateRollingUp, name: "here", at: time.Minute, begin: in(stopped, contract.ActivityCarryOut)},
		{state: contract.StateArchiving, name: "waits for the closer", at: 5 * time.Minute,
			begin: in(func(m *mill) { silent(m); archiving(m) }, "")},
		{state: contract.StateArchiving, name: "here", at: time.Minute,
			begin: in(func(m *mill) { stopped(m); archiving(m) }, contract.ActivityCarryOut)},
		{state: contract.StateCounting, at: time.Minute, begin: in(nil, contract.ActivityTakeStock)},
		{state: contract.StateDone, ended: true, begin: in(nil, "")},
	}
}
