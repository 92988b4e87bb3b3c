package where

import (
	"fmt"
	"reflect"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/file"
)

// available names the functions of the language that an expression may call: those that are pure, whose result is the
// same on every machine, and which give what an event could hold. A function that a later version of the language adds
// is not available until it is listed here.
var available = map[string]bool{
	"all": true, "none": true, "any": true, "one": true, "filter": true, "map": true, "find": true, "findIndex": true,
	"findLast": true, "findLastIndex": true, "count": true, "sum": true, "reduce": true, "sortBy": true,
	"len": true, "type": true, "get": true, "first": true, "last": true, "take": true, "reverse": true, "uniq": true,
	"concat": true, "flatten": true, "sort": true,
	"int": true, "float": true, "string": true, "toJSON": true, "fromJSON": true, "toBase64": true, "fromBase64": true,
	"abs": true, "ceil": true, "floor": true, "round": true, "max": true, "min": true, "mean": true, "median": true,
	"bitand": true, "bitor": true, "bitxor": true, "bitnand": true, "bitnot": true, "bitshl": true, "bitshr": true,
	"bitushr": true,
	"trim":    true, "trimPrefix": true, "trimSuffix": true, "upper": true, "lower": true, "split": true,
	"splitAfter": true, "replace": true, "repeat": true, "join": true, "indexOf": true, "lastIndexOf": true,
	"hasPrefix": true, "hasSuffix": true,
}

const (
	wantTimes     = `times compared as the event has them, as numbers or as texts: at >= "2024-01-01T00:00:00Z"`
	wantDurations = "durations as the event has them, as numbers: ended - began > 3600"
	wantFields    = `fields by their names: order.state == "paid"`
	wantTypes     = "numbers, texts, booleans, nil, and lists and objects of them"
	wantPlain     = "operators and functions of the expr language over " + wantTypes
)

// unavailable says of functions that users of the language know why an expression cannot call them.
var unavailable = map[string]struct{ problem, want string }{
	"now":       {byClock, wantTimes},
	"date":      {byZone, wantTimes},
	"duration":  {aDuration, wantDurations},
	"timezone":  {aZone, wantTimes},
	"keys":      {byOrder, wantFields},
	"values":    {byOrder, wantFields},
	"toPairs":   {byOrder, wantFields},
	"fromPairs": {byOrder, wantFields},
	"groupBy":   {byOrder, wantFields},
}

const (
	byClock = "depends on the clock of the worker"
	byZone  = "gives a time, which depends on the time zone of the worker"
	byOrder = "depends on the order of an object's fields, which is not fixed"

	aDuration = "gives a duration, which no event holds"
	aZone     = "gives a time zone, which no event holds"
)

// closedTypes visits an expression whose types have been checked and refuses every part that is not of a type an event
// could hold. Only such values have no methods, so that nothing an expression can reach knows a zone or a clock.
type closedTypes struct {
	source string
	err    error
}

// Visit implements ast.Visitor.
func (c *closedTypes) Visit(node *ast.Node) {
	if c.err != nil {
		return
	}
	switch n := (*node).(type) {
	case *ast.CallNode:
		c.refuseCall(n)
		return
	case *ast.BuiltinNode:
		if !available[n.Name] {
			c.refuseFunction(n, n.Name)
			return
		}
	case *ast.PredicateNode:
		return // the type of a predicate is a function; its body has been visited
	case *ast.IdentifierNode:
		if t := n.Type(); t != nil && t.Kind() == reflect.Func {
			return // a field named like a function of the language; what makes no sense of it is refused elsewhere
		}
	}
	if t := (*node).Type(); !holdable(t) {
		c.refuse(*node, wantTypes, "has %s, which no event holds", partOf(t))
	}
}

func (c *closedTypes) refuseCall(call *ast.CallNode) {
	switch callee := call.Callee.(type) {
	case *ast.MemberNode:
		if name, ok := callee.Property.(*ast.StringNode); ok {
			c.refuse(call, wantPlain, "calls the method %s(), and values of events have none", name.Value)
			return
		}
	case *ast.IdentifierNode:
		c.refuseFunction(call, callee.Value)
		return
	}
	c.refuse(call, wantPlain, "calls something that is not a function")
}

func (c *closedTypes) refuseFunction(node ast.Node, name string) {
	if why, ok := unavailable[name]; ok {
		c.refuse(node, why.want, "uses %s(), which %s", name, why.problem)
		return
	}
	if _, ok := builtin.Index[name]; ok {
		c.refuse(node, wantPlain, "uses %s(), which is not known to follow from the event alone", name)
		return
	}
	c.refuse(node, wantPlain, "calls %s(), which is not a function", name)
}

func (c *closedTypes) refuse(node ast.Node, want, problem string, args ...any) {
	at := &file.Error{Location: node.Location(), Message: fmt.Sprintf(problem, args...)}
	_ = at.Bind(file.NewSource(c.source)) // finds line and column
	c.err = &Error{Problem: atPlace(at.Message, at), Want: want}
}

// holdable reports whether an event could hold values of a type. A nil type is that of nil, an interface that of a
// field, whose type each event says anew.
func holdable(t reflect.Type) bool {
	if t == nil {
		return true
	}
	if t.PkgPath() != "" {
		return false // a named type, such as time.Duration
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Float64, reflect.String:
		return true
	case reflect.Interface:
		return t.NumMethod() == 0
	case reflect.Slice:
		return holdable(t.Elem())
	case reflect.Map:
		return t.Key().Kind() == reflect.String && holdable(t.Elem())
	}
	return false
}
