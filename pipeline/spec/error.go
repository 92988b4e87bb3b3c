package spec

import (
	"fmt"
	"strings"
)

// Error is one thing wrong with a spec. Line and Column count from 1 and are 0 when the file as a whole is meant.
type Error struct {
	File    string
	Line    int
	Column  int
	Field   string // path of the field, such as windows[0].size; empty for the file as a whole
	Value   string // the offending value as written; empty when there is none
	Problem string // what is wrong with it
	Want    string // what would be valid
}

// Error renders one line: "flights.yaml:7:22: windows[0].size: "1x" is not a duration; want e.g. 1h, 90s or 1d".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	if e.Value != "" {
		fmt.Fprintf(&b, "%q ", e.Value)
	}
	b.WriteString(e.Problem)
	if e.Want != "" {
		b.WriteString("; want " + e.Want)
	}
	return b.String()
}

// Errors is everything wrong with a spec, in the order of the file. Its text has one line per error.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single *Error.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}
