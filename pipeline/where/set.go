package where

import "github.com/expr-lang/expr/ast"

// literalSet is a list of literals on the right of the operator in. It finds what == finds in the list, in one step: the
// language's own sets hold one type, and fail on a value of another or take a nil for a zero of it.
type literalSet struct {
	texts         map[string]struct{}
	integers      map[int]struct{}     // floats that are integers within int64 among them
	floats        map[float64]struct{} // the other ones
	null, yes, no bool
}

// newLiteralSet returns the set of a list's elements, and false when one of them is not a literal.
func newLiteralSet(elements []ast.Node) (*literalSet, bool) {
	s := &literalSet{texts: make(map[string]struct{}), integers: make(map[int]struct{}), floats: make(map[float64]struct{})}
	for _, element := range elements {
		switch n := element.(type) {
		case *ast.NilNode:
			s.null = true
		case *ast.BoolNode:
			s.yes, s.no = s.yes || n.Value, s.no || !n.Value
		case *ast.StringNode:
			s.texts[n.Value] = struct{}{}
		case *ast.IntegerNode:
			s.integers[n.Value] = struct{}{}
		case *ast.FloatNode:
			if whole, ok := toWhole(n.Value); ok {
				s.integers[whole] = struct{}{}
			} else {
				s.floats[n.Value] = struct{}{}
			}
		default:
			return nil, false
		}
	}
	return s, true
}

// has reports whether a value is equal to one of the literals.
func (s *literalSet) has(v any) (found bool) {
	switch x := widen(v).(type) {
	case string:
		_, found = s.texts[x]
	case int:
		_, found = s.integers[x]
	case float64:
		if whole, ok := toWhole(x); ok {
			_, found = s.integers[whole]
		} else {
			_, found = s.floats[x]
		}
	case bool:
		return x && s.yes || !x && s.no
	case nil:
		return s.null
	}
	return found
}
