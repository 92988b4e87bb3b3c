package spec

import (
	"slices"
	"strings"
)

// Function is an aggregate function, as far as a spec is concerned. What computes it is in pipeline/agg under its name.
type Function struct {
	Name      string
	Takes     string   // what the field holds, in a word; empty: the function takes no field
	Types     []string // of the field; the first is the default
	Texts     bool     // publishes a text of the event as it is, with the types any and string
	Publishes string   // for the reader of the documentation
}

var (
	numbers = []string{"float", "int"}
	scalars = []string{"any", "int", "float", "string", "bool"}
)

// functions is the one list of aggregate functions. Checks, defaults, suggestions, help and docs/spec.md follow from it.
var functions = []Function{
	{Name: "count", Publishes: "events"},
	{Name: "sum", Takes: "number", Types: numbers, Publishes: "the exact sum, of floats rounded once; beyond the type's range it is `null` and the row says `\"overflow\":true`"},
	{Name: "avg", Takes: "number", Types: numbers, Publishes: "the mean, a float: the exact sum divided by the number of values, rounded once"},
	{Name: "min", Takes: "number", Types: numbers, Publishes: "the smallest value"},
	{Name: "max", Takes: "number", Types: numbers, Publishes: "the largest value"},
	{Name: "first", Takes: "any", Types: scalars, Texts: true, Publishes: "the value of the earliest event by event time; ties by topic, partition, offset"},
	{Name: "last", Takes: "any", Types: scalars, Texts: true, Publishes: "the value of the latest event by event time; ties by topic, partition, offset"},
}

// Functions lists the aggregate functions.
func Functions() []Function { return slices.Clone(functions) }

func functionNamed(name string) (f Function, known bool) {
	i := slices.IndexFunc(functions, func(f Function) bool { return f.Name == name })
	if i < 0 {
		return Function{}, false
	}
	return functions[i], true
}

// DefaultType is the type of the function's field when the spec does not say; empty when it takes no field.
func (f Function) DefaultType() string {
	if len(f.Types) == 0 {
		return ""
	}
	return f.Types[0]
}

// HasFunction reports whether the function exists and has the type; no type stands for the default.
func HasFunction(name, typ string) bool {
	f, known := functionNamed(name)
	return known && (typ == "" || slices.Contains(f.Types, typ))
}

func functionNames() []string {
	names := make([]string, len(functions))
	for i, f := range functions {
		names[i] = f.Name
	}
	return names
}

// wantFunc says what would be valid as a function.
func wantFunc() string { return orList(functionNames()) }

// orList joins words as in "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
