package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// ErrStaleStep refuses a step that was asked of an acquisition which is over, or of another one than the lane's latest.
var ErrStaleStep = errors.New("step belongs to an acquisition that is over")

// Gate admits acquisitions to their steps.
type Gate interface {
	// Admit waits until somebody lets the acquisition run a step, and says who; done is called when the step has run. It
	// returns when ctx ends.
	Admit(ctx context.Context, a *Acquisition, step string) (by string, done func())
	// Ended is told that nothing more comes: the acquisition has an outcome.
	Ended(a *Acquisition)
	// Parked is told of a lane that had resumed and has parked since. It does not block.
	Parked(p Parking)
}

// Parking is a lane that had resumed and has parked since. No step is left to be run for it: it waits for a decision.
type Parking struct {
	Lane      store.LaneID
	Token     store.Token // under which it ran
	Incident  *report.Incident
	Committed int64
	LogEnd    int64 // broker's high watermark as last heard, -1 before
}

// StepResult is what one step did. Offsets are -1 where the step does not know them. Took is of all tries, By and Began are of the
// last one.
type StepResult struct {
	report.StepTime
	Epoch     int64 // of the acquisition's token
	From      int64 // epoch of the owner before, 0 when there was none
	Slices    int
	Entries   int64
	Bytes     int64
	Committed int64 // as Redis has it
	Start     int64 // where reading goes on
	LogStart  int64
	LogEnd    int64
	Reread    int64 // offsets from Start on that were read before
	Journal   *report.SettledChain
	Decision  *report.Decision // of the operator, carried out in this step
	Tries     int
	Error     string // of the last try, also of one that is tried again
	Incident  *report.Incident
	Done      bool
}

// Acquisition is a lane on its way from being claimed to reading on. The lane's goroutine runs the steps; anybody may
// look on. Safe for concurrent use.
type Acquisition struct {
	id store.LaneID

	mu      sync.Mutex
	token   store.Token
	steps   []StepResult  // in the order of report.Steps
	state   string        // report.LaneRecovering until it has an outcome
	changed chan struct{} // closed at every change
}

func newAcquisition(id store.LaneID) *Acquisition {
	a := &Acquisition{id: id, state: report.LaneRecovering, changed: make(chan struct{})}
	for _, step := range report.Steps() {
		a.steps = append(a.steps, StepResult{StepTime: report.StepTime{Step: step}, Committed: -1, Start: -1, LogStart: -1, LogEnd: -1})
	}
	return a
}

// Lane is whose acquisition it is.
func (a *Acquisition) Lane() store.LaneID { return a.id }

// Token is the owner token that was taken, "" before the first step.
func (a *Acquisition) Token() store.Token {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token
}

// Results returns what every step has done so far, and what the acquisition came to: report.LaneRecovering before it has an
// outcome, then LaneRunning, LaneParked or, for a lane that was revoked or taken over before it resumed, LaneSuperseded.
func (a *Acquisition) Results() (steps []StepResult, state string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.steps), a.state
}

// Result waits for a step of the acquisition that took token ("" for one that has taken none yet) and returns what it
// did; asking again gives the same answer. ErrStaleStep: the acquisition has another token by now, or ended before the
// step.
func (a *Acquisition) Result(ctx context.Context, token store.Token, step string) (StepResult, error) {
	i := stepIndex(step)
	if i < 0 {
		return StepResult{}, fmt.Errorf("step %q is unknown; want one of %v", step, report.Steps())
	}
	for first := true; ; first = false {
		a.mu.Lock()
		res, now, state, changed := a.steps[i], a.token, a.state, a.changed
		a.mu.Unlock()
		switch {
		case first && now != token:
			return res, fmt.Errorf("step %s of lane %s under token %q: %w: the token is %q", step, a.id, token, ErrStaleStep, now)
		case res.Done:
			return res, nil
		case state != report.LaneRecovering:
			return res, fmt.Errorf("step %s of lane %s: %w: the lane is %s", step, a.id, ErrStaleStep, state)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
}

// stepIndex is the place of a step among all of them, -1 for one that there is not.
func stepIndex(step string) int { return slices.Index(report.Steps(), step) }

func (a *Acquisition) change(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
	close(a.changed)
	a.changed = make(chan struct{})
}

// step runs one step when it is admitted, and records what it did. An error that will be tried again leaves the step open.
func (l *Lane) step(ctx context.Context, name string, fn func(*StepResult) error) error {
	a, i := l.acquisition, stepIndex(name)
	by, done := report.ByInline, func() {}
	if l.deps.Gate != nil {
		by, done = l.deps.Gate.Admit(ctx, a, name)
	}
	defer done()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if name == report.StepRestore {
		l.now.State = StateRestoring
		l.publish()
	}
	began := time.Now()
	res := a.steps[i] // this goroutine alone writes
	res.By, res.Began, res.Error = by, began, ""
	res.Tries++
	err := fn(&res)
	l.now.Restored = l.restored
	took := time.Since(began)
	res.Took += took.Microseconds()
	if res.Done = err == nil; res.Done {
		l.deps.measure().Step(name).Observe(took)
	}
	if err != nil {
		res.Error = err.Error()
		var inc *report.Incident
		if errors.As(err, &inc) {
			res.Incident, res.Done = inc, true
		}
	}
	a.change(func() {
		a.token = l.token
		res.Epoch = l.token.Epoch()
		a.steps[i] = res
	})
	return err
}

// concluded gives the acquisition its outcome.
func (l *Lane) concluded(state string) {
	l.acquisition.change(func() { l.acquisition.state = state })
	if l.deps.Gate != nil {
		l.deps.Gate.Ended(l.acquisition)
	}
}
