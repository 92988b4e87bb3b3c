package lane

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

var (
	// ErrNotParked refuses a decision about a lane that waits for none.
	ErrNotParked = errors.New("lane is not parked")
	// ErrOtherIncident refuses a decision about an incident that is not the lane's.
	ErrOtherIncident = errors.New("lane is parked for another incident")
	// ErrUnknownChoice refuses what is not among the incident's choices.
	ErrUnknownChoice = errors.New("unknown choice")
	// ErrDecided refuses a second, different decision about an incident.
	ErrDecided = errors.New("incident is decided already")

	errDecided  = errors.New("the operator has decided")
	errNotWhole = errors.New("the lane's state is not whole")
)

// keptDecisions is how many decisions a lane remembers.
const keptDecisions = 10

// Decisions are what operators have decided about a lane, the latest last. Safe for concurrent use: mu guards both fields.
type Decisions struct {
	mu    sync.Mutex
	made  []report.Decision
	under store.Token // owner when the last one was made
}

// Decide answers the incident inc that the lane is parked for under owner, nil when it is not parked; incident is the
// incident's id or the owner. It reports whether the decision is new and has to be carried out: repeating one changes
// nothing. Errors do not name choice and lane: who asks knows both.
func (d *Decisions) Decide(inc *report.Incident, owner store.Token, incident, choice, by string, at time.Time) (carryOut bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := d.last(); last != nil && last.Choice != report.ChoiceWait && (incident == last.Incident || incident == string(d.under)) {
		if last.Choice == choice {
			return false, nil
		}
		return false, fmt.Errorf("%w: %s by %q", ErrDecided, last.Choice, last.By)
	}
	switch {
	case inc == nil:
		return false, ErrNotParked
	case incident != inc.ID && (owner == "" || incident != string(owner)):
		return false, fmt.Errorf("%w: %s, not %q", ErrOtherIncident, inc.ID, incident)
	}
	names := make([]string, len(inc.Choices))
	for i, c := range inc.Choices {
		names[i] = c.Name
		if c.Name != choice {
			continue
		}
		if n := len(d.made); n == keptDecisions {
			d.made = append(d.made[:0:0], d.made[1:]...)
		}
		d.made = append(d.made[:len(d.made):len(d.made)], report.Decision{
			Incident: inc.ID, Kind: inc.Kind, Choice: choice, From: inc.From, To: inc.To, By: by, At: at, Lost: c.Lost, Start: -1,
		})
		d.under = owner
		return choice != report.ChoiceWait, nil
	}
	if len(names) == 0 {
		return false, fmt.Errorf("%w: incident %s leaves none", ErrUnknownChoice, inc.Kind)
	}
	return false, fmt.Errorf("%w %q; want one of %s", ErrUnknownChoice, choice, strings.Join(names, ", "))
}

// Decide answers the incident that the lane is parked for; incident is its id or the lane's owner token. The lane carries
// the decision out in its own goroutine. It may be called from any goroutine.
func (l *Lane) Decide(incident, choice, by string) error {
	s := l.status.Load()
	inc := s.Incident
	if s.State != StateParked {
		inc = nil
	}
	carryOut, err := l.decisions.Decide(inc, s.Owner, incident, choice, by, time.Now())
	if errors.Is(err, ErrNotParked) {
		err = fmt.Errorf("%w, it is %s", err, s.State)
	}
	if err == nil && (carryOut || choice == report.ChoiceWait) {
		l.deps.Log.Info("operator decided", "lane", l.id.String(), "incident", inc.ID, "choice", choice, "by", by)
	}
	if carryOut {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return err
}

// list returns what was decided. Nobody changes it any more.
func (d *Decisions) list() []report.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made
}

func (d *Decisions) last() *report.Decision {
	if n := len(d.made); n > 0 {
		return &d.made[n-1]
	}
	return nil
}

// open returns the decision that waits to be carried out, nil when there is none.
func (d *Decisions) open() *report.Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := d.last(); last != nil && last.Choice != report.ChoiceWait && last.Start < 0 && last.Void == "" {
		o := *last
		return &o
	}
	return nil
}

// record says what became of the open decision.
func (d *Decisions) record(o report.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made = append(d.made[:len(d.made)-1:len(d.made)-1], o)
}

// due returns the open decision if it is to be carried out now, at an acquisition that found inc and meta. A decision that
// there is nothing to do about is recorded as done or void: its incident is gone, or it was to try again and that has been
// done.
func (d *Decisions) due(inc *report.Incident, meta store.Meta) *report.Decision {
	o := d.open()
	switch {
	case o == nil:
		return nil
	case o.Choice == report.ChoiceRetry && inc == nil:
		o.Lost, o.Start = 0, max(0, meta.Offset)
	case o.Choice == report.ChoiceRetry:
		o.Void = "it was tried again, and the cause is still there"
	case inc != nil && inc.Kind == o.Kind:
		return o
	case inc == nil && skipsUnreadable(o) && meta.Offset < o.From:
		return nil // the lane reads up to there first
	case inc == nil && skipsUnreadable(o) && meta.Offset < o.To:
		return o
	default:
		o.Void = "the incident is gone"
	}
	d.record(*o)
	return nil
}

// skipsUnreadable reports whether the decision gives up records that the reader cannot decode.
func skipsUnreadable(d *report.Decision) bool {
	return d.Kind == report.IncidentUndecoded && d.Choice == report.ChoiceSkip
}
