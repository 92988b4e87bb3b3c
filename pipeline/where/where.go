// Package where compiles filters. A filter is an expression in the expr language over the fields of one event, and what
// it gives follows from the event alone: not from a clock, a time zone, the order of a map, the machine, or a number
// that has wrapped. Compile therefore refuses every function and every type that is not known to keep to that, and
// replaces the arithmetic and the comparisons of the language, which wrap and round, by exact ones that fail instead.
package where

import (
	"errors"
	"fmt"
	"slices"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// Expression is a compiled filter. It may be shared; each goroutine runs it in a VM of its own over a map that holds
// Fields, whose values are of type int, float64, string, bool, nil, []any or map[string]any.
type Expression struct {
	Program *vm.Program
	Fields  []string // top-level fields of the event that the expression mentions, sorted
}

// Error says why an expression is refused.
type Error struct {
	Problem string // what is wrong with it
	Want    string // what would be valid; empty where that is any expression that gives true or false
}

func (e *Error) Error() string { return e.Problem }

// Compile compiles a filter. Fields of the event are its variables; a field that the event lacks is nil. The error is
// of type *Error.
func Compile(source string) (*Expression, error) {
	// The first pass checks the expression as it is written. The second one compiles it with exact arithmetic, behind
	// which the language's own checks would no longer see the types of the operands.
	fields := &fieldNames{seen: make(map[string]bool), env: make(map[ast.Node]bool)}
	closed := &closedTypes{source: source}
	if _, err := compile(source, fields, closed, wholeOperands{}); err != nil {
		// A function that is not available compiles as the call of a field, whose type nobody knows, and so on: what
		// the visitors found says more than what the language makes of it.
		return nil, problemOf(errors.Join(fields.err(), closed.err, err))
	}
	if err := errors.Join(fields.err(), closed.err); err != nil {
		return nil, problemOf(err)
	}
	exact := &exactPatch{}
	program, err := compile(source, exact)
	if err = errors.Join(exact.err, err); err != nil {
		return nil, problemOf(err)
	}
	return &Expression{Program: program, Fields: fields.sorted()}, nil
}

func compile(source string, visitors ...ast.Visitor) (*vm.Program, error) {
	options := []expr.Option{expr.Env(map[string]any{}), expr.AllowUndefinedVariables(), expr.AsBool()}
	for _, name := range builtin.Names {
		if !available[name] {
			options = append(options, expr.DisableBuiltin(name))
		}
	}
	for _, visitor := range visitors {
		options = append(options, expr.Patch(visitor))
	}
	return expr.Compile(source, options...)
}

// problemOf makes an error of the language one line.
func problemOf(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var at *file.Error
	if errors.As(err, &at) {
		text, want := plainProblem(at.Message)
		return &Error{Problem: "does not compile: " + atPlace(text, at), Want: want}
	}
	text, want := plainProblem(err.Error())
	return &Error{Problem: "does not compile: " + text, Want: want}
}

// atPlace says in one line where the language has found a problem, which it draws in several.
func atPlace(problem string, e *file.Error) string {
	return fmt.Sprintf("%s (at %d:%d of the expression)", problem, e.Line, e.Column+1)
}

// fieldNames visits an expression and collects the variables that it reads.
type fieldNames struct {
	seen map[string]bool
	env  map[ast.Node]bool // each use of $env, and whether it names its field
}

const wholeEvent = "$env"

// Visit implements ast.Visitor; children come before their parents.
func (f *fieldNames) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		if n.Value != wholeEvent {
			f.seen[n.Value] = true
		} else if !f.env[n] {
			f.env[n] = false
		}
	case *ast.MemberNode:
		name, constant := n.Property.(*ast.StringNode)
		if id, ok := n.Node.(*ast.IdentifierNode); ok && constant && id.Value == wholeEvent {
			f.env[id] = true
			f.seen[name.Value] = true
		}
	}
}

func (f *fieldNames) err() error {
	for _, named := range f.env {
		if !named {
			return &Error{Problem: `does not compile: $env must name its field, as in $env["order id"]`}
		}
	}
	return nil
}

func (f *fieldNames) sorted() []string {
	fields := make([]string, 0, len(f.seen))
	for name := range f.seen {
		fields = append(fields, name)
	}
	slices.Sort(fields)
	return fields
}
