package report

import "fmt"

// Incident says why a lane is parked and what can be done.
type Incident struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`
	From    int64    `json:"from"` // first offset concerned, -1 when no range is
	To      int64    `json:"to"`   // first offset no longer concerned
	Detail  string   `json:"detail"`
	Choices []Choice `json:"choices,omitempty"`
	Decided string   `json:"decided,omitempty"` // the choice made
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
		{Name: "skip", Text: "go on behind records that cannot be read (any more); they are lost, and counted as skipped"},
		{
			Name: "rebuild",
			Text: "drop the lane's open slices and read the log again from where the oldest of them began; final windows stay",
		},
		{Name: "restart", Text: "begin at the log's start with nothing, where no rebuild is possible; final windows stay"},
		{Name: "retry", Text: "try again without giving anything up, once the cause is gone"},
		{Name: "accept", Text: "the times of events beyond max_jump are right: accept the next one, which moves the watermark there"},
		{Name: "refuse", Text: "the times of events beyond max_jump are wrong: go on refusing them, and ask again after as many in a row"},
		{Name: ChoiceWait, Text: "leave the lane parked; another choice can be made later"},
		{Name: ChoiceGiveUp, Text: "wait no longer for a worker that does not answer; the lane itself is not touched"},
	}
}
