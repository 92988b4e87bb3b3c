package report

import (
	"fmt"
	"time"
)

// Kinds of incidents. A lane with an incident parks: it holds its claim, reports, and touches nothing until it is
// revoked or the operator decides.
const (
	IncidentGap        = "gap"        // the log was trimmed past the committed offset
	IncidentTruncated  = "truncated"  // the log ends before the committed offset
	IncidentOtherLog   = "other-log"  // the topic was deleted and made again
	IncidentStateLost  = "state-lost" // Redis lacks all, or a part, of the state of a lane that has committed before
	IncidentJump       = "jump"       // too many events in a row would move the watermark too far
	IncidentOtherSpec  = "other-spec" // the stored state belongs to a spec that computes something else
	IncidentFormat     = "format"     // the stored state is of a format this version cannot read
	IncidentUndecoded  = "undecodable"
	IncidentCorrupt    = "corrupt-state"
	IncidentReaderLost = "reader-failed"
)

// What an operator may choose for a parked lane, beside ChoiceWait.
const (
	ChoiceSkip    = "skip"    // go on behind the records that are gone
	ChoiceRebuild = "rebuild" // read again from where the oldest open slice began
	ChoiceRestart = "restart" // begin at the log's start with nothing
	ChoiceRetry   = "retry"   // try again, giving nothing up
	ChoiceAccept  = "accept"  // take the next event that jumps
	ChoiceRefuse  = "refuse"  // go on refusing events that jump
)

// UnknownCost is a cost that nobody can tell.
const UnknownCost = -1

// Incident says why a lane is parked and what can be done.
type Incident struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	From    int64    `json:"from"` // first offset concerned, -1 when no range is
	To      int64    `json:"to"`   // first offset no longer concerned, -1 when no range is
	Detail  string   `json:"detail"`
	Choices []Choice `json:"choices,omitempty"`
	Decided string   `json:"decided,omitempty"` // the choice made
}

// Error is one line that says what happened and what can be done.
func (i *Incident) Error() string {
	if i.From >= 0 {
		return fmt.Sprintf("incident %s, offsets [%d, %d): %s", i.Kind, i.From, i.To, i.Detail)
	}
	return fmt.Sprintf("incident %s: %s", i.Kind, i.Detail)
}

// Choice returns the incident's choice of that name.
func (i *Incident) Choice(name string) (Choice, bool) {
	for _, c := range i.Choices {
		if c.Name == name {
			return c, true
		}
	}
	return Choice{}, false
}

// Choice is one way out of an incident and what it costs.
type Choice struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Lost   int64  `json:"lost"`   // records that are given up, -1 when not known
	Reread int64  `json:"reread"` // records that are read again, -1 when not known
	Exact  bool   `json:"-"`      // but for Lost the lane ends as one that was never disturbed
}

func (c Choice) String() string {
	return fmt.Sprintf("%s (%s; loses %s, reads %s again)", c.Name, c.Text, records(c.Lost), records(c.Reread))
}

func records(n int64) string {
	if n < 0 {
		return "an unknown number of records"
	}
	if n == 1 {
		return "1 record"
	}
	return fmt.Sprintf("%d records", n)
}

// ChoiceTexts explains every choice in general, for help texts. What one does and costs for a lane is in the lane's incident.
func ChoiceTexts() []Choice {
	return []Choice{
		{Name: ChoiceSkip, Text: "go on behind records that cannot be read (any more); they are lost, and counted as skipped"},
		{
			Name: ChoiceRebuild,
			Text: "drop the lane's open slices and read the log again from where the oldest of them began; final windows stay",
		},
		{Name: ChoiceRestart, Text: "begin at the log's start with nothing, where no rebuild is possible; final windows stay"},
		{Name: ChoiceRetry, Text: "try again without giving anything up, once the cause is gone"},
		{Name: ChoiceAccept, Text: "the times of events beyond max_jump are right: accept the next one, which moves the watermark there"},
		{Name: ChoiceRefuse, Text: "the times of events beyond max_jump are wrong: go on refusing them, and ask again after as many in a row"},
		{Name: ChoiceWait, Text: "leave the lane parked; another choice can be made later"},
		{Name: ChoiceGiveUp, Text: "wait no longer for a worker that does not answer; the lane itself is not touched"},
	}
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
