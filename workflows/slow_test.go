package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// slowEnding is how long an activity that is waited for takes to end after it was cancelled.
const slowEnding = 100 * time.Millisecond

// likeAServer makes the test environment behave as a server does where it is too kind: an activity whose cancellation is
// waited for answers some time after the request. Workflow code that spins is a panic, and so is a timer or an activity that
// does not say what it is for.
func likeAServer(env *testsuite.TestWorkflowEnvironment) {
	env.SetWorkerOptions(worker.Options{
		DeadlockDetectionTimeout: contract.DeadlockTimeout,
		Interceptors:             []interceptor.WorkerInterceptor{&slowInterceptor{}},
	})
}

type slowInterceptor struct {
	interceptor.WorkerInterceptorBase
}

func (*slowInterceptor) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor,
) interceptor.WorkflowInboundInterceptor {
	i := new(slowInbound)
	i.Next = next
	return i
}

type slowInbound struct {
	interceptor.WorkflowInboundInterceptorBase
}

func (i *slowInbound) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	o := new(slowOutbound)
	o.Next = outbound
	return i.Next.Init(o)
}

// mostInVain is how many timers and activities a workflow may make on a cancelled context: they end at once, so a loop that
// goes on making them never blocks.
const mostInVain = 50

type slowOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	inVain int
}

// notInVain panics when a workflow spins. The deadlock detector would find it too, some seconds and gigabytes later.
func (o *slowOutbound) notInVain(ctx workflow.Context) {
	if ctx.Err() == nil {
		return
	}
	if o.inVain++; o.inVain > mostInVain {
		panic(fmt.Sprintf("the workflow spins: %d timers and activities made on a cancelled context", o.inVain))
	}
}

func (o *slowOutbound) NewTimer(ctx workflow.Context, d time.Duration) workflow.Future {
	return o.NewTimerWithOptions(ctx, d, workflow.TimerOptions{})
}

func (o *slowOutbound) NewTimerWithOptions(ctx workflow.Context, d time.Duration, options workflow.TimerOptions) workflow.Future {
	o.notInVain(ctx)
	said(options.Summary, "a timer")
	return o.Next.NewTimerWithOptions(ctx, d, options)
}

func (o *slowOutbound) Sleep(ctx workflow.Context, d time.Duration) error {
	return o.NewTimer(ctx, d).Get(ctx, nil)
}

func (o *slowOutbound) AwaitWithTimeout(ctx workflow.Context, d time.Duration, condition func() bool) (bool, error) {
	return o.AwaitWithOptions(ctx, workflow.AwaitOptions{Timeout: d}, condition)
}

func (o *slowOutbound) AwaitWithOptions(ctx workflow.Context, options workflow.AwaitOptions, condition func() bool) (bool, error) {
	o.notInVain(ctx)
	said(options.TimerOptions.Summary, "a timer")
	return o.Next.AwaitWithOptions(ctx, options, condition)
}

// said panics when a person who reads the history would not learn what the workflow waits for.
func said(text, what string) {
	if text == "" || len(text) > maxSummary {
		panic(fmt.Sprintf("%s needs a summary of 1 to %d bytes; it has %q", what, maxSummary, text))
	}
}

// ExecuteActivity starts an activity whose cancellation is waited for under a context that is cancelled some time after ctx.
func (o *slowOutbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	o.notInVain(ctx)
	said(workflow.GetActivityOptions(ctx).Summary, "activity "+name)
	if !workflow.GetActivityOptions(ctx).WaitForCancellation {
		return o.Next.ExecuteActivity(ctx, name, args...)
	}
	lasting, cancel := workflow.NewDisconnectedContext(ctx)
	future := o.Next.ExecuteActivity(lasting, name, args...)
	workflow.Go(lasting, func(lasting workflow.Context) {
		ended := workflow.NewSelector(lasting)
		ended.AddFuture(future, func(workflow.Future) {})
		cancelled := false
		ended.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) { cancelled = true })
		ended.Select(lasting)
		if cancelled {
			_ = pause(lasting, slowEnding, "an activity takes its time to end")
			cancel()
		}
	})
	return future
}
