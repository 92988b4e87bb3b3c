package lane

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"millrace/pipeline/store"
)

// What an operator may choose for a parked lane.
const (
	ChoiceWait    = "wait"    // stay parked
	ChoiceSkip    = "skip"    // go on behind the records that are gone
	ChoiceRebuild = "rebuild" // read again from where the oldest open slice began
	ChoiceRestart = "restart" // begin at the log's start with nothing
	ChoiceRetry   = "retry"   // try again, giving nothing up
	ChoiceAccept  = "accept"  // take the next event that jumps
	ChoiceRefuse  = "refuse"  // go on refusing events that jump
)

// Unknown is a cost that nobody can tell.
const Unknown = -1

// Choice is one way out of an incident and what it costs.
type Choice struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Lost   int64  `json:"lost"`   // records, Unknown when nobody can tell
	Reread int64  `json:"reread"` // offsets that are read again
	Exact  bool   `json:"exact"`  // but for Lost the lane ends as one that was never disturbed
}

// Decision is an operator's answer to an incident.
type Decision struct {
	Incident string    `json:"incident"` // its id
	Kind     string    `json:"kind"`
	Choice   string    `json:"choice"`
	From     int64     `json:"from"` // of the incident
	To       int64     `json:"to"`
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at"`
	Lost     int64     `json:"lost"`           // as it turned out
	Start    int64     `json:"start"`          // where reading goes on, -1 while that is open
	Void     string    `json:"void,omitempty"` // why it was not carried out
}

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

// Decide answers the incident that the lane is parked for; incident is its id or the lane's owner token. The lane carries
// the decision out in its own goroutine. Errors do not name choice and lane: who asks knows both. Repeating a decision
// changes nothing. It may be called from any goroutine.
func (l *Lane) Decide(incident, choice, by string) error {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	if last := l.lastDecision(); last != nil && last.Choice != ChoiceWait && (incident == last.Incident || incident == string(l.decidedUnder)) {
		if last.Choice == choice {
			return nil
		}
		return fmt.Errorf("%w: %s by %q", ErrDecided, last.Choice, last.By)
	}
	s := l.status.Load()
	inc := s.Incident
	switch {
	case s.State != StateParked || inc == nil:
		return fmt.Errorf("%w, it is %s", ErrNotParked, s.State)
	case incident != inc.ID && (s.Owner == "" || incident != string(s.Owner)):
		return fmt.Errorf("%w: %s, not %q", ErrOtherIncident, inc.ID, incident)
	}
	names := make([]string, len(inc.Choices))
	for i, c := range inc.Choices {
		names[i] = c.Name
		if c.Name != choice {
			continue
		}
		if n := len(l.decisions); n == keptDecisions {
			l.decisions = append(l.decisions[:0:0], l.decisions[1:]...)
		}
		l.decisions = append(l.decisions[:len(l.decisions):len(l.decisions)], Decision{
			Incident: inc.ID, Kind: inc.Kind, Choice: choice, From: inc.From, To: inc.To, By: by, At: time.Now(), Lost: c.Lost, Start: -1,
		})
		l.decidedUnder = s.Owner
		l.deps.Log.Info("operator decided", "lane", l.id.String(), "incident", inc.ID, "choice", choice, "by", by)
		if choice != ChoiceWait {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
		return nil
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: incident %s leaves none", ErrUnknownChoice, inc.Kind)
	}
	return fmt.Errorf("%w %q; want one of %s", ErrUnknownChoice, choice, strings.Join(names, ", "))
}

func (l *Lane) lastDecision() *Decision {
	if n := len(l.decisions); n > 0 {
		return &l.decisions[n-1]
	}
	return nil
}

// open returns the decision that waits to be carried out, nil when there is none.
func (l *Lane) open() *Decision {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	if last := l.lastDecision(); last != nil && last.Choice != ChoiceWait && last.Start < 0 && last.Void == "" {
		d := *last
		return &d
	}
	return nil
}

// settled records what became of the open decision.
func (l *Lane) settled(d Decision) {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	l.decisions = append(l.decisions[:len(l.decisions)-1:len(l.decisions)-1], d)
}

// due returns the open decision if it is to be carried out now, at an acquisition that found inc and meta. A decision that there
// is nothing to do about is settled: its incident is gone, or it was to try again and that has been done.
func (l *Lane) due(inc *Incident, meta store.Meta) *Decision {
	d := l.open()
	switch {
	case d == nil:
		return nil
	case d.Choice == ChoiceRetry && inc == nil:
		d.Lost, d.Start = 0, max(0, meta.Offset)
	case d.Choice == ChoiceRetry:
		d.Void = "it was tried again, and the cause is still there"
	case inc != nil && inc.Kind == d.Kind:
		return d
	case inc == nil && d.skipsUnreadable() && meta.Offset < d.From:
		return nil // the lane reads up to there first
	case inc == nil && d.skipsUnreadable() && meta.Offset < d.To:
		return d
	default:
		d.Void = "the incident is gone"
	}
	l.settled(*d)
	return nil
}

// skipsUnreadable reports whether the decision gives up records that the reader cannot decode.
func (d *Decision) skipsUnreadable() bool {
	return d.Kind == IncidentUndecoded && d.Choice == ChoiceSkip
}
