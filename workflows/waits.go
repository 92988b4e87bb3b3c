package workflows

import (
	"slices"
	"time"
	"unicode/utf8"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// waits is what a workflow waits for, oldest first. The status query and the current details show it.
type waits struct {
	list []*waiting
	show func(workflow.Context)
}

// waiting is one of them. What it waits for may become less meanwhile: what, where it is not nil, says what it is now.
type waiting struct {
	contract.Pending
	what func() string
}

// begin adds a wait.
func (w *waits) begin(ctx workflow.Context, wait contract.Pending, what func() string) *waiting {
	wait.Since = workflow.Now(ctx)
	begun := &waiting{wait, what}
	w.list = append(w.list, begun)
	w.show(ctx)
	return begun
}

// end takes a wait away.
func (w *waits) end(ctx workflow.Context, ended *waiting) {
	w.list = slices.DeleteFunc(w.list, func(other *waiting) bool { return other == ended })
	w.show(ctx)
}

// now is the list as it is to be shown.
func (w *waits) now() []contract.Pending {
	list := make([]contract.Pending, len(w.list))
	for i, begun := range w.list {
		list[i] = begun.Pending
		if begun.what != nil {
			list[i].For = begun.what()
		}
	}
	return list
}

// step is an activity that is carried out until it succeeds.
type step struct {
	activity any
	options  workflow.ActivityOptions
	wait     contract.Pending
	patience time.Duration // after which the latest failure is the answer; 0 is no bound
	tries    int           // after which it is, too; 0 is no bound
	once     bool          // one try, as long as its options let it go on: what histories of v0.3 hold
}

// try carries a step out: again and again until it succeeds, fails for good, ctx is cancelled or its patience is over. An
// activity that Temporal retries by itself does not tell the workflow why it fails; a try here ends after a few attempts, and
// the wait says why it did.
func (w *waits) try(ctx workflow.Context, s step, in, out any) error {
	began := workflow.Now(ctx)
	if s.patience > 0 {
		until := began.Add(s.patience)
		s.wait.Until = &until
	}
	if s.options.Summary == "" {
		s.options.Summary = summary(s.wait.For)
	}
	wait := w.begin(ctx, s.wait, nil)
	defer func() { w.end(ctx, wait) }()
	for n := 0; ; n++ {
		left := time.Duration(0)
		if s.patience > 0 {
			left = s.patience - workflow.Now(ctx).Sub(began)
		}
		options := s.options
		if !s.once {
			options = contract.TryOptions(options, n, left)
		}
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), s.activity, in).Get(ctx, out)
		if err == nil || ctx.Err() != nil || isFinal(err) || s.once {
			return err
		}
		// A failure in the last moments is the last one: the next attempt would have no time.
		if s.patience > 0 && workflow.Now(ctx).Sub(began) >= s.patience-time.Second || n+1 == s.tries {
			return err
		}
		wait.Why = failureText(err)
		w.show(ctx)
	}
}

// maxSummary bounds a summary; Temporal refuses longer ones.
const maxSummary = 200

// summary is text as Temporal takes it for activities and timers. Where it is cut, it says so.
func summary(text string) string {
	if len(text) <= maxSummary {
		return text
	}
	const more = "..."
	end := maxSummary - len(more)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}

// pause waits for d under a timer that says what for.
func pause(ctx workflow.Context, d time.Duration, what string) error {
	return workflow.NewTimerWithOptions(ctx, d, workflow.TimerOptions{Summary: summary(what)}).Get(ctx, nil)
}

// awaitFor waits until the condition holds, at most for d, under a timer that says what for.
func awaitFor(ctx workflow.Context, d time.Duration, what string, condition func() bool) (bool, error) {
	return workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout: d, TimerOptions: workflow.TimerOptions{Summary: summary(what)},
	}, condition)
}
