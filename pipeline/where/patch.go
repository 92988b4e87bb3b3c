package where

import (
	"fmt"
	"math"
	"reflect"

	"github.com/expr-lang/expr/ast"
)

// operators replaces the operators of the language. The types of the functions are among those that the VM calls
// without reflection and without allocating.
var operators = map[string]any{
	"+": add, "-": subtract, "*": multiply, "/": divide, "%": modulo, "**": power, "^": power,
	"==": equal, "!=": notEqual, "<": less, "<=": lessOrEqual, ">": more, ">=": moreOrEqual, "in": contains,
}

// unaries replaces functions of one argument.
var unaries = map[string]func(any) any{
	"abs": absolute, "int": toInt, "float": toFloatOrFail, "fromJSON": fromJSON, "uniq": unique,
	"ceil": rounding("ceil", math.Ceil), "floor": rounding("floor", math.Floor), "round": rounding("round", math.Round),
}

// lists replaces functions of any number of arguments, which are handed on as one list.
var lists = map[string]func(any) any{"max": extreme("max", 1), "min": extreme("min", -1)}

// counts says which argument of a function is a count or an index.
var counts = map[string]int{"get": 1, "take": 1, "split": 2, "splitAfter": 2, "replace": 3, "repeat": 1}

// wholeOperands makes the language's check accept a float on either side of %, such as what floor() gives; modulo, which
// takes the operator's place, wants integers and not a type.
type wholeOperands struct{}

// Visit implements ast.Visitor.
func (wholeOperands) Visit(node *ast.Node) {
	n, ok := (*node).(*ast.BinaryNode)
	if !ok || n.Operator != "%" {
		return
	}
	for _, operand := range []*ast.Node{&n.Left, &n.Right} {
		if t := (*operand).Type(); t != nil && t.Kind() == reflect.Float64 {
			ast.Patch(operand, &ast.BuiltinNode{Name: "int", Arguments: []ast.Node{*operand}})
		}
	}
}

// exactPatch replaces what wraps, rounds or depends on the machine. It leaves alone what cannot do so, above all a
// comparison with a literal up to 2^53: the VM's own operators are fast.
type exactPatch struct{ err error }

// Visit implements ast.Visitor; children come before their parents, so that operands are patched already.
func (p *exactPatch) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.UnaryNode:
		p.unary(node, n)
	case *ast.BinaryNode:
		p.binary(node, n)
	case *ast.MemberNode:
		wrap(&n.Property, place, isInt)
	case *ast.SliceNode:
		for _, end := range []*ast.Node{&n.From, &n.To} {
			if *end != nil {
				wrap(end, place, isInt)
			}
		}
	case *ast.BuiltinNode:
		p.function(node, n)
	case *ast.ConditionalNode:
		if isNil(n.Exp1) || isNil(n.Exp2) {
			wrap(node, untyped, isUntyped)
		}
	}
}

func (p *exactPatch) unary(node *ast.Node, n *ast.UnaryNode) {
	if n.Operator != "-" {
		return
	}
	if v, ok := literal(n.Node); ok {
		p.fold(node, func() any { return negate(v) })
		return
	}
	ast.Patch(node, call(negate, n.Node))
}

func (p *exactPatch) binary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "==", "!=", "<", "<=", ">", ">=":
		if exactlyCompared(n.Left, n.Right) {
			return
		}
	case "in":
		if array, ok := n.Right.(*ast.ArrayNode); ok {
			if set, ok := newLiteralSet(array.Nodes); ok {
				ast.Patch(node, call(set.has, n.Left))
				return
			}
		}
	case "+":
		if isString(n.Left) && isString(n.Right) {
			return
		}
	case "..":
		wrap(&n.Left, rangeEnd, harmless)
		wrap(&n.Right, rangeEnd, harmless)
		return
	}
	replacement, ok := operators[n.Operator]
	if !ok {
		return
	}
	if apply, ok := replacement.(func(a, b any) any); ok {
		left, first := literal(n.Left)
		right, second := literal(n.Right)
		if first && second {
			p.fold(node, func() any { return apply(left, right) })
			return
		}
	}
	ast.Patch(node, call(replacement, n.Left, n.Right))
}

func (p *exactPatch) function(node *ast.Node, n *ast.BuiltinNode) {
	if at, ok := counts[n.Name]; ok && at < len(n.Arguments) {
		wrap(&n.Arguments[at], place, isInt)
	}
	if replacement, ok := unaries[n.Name]; ok {
		ast.Patch(node, call(replacement, n.Arguments...))
		return
	}
	if replacement, ok := lists[n.Name]; ok {
		ast.Patch(node, call(replacement, &ast.ArrayNode{Nodes: n.Arguments}))
		return
	}
	switch n.Name {
	case "sum":
		list := n.Arguments[0]
		if len(n.Arguments) == 2 {
			list = &ast.BuiltinNode{Name: "map", Arguments: n.Arguments}
		}
		ast.Patch(node, call(total, list))
	case "sort":
		ast.Patch(node, call(sortList, n.Arguments[0], orderOf(n.Arguments, 1)))
	case "sortBy":
		by := &ast.BuiltinNode{Name: "map", Arguments: n.Arguments[:2:2]}
		two := &ast.ArrayNode{Nodes: []ast.Node{n.Arguments[0], by}}
		ast.Patch(node, call(sortByValues, two, orderOf(n.Arguments, 2)))
	case "mean", "median":
		ast.Patch(node, call(finiteMean, n))
	case "bitshl":
		ast.Patch(node, call(shiftLeft, n.Arguments...))
	case "repeat":
		n.Arguments[0] = call(repeatable, n.Arguments[0], n.Arguments[1])
	case "findLast":
		ast.Patch(node, call(untyped, fromTheEnd("find", n.Arguments)))
	case "findLastIndex":
		ast.Patch(node, call(indexFromTheEnd, n.Arguments[0], fromTheEnd("findIndex", n.Arguments)))
	case "last":
		if isFilter(n.Arguments[0]) { // which the language would make a findLast
			ast.Patch(node, call(lastOf, n.Arguments[0]))
			return
		}
		wrap(node, untyped, isUntyped)
	case "find", "findIndex", "first", "get":
		wrap(node, untyped, isUntyped) // they give nil when they find nothing
	}
}

// fromTheEnd makes findLast and findLastIndex of a function that looks from the beginning. The VM's own loops over a list
// from its end leave values on its stack, where the operands of what is around them ought to be.
func fromTheEnd(function string, arguments []ast.Node) ast.Node {
	reversed := &ast.BuiltinNode{Name: "reverse", Arguments: arguments[:1:1]}
	return &ast.BuiltinNode{Name: function, Arguments: []ast.Node{reversed, arguments[1]}}
}

func indexFromTheEnd(list, index any) any {
	if i, ok := index.(int); ok {
		return len(listOrFail("findLastIndex", list)) - 1 - i
	}
	return nil
}

func lastOf(v any) any {
	if list := listOrFail("last", v); len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// untyped hides the type of a part that may be nil all the same: the VM's operators for that type do not expect one.
func untyped(v any) any { return v }

func isUntyped(node ast.Node) bool { return !exactlyCompared(node, node) }

func orderOf(arguments []ast.Node, at int) ast.Node {
	if at < len(arguments) {
		return arguments[at]
	}
	return &ast.StringNode{Value: "asc"}
}

// fold puts the value of an operation between literals in its place.
func (p *exactPatch) fold(node *ast.Node, evaluate func() any) {
	defer func() {
		if r := recover(); r != nil && p.err == nil {
			text, want := plainProblem(fmt.Sprint(r))
			p.err = &Error{Problem: "does not compile: " + text, Want: want}
		}
	}()
	switch v := evaluate().(type) {
	case int:
		ast.Patch(node, &ast.IntegerNode{Value: v})
	case float64:
		ast.Patch(node, &ast.FloatNode{Value: v})
	}
}

func call(function any, arguments ...ast.Node) *ast.CallNode {
	return &ast.CallNode{Callee: &ast.ConstantNode{Value: function}, Arguments: arguments}
}

// wrap hands a part of the expression through a function, unless it is a literal text or of a type that needs none.
func wrap(part *ast.Node, function func(any) any, unless func(ast.Node) bool) {
	if _, ok := (*part).(*ast.StringNode); ok || unless(*part) {
		return
	}
	ast.Patch(part, call(function, *part))
}

// exactlyCompared reports whether the VM compares two operands exactly: because their types are known and the same, or
// because one is a literal that no rounding of the other can reach.
func exactlyCompared(a, b ast.Node) bool {
	if harmless(a) || harmless(b) {
		return true
	}
	t := a.Type()
	if t == nil || t != b.Type() {
		return false
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Float64, reflect.String:
		return true
	}
	return false
}

// harmless reports whether comparing any value with a literal is exact. A float64 has a place for every integer up to
// 2^53 and rounds what lies beyond to that or more.
func harmless(node ast.Node) bool {
	const limit = 1 << 53
	switch n := node.(type) {
	case *ast.NilNode, *ast.BoolNode, *ast.StringNode:
		return true
	case *ast.IntegerNode:
		return n.Value >= -limit && n.Value <= limit
	case *ast.FloatNode:
		return n.Value > -limit && n.Value < limit
	}
	return false
}

func literal(node ast.Node) (any, bool) {
	switch n := node.(type) {
	case *ast.IntegerNode:
		return n.Value, true
	case *ast.FloatNode:
		return n.Value, true
	}
	return nil, false
}

func isNil(node ast.Node) bool {
	_, ok := node.(*ast.NilNode)
	return ok
}

func isFilter(node ast.Node) bool {
	n, ok := node.(*ast.BuiltinNode)
	return ok && n.Name == "filter"
}

func isInt(node ast.Node) bool {
	t := node.Type()
	return t != nil && t.Kind() == reflect.Int
}

func isString(node ast.Node) bool {
	t := node.Type()
	return t != nil && t.Kind() == reflect.String
}
