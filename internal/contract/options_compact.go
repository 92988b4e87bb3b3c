package contract

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// Times of a Compact. docs/workflows.md gives the reason for each.
const (
	CompactTimeout      = 6 * time.Hour     // of a run, which a schedule gives it
	CompactPatience     = 350 * time.Minute // after which a run gives up by itself, to be able to say so
	CompactPlanPatience = 5 * time.Minute   // how long it looks for the pipeline
	StockPatience       = 5 * time.Minute   // how long it tries to count what is kept
	CompactCatchUp      = time.Hour         // runs that were missed for no longer are made up for
	CompactEvery        = time.Hour         // of a schedule that says nothing else
	CompactJitter       = time.Minute       // likewise
	ScheduleEndPatience = 2 * time.Minute   // how long a Remove waits for runs under way to end
)

// PlanCompactOptions are for PlanCompact, which asks Temporal only.
func PlanCompactOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: retry(time.Second, time.Minute)}
}

// TakeStockOptions are for TakeStock, which reads the ledger.
func TakeStockOptions() workflow.ActivityOptions { return shadowOptions(StockPatience) }
