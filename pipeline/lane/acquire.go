package lane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// Steps of an acquisition, in their order. A journal is applied to Redis before memory is built, so that memory has one
// source.
const (
	StepAcquire = "acquire" // take the lane over: every former owner is fenced
	StepJournal = "journal" // bring home what the last owner wrote while Redis was away
	StepRestore = "restore" // build memory from Redis
	StepVerify  = "verify"  // compare the committed position with the log and the group
	StepResume  = "resume"  // read on
)

// Steps lists them in order.
var Steps = [...]string{StepAcquire, StepJournal, StepRestore, StepVerify, StepResume}

// Who runs a step.
const (
	ByInline   = "inline"
	ByTemporal = "temporal"
)

// What an acquisition came to.
const (
	OutcomeResumed = "resumed"
	OutcomeParked  = "parked"
	OutcomeGone    = "gone" // the lane was revoked or taken over before it resumed
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
	Incident  *Incident
	Committed int64
	LogEnd    int64 // broker's high watermark as last heard, -1 before
}

// StepResult is what one step did. Offsets are -1 where the step does not know them.
type StepResult struct {
	Lane      string               `json:"lane"`
	Step      string               `json:"step"`
	Epoch     int64                `json:"epoch"` // of the acquisition's token
	From      int64                `json:"from"`  // epoch of the owner before, 0 when there was none
	Slices    int                  `json:"slices,omitempty"`
	Entries   int64                `json:"entries,omitempty"`
	Bytes     int64                `json:"bytes,omitempty"`
	Committed int64                `json:"committed"` // as Redis has it
	Start     int64                `json:"start"`     // where reading goes on
	LogStart  int64                `json:"log_start"`
	LogEnd    int64                `json:"log_end"`
	Reread    int64                `json:"reread"` // offsets from Start on that were read before
	Journal   *report.SettledChain `json:"journal,omitempty"`
	Decision  *Decision            `json:"decision,omitempty"` // of the operator, carried out in this step
	Tries     int                  `json:"tries"`
	Started   time.Time            `json:"started,omitzero"` // of the last try
	Ms        float64              `json:"ms"`               // of all tries
	By        string               `json:"by,omitempty"`
	Error     string               `json:"error,omitempty"` // of the last try, also of one that is tried again
	Incident  *Incident            `json:"incident,omitempty"`
	Done      bool                 `json:"done"`
}

// Acquisition is a lane on its way from being claimed to reading on. The lane's goroutine runs the steps; anybody may
// look on. Safe for concurrent use.
type Acquisition struct {
	id store.LaneID

	mu      sync.Mutex
	token   store.Token
	steps   [len(Steps)]StepResult
	outcome string
	changed chan struct{} // closed at every change
}

func newAcquisition(id store.LaneID) *Acquisition {
	a := &Acquisition{id: id, changed: make(chan struct{})}
	for i, step := range Steps {
		a.steps[i] = StepResult{Lane: id.String(), Step: step, Committed: -1, Start: -1, LogStart: -1, LogEnd: -1}
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

// Results returns what every step has done so far, and the outcome, "" before there is one.
func (a *Acquisition) Results() (steps [len(Steps)]StepResult, outcome string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.steps, a.outcome
}

// Result waits for a step of the acquisition that took token ("" for one that has taken none yet) and returns what it
// did; asking again gives the same answer. ErrStaleStep: the acquisition has another token by now, or ended before the
// step.
func (a *Acquisition) Result(ctx context.Context, token store.Token, step string) (StepResult, error) {
	i := stepIndex(step)
	if i < 0 {
		return StepResult{}, fmt.Errorf("step %q is unknown; want one of %v", step, Steps)
	}
	for first := true; ; first = false {
		a.mu.Lock()
		res, now, outcome, changed := a.steps[i], a.token, a.outcome, a.changed
		a.mu.Unlock()
		switch {
		case first && now != token:
			return res, fmt.Errorf("step %s of lane %s under token %q: %w: the token is %q", step, a.id, token, ErrStaleStep, now)
		case res.Done:
			return res, nil
		case outcome != "":
			return res, fmt.Errorf("step %s of lane %s: %w: the lane is %s", step, a.id, ErrStaleStep, outcome)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return res, ctx.Err()
		}
	}
}

func stepIndex(step string) int {
	for i, name := range Steps {
		if name == step {
			return i
		}
	}
	return -1
}

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
	by, done := ByInline, func() {}
	if l.deps.Gate != nil {
		by, done = l.deps.Gate.Admit(ctx, a, name)
	}
	defer done()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if name == StepRestore {
		l.now.State = StateRestoring
		l.publish()
	}
	began := time.Now()
	res := a.steps[i] // this goroutine alone writes
	res.By, res.Started, res.Error = by, began, ""
	res.Tries++
	err := fn(&res)
	l.now.Restored = l.restored
	res.Ms += float64(time.Since(began).Microseconds()) / 1000
	res.Done = err == nil
	if err != nil {
		res.Error = err.Error()
		var inc *Incident
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
func (l *Lane) concluded(outcome string) {
	l.acquisition.change(func() { l.acquisition.outcome = outcome })
	if l.deps.Gate != nil {
		l.deps.Gate.Ended(l.acquisition)
	}
}
