package workflows

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

// readOnce is what a Replay does that finds nothing to carry out.
var readOnce = []string{
	contract.ActivitySweepShadows, contract.ActivityPlanReplay, contract.ActivityReplayRange, contract.ActivityEndShadow,
}

func approvalOf(checksum string) contract.ApproveDiffRequest {
	return contract.ApproveDiffRequest{Checksum: checksum, Reason: "looked at it"}
}

func TestReplayThatFindsNothing(t *testing.T) {
	p := newPast()
	p.dead = []string{"old"}
	env := pastEnv(p)
	startPast(env, contract.ReplayInput{FromLate: true, Rate: 500})
	result := resultOf[contract.ReplayResult](t, env)
	require.Equal(t, contract.OutcomeUnchanged, result.Outcome)
	require.Equal(t, "nothing differs in 3 windows", result.Note)
	require.Equal(t, readOnce, p.steps())
	require.Empty(t, p.jobs)
	require.Empty(t, *p.told)
	want := contract.ReplayAsk{
		ReplayRef: contract.ReplayRef{Pipeline: "orders", ID: "fix-1"}, From: firstDay, To: firstDay.Add(24 * time.Hour),
		Lateness: contract.LatenessAsRead, FromLate: true, Rate: 500,
	}
	require.Equal(t, want, p.reads[0].Ask)
	require.Equal(t, want, result.Ask)
	require.JSONEq(t, specJSON, string(p.reads[0].Own))
	require.Equal(t, []string{"old"}, statusOf[contract.ReplayStatus](t, env).Swept)
}

func TestReplayDryRunReadsNothing(t *testing.T) {
	p := newPast().differs()
	env := pastEnv(p)
	startPast(env, contract.ReplayInput{DryRun: true})
	result := resultOf[contract.ReplayResult](t, env)
	require.Equal(t, contract.OutcomeDryRun, result.Outcome)
	require.Equal(t, p.plan, *result.Plan)
	require.Equal(t, readOnce[:2], p.steps())
}

func TestReplayAsksAndIsCarriedOutByTheCloser(t *testing.T) {
	p := newPast().differs()
	p.answer.Report.Add(contract.CarriedWindow{Outcome: contract.CarriedMoved})
	env := pastEnv(p)
	early := ask[contract.ReplayReceipt](env, 0, contract.UpdateApprove, "u0", approvalOf("c0ffee"))
	asking := new(contract.ReplayStatus)
	env.RegisterDelayedCallback(func() { *asking = statusOf[contract.ReplayStatus](t, env) }, time.Minute)
	other := ask[contract.ReplayReceipt](env, 2*time.Minute, contract.UpdateApprove, "u1", approvalOf("decaf"))
	page := ask[contract.DiffPage](env, 3*time.Minute, contract.UpdateShowDiff, "u2",
		contract.ShowDiffRequest{Window: "hourly", Start: firstDay})
	yes := ask[contract.ReplayReceipt](env, 4*time.Minute, contract.UpdateApprove, "u3", approvalOf("c0ffee"))
	late := ask[contract.ReplayReceipt](env, 4*time.Minute+time.Second, contract.UpdateReject, "u4", contract.RejectRequest{})
	again := ask[contract.ReplayReceipt](env, 4*time.Minute+2*time.Second, contract.UpdateApprove, "u3", approvalOf("c0ffee"))
	startPast(env, contract.ReplayInput{})
	result := resultOf[contract.ReplayResult](t, env)
	require.Equal(t, contract.OutcomeCarriedOut, result.Outcome)
	require.Contains(t, result.Note, "1 moved, 2 published; windows that have moved were published again")
	require.Equal(t, []string{
		contract.ActivitySweepShadows, contract.ActivityPlanReplay, contract.ActivityReplayRange, contract.ActivityShowDiff,
		contract.ActivityEndShadow,
	}, p.steps(), "the closer carries it out")
	require.Len(t, p.jobs, 1)
	require.Equal(t, "replay:orders:fix-1/corrections", p.jobs[0].ID)
	require.Equal(t, "replay:orders:fix-1", p.jobs[0].ReplyTo)
	var body contract.ShadowJob
	require.NoError(t, json.Unmarshal(p.jobs[0].Body, &body))
	require.Equal(t, contract.ShadowJob{Replay: "fix-1", Checksum: "c0ffee", Lateness: contract.LatenessAsRead, Reason: "looked at it"}, body)

	require.Equal(t, contract.StateAsking, asking.State)
	require.Equal(t, "1 of 3 windows differ: 0 keys added, 4 changed, 0 removed; wrong: view", asking.Note)
	require.Equal(t, 7*24*time.Hour, asking.Until.Sub(asking.Began).Round(time.Hour))
	require.ErrorContains(t, early.rejected, "nothing waits for an approval; the replay is ")
	require.ErrorContains(t, other.rejected, `checksum is "decaf", and that of the diff is "c0ffee"`)
	require.Len(t, page.got.Rows, 1)
	require.Equal(t, "c0ffee", yes.got.Checksum)
	require.ErrorContains(t, late.rejected, "approved already")
	require.True(t, again.got == nil || again.got.RequestID == "u3", "Temporal itself answers a repeated id of one run")
	require.Equal(t, []contract.ReplayReceipt{*yes.got}, result.Receipts)
	require.Equal(t, contract.OutcomeCarriedOut, statusOf[contract.ReplayStatus](t, env).Standing())

	require.Equal(t, contract.StateAsking, (*p.told)[0].State)
	require.Equal(t, asking.Note, (*p.told)[0].Note)
	require.Equal(t, []contract.Condition{{
		Kind: contract.ConditionReplayAsks, Subject: "replay:orders:fix-1", Reason: asking.Note,
		Command: "millrace replay show orders fix-1",
	}}, contract.ChildConditions("orders", false, stateOf((*p.told)[0])))
	tellsItsEnd(t, *p.told)
}

// stateOf is what a pipeline remembers of a report.
func stateOf(r contract.ChildReport) contract.ChildState {
	return contract.ChildState{ID: r.ID, State: r.State, Note: r.Note, ChildWaits: r.ChildWaits}
}

func TestReplayCarriesOutByItselfWhenThePipelineIsStopped(t *testing.T) {
	p := newPast().differs()
	p.open = false
	env := pastEnv(p)
	ask[contract.ReplayReceipt](env, time.Minute, contract.UpdateApprove, "u1", approvalOf("c0ffee"))
	startPast(env, contract.ReplayInput{})
	require.Equal(t, contract.OutcomeCarriedOut, resultOf[contract.ReplayResult](t, env).Outcome)
	require.Equal(t, []string{contract.ActivityCarryOut, contract.ActivityEndShadow}, p.steps()[3:])
}

// A closer that ends before it has answered leaves the job to the replay.
func TestReplayOutlivesTheCloser(t *testing.T) {
	p := newPast().differs()
	p.silent = true
	env := pastEnv(p)
	ask[contract.ReplayReceipt](env, time.Minute, contract.UpdateApprove, "u1", approvalOf("c0ffee"))
	env.RegisterDelayedCallback(func() { p.open = false }, 3*time.Minute)
	startPast(env, contract.ReplayInput{})
	require.Equal(t, contract.OutcomeCarriedOut, resultOf[contract.ReplayResult](t, env).Outcome)
	require.Contains(t, p.steps(), contract.ActivityCarryOut)
	for _, job := range p.jobs {
		require.Equal(t, p.jobs[0], job, "the same job")
	}
}

func TestReplayThatCannotBeCarriedOutFails(t *testing.T) {
	p := newPast().differs()
	p.answer = contract.CarriedOut{Problem: "the diff is gone"}
	env := pastEnv(p)
	ask[contract.ReplayReceipt](env, time.Minute, contract.UpdateApprove, "u1", approvalOf("c0ffee"))
	startPast(env, contract.ReplayInput{})
	require.ErrorContains(t, env.GetWorkflowError(), "publishing what differs of orders cannot be carried out: the diff is gone")
	require.Equal(t, contract.ActivityEndShadow, p.steps()[len(p.steps())-1])
}

func TestReplayRejected(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(env *testsuite.TestWorkflowEnvironment)
		says    string
		took    time.Duration
	}{
		"by somebody": {func(env *testsuite.TestWorkflowEnvironment) {
			ask[contract.ReplayReceipt](env, time.Minute, contract.UpdateReject, "u1", contract.RejectRequest{Reason: "a wrong spec"})
		}, "nothing was published: a wrong spec", time.Minute},
		"by silence": {func(*testsuite.TestWorkflowEnvironment) {}, "nobody approved it within 7d; nothing was published", 7 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPast().differs()
			env := pastEnv(p)
			c.prepare(env)
			startPast(env, contract.ReplayInput{})
			result := resultOf[contract.ReplayResult](t, env)
			require.Equal(t, contract.OutcomeRejected, result.Outcome)
			require.Equal(t, c.says, result.Note)
			require.Equal(t, readOnce, p.steps(), "the shadow is deleted")
			require.Empty(t, p.jobs)
			require.Equal(t, c.took, result.Ended.Sub(result.Began).Round(time.Minute))
			tellsItsEnd(t, *p.told)
		})
	}
}

// A day before silence counts as a rejection, a notice says so, where one looks first; and a pipeline that was started meanwhile
// hears of the replay within an hour.
func TestReplayReminds(t *testing.T) {
	p := newPast().differs()
	env := pastEnv(p)
	var notice contract.ReplayStatus
	env.RegisterDelayedCallback(func() { notice = statusOf[contract.ReplayStatus](t, env) },
		contract.DiffPatience-contract.DiffNotice+time.Minute)
	startPast(env, contract.ReplayInput{})
	require.Contains(t, notice.Note, "NOTICE: it is rejected at ")
	var noticed int
	for _, r := range *p.told {
		if r.State == contract.StateAsking && r.Note == notice.Note {
			noticed++
		}
	}
	require.InDelta(t, 24, noticed, 1)
	require.InDelta(t, 7*24, len(*p.told), 3)
}

func TestRecountCertifies(t *testing.T) {
	p := newPast()
	p.answer.Report.Counts = []contract.JobCount{{Outcome: contract.CarriedCertified, Windows: 3}}
	env := pastEnv(p)
	startPast(env, contract.ReplayInput{Recount: true})
	result := resultOf[contract.ReplayResult](t, env)
	require.Equal(t, contract.OutcomeCertified, result.Outcome)
	require.Equal(t, "nothing differs in 3 windows: 3 certified", result.Note)
	require.Len(t, p.jobs, 1)
	require.Equal(t, "replay:orders:fix-1/certify", p.jobs[0].ID)
	require.Empty(t, *p.told)
}

// A recount with a difference is an incident: it certifies what is equal, and keeps the rest until somebody decides.
func TestRecountThatDiffersIsAnIncident(t *testing.T) {
	p := newPast().differs()
	env := pastEnv(p)
	ask[contract.ReplayReceipt](env, time.Hour, contract.UpdateApprove, "u1", approvalOf("c0ffee"))
	startPast(env, contract.ReplayInput{Recount: true})
	require.Equal(t, contract.OutcomeCarriedOut, resultOf[contract.ReplayResult](t, env).Outcome)
	require.Equal(t, contract.JobCertify, p.jobs[0].Kind)
	require.Equal(t, contract.JobCorrections, p.jobs[1].Kind)
	conditions := contract.ChildConditions("orders", false, stateOf((*p.told)[0]))
	require.Equal(t, contract.ConditionRecountDiffers, conditions[0].Kind)
	require.Contains(t, conditions[0].Reason, "wrong: view")
	require.NotNil(t, resultOf[contract.ReplayResult](t, env).Certified)
}

// What a schedule starts is about the day before the time that it was meant for, however late it runs.
func TestRecountOfYesterday(t *testing.T) {
	for name, scheduled := range map[string]*time.Time{"by hand": nil, "by a schedule": new(time.Time)} {
		t.Run(name, func(t *testing.T) {
			p := newPast()
			env := pastEnv(p)
			now := time.Date(2026, 3, 4, 2, 30, 0, 0, time.UTC)
			env.SetStartTime(now)
			want := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC)
			if scheduled != nil {
				key := temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")
				require.NoError(t, env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(key.ValueSet(now.AddDate(0, 0, -2)))))
				want = want.AddDate(0, 0, -2)
			}
			startPast(env, contract.ReplayInput{Recount: true, Yesterday: true})
			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, want, p.plans[0].Ask.From)
			require.Equal(t, want.AddDate(0, 0, 1), p.plans[0].Ask.To)
		})
	}
}

func TestReplayIsSlowedDownWhileItReads(t *testing.T) {
	p := newPast()
	env := pastEnv(p)
	env.OnActivity(contract.ActivityReplayRange, anything, anything).After(time.Hour).Return(&p.summary, nil)
	rate, none := int64(100), int64(0)
	slow := ask[contract.ReplayReceipt](env, time.Minute, contract.UpdateSetRate, "r1", contract.SetRateRequest{RecordsPerSecond: &rate})
	bad := ask[contract.ReplayReceipt](env, 2*time.Minute, contract.UpdateSetRate, "r2", map[string]any{"records_per_second": "1k"})
	free := ask[contract.ReplayReceipt](env, 3*time.Minute, contract.UpdateSetRate, "r3", contract.SetRateRequest{RecordsPerSecond: &none})
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(contract.SignalReplayProgress, contract.ReplayProgress{
			Read: 250, Records: 1000, Rate: 100, Windows: 3, Done: 1, Worker: "w1",
			Lanes: []contract.ReplayLanePart{{ReplayLane: contract.ReplayLane{Topic: "orders", End: 1000}, Offset: 250, Rate: 100}},
		})
	}, 4*time.Minute)
	var reading contract.ReplayStatus
	env.RegisterDelayedCallback(func() { reading = statusOf[contract.ReplayStatus](t, env) }, 5*time.Minute)
	startPast(env, contract.ReplayInput{})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []int64{100, 0}, p.rates)
	require.EqualValues(t, 100, *slow.got.Rate)
	require.ErrorContains(t, bad.rejected, `records_per_second is "1k"; want whole records a second`)
	require.Zero(t, *free.got.Rate)
	require.Equal(t, contract.StateReading, reading.State)
	require.Equal(t, 25, reading.Progress.Percent())
	require.Equal(t, "25 % read, 250 of 1000 records at 100/s, 8s left; 1 of 3 windows compared", reading.Progress.String())
	require.Len(t, reading.Receipts, 2)
}

// A range that cannot be read is tried as often as the table of options says, and what stands in the way is shown meanwhile.
func TestReplayRangeIsTriedTwentyTimes(t *testing.T) {
	p := newPast()
	p.fail[contract.ActivityReplayRange] = func(int) error { return errRefusedConnection }
	env := pastEnv(p)
	var status contract.ReplayStatus
	env.RegisterDelayedCallback(func() { status = statusOf[contract.ReplayStatus](t, env) }, 2*time.Minute)
	startPast(env, contract.ReplayInput{})
	require.ErrorContains(t, env.GetWorkflowError(), "connection refused. See to that, then start it again under another id")
	require.Equal(t, 20, p.count[contract.ActivityReplayRange])
	require.Equal(t, 1, p.count[contract.ActivityEndShadow])
	require.Len(t, status.Pending, 1)
	require.Contains(t, status.Pending[0].Why, "connection refused")
}

func TestReplayThatIsRefusedHasNoShadow(t *testing.T) {
	p := newPast()
	p.fail[contract.ActivityPlanReplay] = func(int) error {
		return temporal.NewNonRetryableApplicationError("the log of orders/0 begins at 500; the earliest window possible is ...",
			contract.ErrorRefused, nil)
	}
	env := pastEnv(p)
	startPast(env, contract.ReplayInput{})
	require.ErrorContains(t, env.GetWorkflowError(), "the log of orders/0 begins at 500")
	require.Equal(t, contract.OutcomeFailed, statusOf[contract.ReplayStatus](t, env).Standing())
	require.Equal(t, readOnce[:2], p.steps())
}

// A worker that dies over the cancellation answers nothing any more: the replay is cancelled, not failed.
func TestReplayIsCancelledThoughItsWorkerIsGone(t *testing.T) {
	p := newPast()
	env := pastEnv(p)
	p.fail[contract.ActivityReplayRange] = func(int) error {
		env.CancelWorkflow()
		return temporal.NewHeartbeatTimeoutError()
	}
	startPast(env, contract.ReplayInput{})
	var cancelled *temporal.CanceledError
	require.ErrorAs(t, env.GetWorkflowError(), &cancelled)
	require.Contains(t, p.steps(), contract.ActivityEndShadow)
	ended := statusOf[contract.ReplayStatus](t, env)
	require.Equal(t, contract.StateDone, ended.State)
	require.Equal(t, contract.OutcomeCancelled, ended.Standing())
}

// Redis that is away in the end does not keep the workflow for ever, nor is a result lost.
func TestReplayWhoseShadowCannotBeDeleted(t *testing.T) {
	p := newPast()
	p.fail[contract.ActivityEndShadow] = func(int) error { return errRefusedConnection }
	env := pastEnv(p)
	startPast(env, contract.ReplayInput{})
	result := resultOf[contract.ReplayResult](t, env)
	require.Contains(t, result.Note, "the shadow was not deleted, which the next replay of the pipeline does: ")
	require.Less(t, result.Ended.Sub(result.Began), contract.EndPatience+2*time.Minute)
}

func TestReplayRefusesInput(t *testing.T) {
	ranged := func(with map[string]any) map[string]any {
		in := map[string]any{"pipeline": "orders", "from": firstDay, "to": firstDay.Add(time.Hour)}
		for k, v := range with {
			in[k] = v
		}
		return in
	}
	for says, in := range map[string]map[string]any{
		"pipeline is missing":                         {},
		`unknown field "dryrun"`:                      ranged(map[string]any{"dryrun": true}),
		"the range is missing":                        {"pipeline": "orders"},
		`workflow id is "replay:orders:fix-1"`:        ranged(map[string]any{"pipeline": "other"}),
		`the spec describes pipeline "orders2"`:       ranged(map[string]any{"spec": specNamed("orders2")}),
		"spec.source: missing":                        ranged(map[string]any{"spec": map[string]any{"name": "orders"}}),
		`recount: lateness is "late"; want "as-read"`: ranged(map[string]any{"recount": true, "lateness": "late"}),
	} {
		t.Run(says, func(t *testing.T) {
			p := newPast()
			env := pastEnv(p)
			env.ExecuteWorkflow(contract.WorkflowReplay, in)
			var refused *temporal.ApplicationError
			require.ErrorAs(t, env.GetWorkflowError(), &refused)
			require.True(t, refused.NonRetryable())
			if says != "spec.source: missing" {
				require.Contains(t, refused.Message(), says)
			}
			require.Empty(t, p.steps())
		})
	}
}

func specNamed(name string) map[string]any {
	var s map[string]any
	if err := json.Unmarshal([]byte(specJSON), &s); err != nil {
		panic(err)
	}
	s["name"] = name
	return s
}

func replayAgainSituations() []situation {
	in := func(p *past, activity string, in contract.ReplayInput, requests ...func(env *testsuite.TestWorkflowEnvironment)) beginning {
		return func(*testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env := pastEnv(p)
			if activity != "" {
				busy(env, activity)
			}
			for _, request := range requests {
				request(env)
			}
			return env, func() { startPast(env, in) }, func(t *testing.T) {
				if began := p.count[contract.ActivityReplayRange] > 0; began && activity != contract.ActivityEndShadow {
					require.Equal(t, 1, p.count[contract.ActivityEndShadow], "nothing of the shadow stays")
				}
			}
		}
	}
	approve := func(env *testsuite.TestWorkflowEnvironment) {
		ask[contract.ReplayReceipt](env, 30*time.Second, contract.UpdateApprove, "u1", approvalOf("c0ffee"))
	}
	silent, stopped := newPast().differs(), newPast().differs()
	silent.silent, stopped.open = true, false
	recount := newPast()
	recount.silent = true
	failing := newPast()
	failing.fail[contract.ActivityReplayRange] = func(int) error { return errors.New("no answer") }
	return []situation{
		{state: contract.StateSweeping, at: time.Minute, begin: in(newPast(), contract.ActivitySweepShadows, contract.ReplayInput{})},
		{state: contract.StatePlanning, at: time.Minute, begin: in(newPast(), contract.ActivityPlanReplay, contract.ReplayInput{})},
		{state: contract.StateReading, at: time.Minute, begin: in(newPast(), contract.ActivityReplayRange, contract.ReplayInput{})},
		{state: contract.StateReading, name: "between tries", at: 2 * time.Minute, begin: in(failing, "", contract.ReplayInput{})},
		{state: contract.StateAsking, at: time.Minute, begin: in(newPast().differs(), "", contract.ReplayInput{})},
		{state: contract.StateAsking, name: "shows a page", at: time.Minute, begin: in(newPast().differs(), contract.ActivityShowDiff,
			contract.ReplayInput{}, func(env *testsuite.TestWorkflowEnvironment) {
				ask[contract.DiffPage](env, 30*time.Second, contract.UpdateShowDiff, "u1", contract.ShowDiffRequest{Window: "hourly", Start: firstDay})
			})},
		{state: contract.StateCarryingOut, name: "waits for the closer", at: time.Minute, begin: in(silent, "", contract.ReplayInput{}, approve)},
		{state: contract.StateCarryingOut, name: "certifies", at: time.Minute, begin: in(recount, "", contract.ReplayInput{Recount: true})},
		{state: contract.StateCarryingOut, name: "by itself", at: time.Minute, begin: in(stopped, contract.ActivityCarryOut,
			contract.ReplayInput{}, approve)},
		{state: contract.StateEnding, at: time.Minute, begin: in(newPast(), contract.ActivityEndShadow, contract.ReplayInput{})},
		{state: contract.StateDone, ended: true, begin: in(newPast(), "", contract.ReplayInput{})},
	}
}
