package contract

import (
	"fmt"
	"time"

	"millrace/pipeline/report"
)

// Pending is something that a workflow waits for while it carries something out, as its status and its page say it.
type Pending struct {
	For       string     `json:"for"`                  // on one line: "Redis: write the desired state"
	Update    string     `json:"update,omitempty"`     // the command that it holds up
	RequestID string     `json:"request_id,omitempty"` // and that command's id
	Behind    string     `json:"behind,omitempty"`     // id of the request that is carried out before this one
	Since     time.Time  `json:"since"`
	Until     *time.Time `json:"until,omitempty"` // the workflow goes on without it then
	Why       string     `json:"why,omitempty"`   // the latest failure
	Then      string     `json:"then,omitempty"`  // what happens at Until, and how to go on
}

// String is the wait in one line for a person.
func (w Pending) String() string {
	text := "waits for " + w.For + " since " + w.Since.UTC().Format(time.RFC3339)
	if w.Until != nil {
		text += ", until " + w.Until.UTC().Format(time.RFC3339) + " at the longest"
	}
	if w.Why != "" {
		text += ": " + w.Why
	}
	if w.Then != "" {
		text += "; then " + w.Then
	}
	return text
}

// AwaitDetails are the details of the heartbeats of AwaitApplied and AwaitDrained.
type AwaitDetails struct {
	Done    int                  `json:"done"`              // lanes that have done what was asked
	Missing []report.LaneMissing `json:"missing,omitempty"` // the first few that have not
	More    int                  `json:"more,omitempty"`    // and how many others
	Problem string               `json:"problem,omitempty"` // why the lanes cannot be read
}

// MaxAwaitMissing bounds the lanes in AwaitDetails.
const MaxAwaitMissing = 5

// String is where the lanes stand in one line for a person.
func (d AwaitDetails) String() string {
	if d.Problem != "" {
		return "the lanes cannot be read: " + d.Problem
	}
	if len(d.Missing) == 0 && d.Done == 0 {
		return "the lanes have not been read yet"
	}
	if len(d.Missing) == 0 {
		return fmt.Sprintf("all %d lanes are there", d.Done)
	}
	left := len(d.Missing) + d.More
	text := fmt.Sprintf("%d of %d lanes are missing: ", left, left+d.Done)
	for i, g := range GroupMissing(d.Missing) {
		if i > 0 {
			text += "; "
		}
		text += g.String()
	}
	if d.More > 0 {
		text += fmt.Sprintf("; and %d more", d.More)
	}
	return text
}
