package spec

import (
	"errors"
	"fmt"
	"slices"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// Where is a compiled filter. It may be shared; each goroutine runs it in a VM of its own over a map that holds Fields.
type Where struct {
	Program *vm.Program
	Fields  []string // top-level fields of the event that the expression mentions, sorted
}

// unsteady names the functions whose result could differ when the same event is read again (a clock, the host's
// time zones, the order of a map). Whether an event counts must follow from the event alone.
var unsteady = []string{"now", "timezone", "keys", "values", "toPairs"}

// CompileWhere compiles a filter in the expr language. Fields of the event are its variables; a field the event lacks
// is nil.
func CompileWhere(source string) (*Where, error) {
	names := &fieldNames{seen: make(map[string]bool), env: make(map[ast.Node]bool)}
	options := []expr.Option{
		expr.Env(map[string]any{}), expr.AllowUndefinedVariables(), expr.AsBool(), expr.Patch(names),
	}
	for _, name := range unsteady {
		options = append(options, expr.DisableBuiltin(name))
	}
	program, err := expr.Compile(source, options...)
	if err == nil {
		err = names.err()
	}
	if err != nil {
		var at *file.Error
		if errors.As(err, &at) {
			return nil, fmt.Errorf("does not compile: %s (at %d:%d of the expression)", at.Message, at.Line, at.Column+1)
		}
		return nil, fmt.Errorf("does not compile: %w", err)
	}
	fields := make([]string, 0, len(names.seen))
	for name := range names.seen {
		fields = append(fields, name)
	}
	slices.Sort(fields)
	return &Where{Program: program, Fields: fields}, nil
}

// fieldNames visits an expression and collects the variables it reads.
type fieldNames struct {
	seen  map[string]bool
	env   map[ast.Node]bool // each use of $env, and whether it names its field
	calls []string          // functions that do not exist
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
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			f.calls = append(f.calls, id.Value)
		}
	}
}

func (f *fieldNames) err() error {
	if len(f.calls) > 0 {
		if name := f.calls[0]; slices.Contains(unsteady, name) {
			return fmt.Errorf("%s() is not available: reading an event again must decide as the first time", name)
		}
		return fmt.Errorf("%s is not a function", f.calls[0])
	}
	for _, named := range f.env {
		if !named {
			return errors.New(`$env must name its field, as in $env["order id"]`)
		}
	}
	return nil
}
