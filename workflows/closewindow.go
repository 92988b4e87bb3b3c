package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// CloseWindow closes one window that could not be closed with the others. It tries for ever and ends when the window is closed, on
// a stop signal, on cancellation, and when it fails while the pipeline's workflow is closed.
func CloseWindow(ctx workflow.Context, in contract.CloseWindowInput) (*contract.CloseWindowResult, error) {
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, func() (*contract.CloseWindowStatus, error) {
		return &contract.CloseWindowStatus{Pipeline: in.Pipeline, Window: in.Window, Problem: in.Problem}, nil
	}, workflow.QueryHandlerOptions{Description: "the window and why it has a workflow of its own"}); err != nil {
		return nil, err
	}
	workflow.SetCurrentDetails(ctx, fmt.Sprintf("%s of **%s** could not be closed with the others: %s\n\nIt is tried again, at least "+
		"every five minutes; the pending activity shows the latest failure.", in.Window, in.Pipeline, in.Problem))
	work, cancel := workflow.WithCancel(ctx)
	var stop stopper
	stop.watch(ctx, cancel)
	options := contract.CloseOneOptions()
	options.Summary = summary(blockedText(in.Window, in.Problem))
	var closing *activities.Closing
	var closed contract.CloseOneResult
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(work, options), closing.CloseOne,
		contract.CloseOneInput{Spec: in.Spec, Window: in.Window}).Get(work, &closed)
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	up := parent{id: contract.CloseWindowsID(in.Pipeline)}
	switch {
	case err == nil && closed.Gone:
		up.tellEnd(lasting, "the pipeline's workflow is closed")
		return &contract.CloseWindowResult{Outcome: contract.OutcomePipelineGone}, nil
	case err == nil:
		up.tellEnd(lasting, "closed")
		return &contract.CloseWindowResult{Outcome: contract.OutcomeClosed, Closed: &closed.Closed}, nil
	case stop.asked:
		up.tellEnd(lasting, stop.reason)
		return &contract.CloseWindowResult{Outcome: contract.OutcomeStopped}, ctx.Err()
	}
	up.tellEnd(lasting, endText(err))
	return nil, err
}

// blockedText says in a summary that a window cannot be closed, and why.
func blockedText(ref report.WindowRef, problem string) string {
	return fmt.Sprintf("%s is blocked: %s", ref, strings.TrimPrefix(problem, "incident "))
}
