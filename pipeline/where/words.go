package where

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/expr-lang/expr/file"
)

// What would be valid instead of an expression that does not compile.
const (
	wantOneKind   = `operands of one kind: int(), float() and string() convert, as in string(id) in ["7", "8"]`
	wantIntegers  = "integers on both sides of %, as in int(weight) % 2"
	wantInRange   = "a result within int64; with a decimal point it is a float: 9223372036854775807.0 + 1"
	wantLiteral   = "an integer within int64, or with a decimal point a float within float64"
	wantDivisor   = "a divisor other than 0"
	wantArguments = "arguments of the number and the kinds that the function takes"
)

// RunError says in one line of plain words what the run of an expression reports. The language reports the types of Go,
// which whoever writes a filter need not know.
func RunError(err error) error {
	message := err.Error()
	var at *file.Error
	if errors.As(err, &at) {
		message = at.Message // without the picture of the expression, which takes several lines
	}
	return errors.New(plainRun(message))
}

// typeWords names the types of values as docs/spec.md does.
var typeWords = map[string]string{
	"<nil>": "null", "nil": "null", "bool": "boolean", "string": "text", "int": "number", "float64": "number", "uint8": "number",
	"map[string]interface {}": "object", "map[string]any": "object", "map": "object",
	"[]interface {}": "list", "[]any": "list", "[]int": "list", "[]string": "list", "slice": "list",
	"[]uint8": "text", // what `matches` says of a text
	"unknown": "field's value",
}

// WordOf names the type of a value of an expression.
func WordOf(v any) string { return wordFor(fmt.Sprintf("%T", v)) }

func wordFor(name string) string {
	if word, ok := typeWords[name]; ok {
		return word
	}
	return name
}

// article puts the article before a word for a type.
func article(word string) string {
	switch word {
	case "null":
		return word
	case "object", "integer":
		return "an " + word
	}
	return "a " + word
}

// goType matches the name of a type that a value of an expression may have.
const goType = `(<nil>|nil|bool|string|int|uint8|float64|unknown|slice|map(?:\[string\](?:interface \{\}|any))?|\[\](?:interface \{\}|any|int|string|uint8))`

// phrase is a text of the language and what to say instead. Types in it are the groups of the pattern.
type phrase struct {
	pattern *regexp.Regexp
	plain   string // takes the groups
	article bool   // types get the article of their word
}

var runPhrases = []phrase{
	{regexp.MustCompile(`^interface conversion: interface \{\} is ` + goType + `, not ` + goType + `$`), "got %s, want %s", true},
	{regexp.MustCompile(`^reflect\.Value\.MapIndex: value of type ` + goType + ` is not assignable to type string$`), "got %s as the name of a field, want a text", true},
	{regexp.MustCompile(`^reflect: call of reflect\.Value\.Len on ` + goType + ` Value$`), "got %s, want a list", true},
	{regexp.MustCompile(`^reflect: call of reflect\.Value\.Len on zero Value$`), "got null, want a list", false},
	{regexp.MustCompile(`^cannot use ` + goType + ` as argument \(type int\) to call (\w+)$`), "got %s as an argument of %s, want an integer", true},
	{regexp.MustCompile(`^invalid operation: bool\(` + goType + `\)$`), "got %s, want a boolean", true},
	{regexp.MustCompile(`^invalid operation: ` + goType + ` (\S+) ` + goType + `$`), "invalid operation: %s %s %s", false},
	{regexp.MustCompile(`^invalid operation: (- |int\(|float\()` + goType + `(\)?)$`), "invalid operation: %s%s%s", false},
	{regexp.MustCompile(`^((?s:.*)\(type )` + goType + `\)$`), "%s%s)", false},
	{regexp.MustCompile(`^(cannot (?:fetch|get) (?s:.*) from )` + goType + `$`), "%s%s", true},
	{regexp.MustCompile(`^(cannot (?:take from|reverse|uniq|concat|flatten) )` + goType + `$`), "%s%s", true},
}

func plainRun(message string) string {
	for _, p := range runPhrases {
		if groups := p.pattern.FindStringSubmatch(message); groups != nil {
			return p.say(groups[1:], wordFor)
		}
	}
	return message
}

// say puts words for the types among the groups into the phrase.
func (p *phrase) say(groups []string, word func(string) string) string {
	parts := make([]any, len(groups))
	for i, text := range groups {
		if w := word(text); w != text {
			if text = w; p.article {
				text = article(w)
			}
		}
		parts[i] = text
	}
	return fmt.Sprintf(p.plain, parts...)
}

// problem is a text of the language's checks, what to say instead, and what would be valid.
type problem struct {
	phrase
	want string
}

var problems = []problem{
	{phrase{regexp.MustCompile(`^invalid (?:integer|float|hex|binary|octal) literal: strconv\.Parse(Int|Float): parsing ("[^"]*"): value out of range`), "%[2]s is beyond %[1]s", false}, wantLiteral},
	{phrase{regexp.MustCompile(`^invalid (?:integer|float|hex|binary|octal) literal: strconv\.Parse(?:Int|Float): parsing ("[^"]*"): invalid syntax`), "%s is not a number", false}, wantLiteral},
	{phrase{regexp.MustCompile(`^((?:integer|float) literal is too large)`), "%s", false}, wantLiteral},
	{phrase{regexp.MustCompile(`^(?:integer divide|division) by zero`), "division by zero", false}, wantDivisor},
	{phrase{regexp.MustCompile(`^(.* is beyond (?:int64|float64))$`), "%s", false}, wantInRange},
	{phrase{regexp.MustCompile(`^(.* takes integers)$`), "%s", false}, wantIntegers},
	{phrase{regexp.MustCompile(`^invalid operation: (\S+) \(mismatched types (\S.*) and (\S.*)\)$`), "cannot apply %s to %s and %s", true}, wantOneKind},
	{phrase{regexp.MustCompile(`^invalid operation: (\S+) \(mismatched type (\S.*)\)$`), "cannot apply %s to %s", true}, ""},
	{phrase{regexp.MustCompile(`^cannot use (\S.*) as type (\S.*) in array$`), "looks for %s where every element is %s", true}, wantOneKind},
	{phrase{regexp.MustCompile(`^cannot use (\S.*) as type \S.* in map key$`), "looks for %s among the names of an object's fields", true}, wantOneKind},
	{phrase{regexp.MustCompile(`^expected bool, but got (\S.*)$`), "gives %s, and not true or false", true}, ""},
	{phrase{regexp.MustCompile(`^(invalid argument for \w+ \(type )(\S.*)\)$`), "%s%s)", false}, wantArguments},
	{phrase{regexp.MustCompile(`^(.* \(got )(\S.*)\)$`), "%s%s)", false}, wantArguments},
	{phrase{regexp.MustCompile(`^((?:invalid number of arguments|not enough arguments|too many arguments|expected at least \d+ arguments).*)$`), "%s", false}, wantArguments},
}

// plainProblem says in plain words what the language's checks say, and what would be valid; want is empty where any
// other expression would do.
func plainProblem(message string) (text, want string) {
	for _, p := range problems {
		groups := p.pattern.FindStringSubmatch(message)
		if groups == nil {
			continue
		}
		return p.say(groups[1:], checkedWord), p.want
	}
	return message, ""
}

// checkedWord names a type in what a check says, which unlike a run tells integers from floats.
func checkedWord(name string) string {
	switch name {
	case "int":
		return "integer"
	case "float64":
		return "float"
	case "Int":
		return "int64"
	case "Float":
		return "float64"
	}
	return wordFor(name)
}

// partOf describes a part of an expression whose type no event holds.
func partOf(t reflect.Type) string {
	if t.String() == "[]uint8" {
		return `a text of bytes (b"...")`
	}
	return "a part of type " + strings.ReplaceAll(t.String(), "interface {}", "any")
}
