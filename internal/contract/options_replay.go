package contract

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// Times of a Replay. docs/workflows.md gives the reason for each.
const (
	PlanPatience     = 10 * time.Minute    // how long a plan is tried
	ReadPatience     = 21 * 24 * time.Hour // how long a range is read, with all attempts
	DiffPatience     = 7 * 24 * time.Hour  // how long a diff waits for an approval
	DiffNotice       = 24 * time.Hour      // before the end of that, a notice says so
	RemindEvery      = time.Hour           // a pipeline that was started meanwhile learns what waits
	EndPatience      = time.Hour           // how long the shadow's keys are tried to be deleted
	EndAfterCancel   = 2 * time.Minute     // likewise, once the workflow is cancelled
	CarryOutAskFirst = time.Minute         // until a closer that has not answered is asked again
	CarryOutAskMost  = 10 * time.Minute    // which doubles up to this
	JobRest          = time.Minute         // until a closer whose jobs all fail goes on with the first of them
	CarryOutPatience = 24 * time.Hour      // how long an approved diff, or a certificate, is tried to be published
	RatePatience     = 30 * time.Second    // how long a change of the rate is tried
	ReplayProgressAt = 5 * time.Second     // at most one report of progress in this time
	ReplayWaitsAt    = 10 * time.Minute    // likewise, of one that says only what is waited for
)

// ReplayRangeOptions are for ReplayRange: each attempt goes on from what the shadow has committed.
func ReplayRangeOptions() workflow.ActivityOptions {
	o := shadowOptions(24 * time.Hour)
	o.RetryPolicy.MaximumAttempts = 20
	o.ScheduleToCloseTimeout = ReadPatience
	return o
}

// PlanReplayOptions are for PlanReplay, which reads and asks only.
func PlanReplayOptions() workflow.ActivityOptions { return shadowOptions(30 * time.Minute) }

// EndShadowOptions are for SweepShadows and EndShadow.
func EndShadowOptions() workflow.ActivityOptions { return shadowOptions(30 * time.Minute) }

// CarryOutOptions are for CarryOut: it goes on from what stands in the ledger.
func CarryOutOptions() workflow.ActivityOptions {
	o := shadowOptions(24 * time.Hour)
	o.RetryPolicy = retry(time.Second, time.Minute)
	return o
}

// ShadowAskOptions are for SetReplayRate and ShowDiff: somebody waits for the answer.
func ShadowAskOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second, ScheduleToCloseTimeout: RatePatience,
		RetryPolicy: retry(500*time.Millisecond, 5*time.Second),
	}
}

func shadowOptions(limit time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: limit,
		HeartbeatTimeout:    30 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         retry(time.Second, time.Minute),
	}
}
