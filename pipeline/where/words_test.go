package where

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a run reports names types as whoever writes a filter knows them.
func TestRunErrorsArePlain(t *testing.T) {
	for source, want := range map[string]string{
		`absent * 3 > 0`:          "invalid operation: null * number",
		`-text == 1`:              "invalid operation: - text",
		`zero in object`:          "invalid operation: number in object",
		`yes in text`:             `operator "in" not defined on text`,
		`len(zero) > 0`:           "invalid argument for len (type number)",
		`mean([text]) > 1`:        "invalid argument for mean (type text)",
		`zero.p == 1`:             "cannot fetch p from a number",
		`absent.p == 1`:           "cannot fetch p from null",
		`absent && yes`:           "got null, want a boolean",
		`yes && zero`:             "got a number, want a boolean",
		`upper(zero) == "a"`:      "got a number, want a text",
		`zero matches "a"`:        "got a number, want a text",
		`any(object.p, # > 1)`:    "got a number, want a list",
		`any(absent, # > 1)`:      "got null, want a list",
		`bitand(half, 1) == 1`:    "got a number as an argument of bitand, want an integer",
		`object[1] == 1`:          "got a number as the name of a field, want a text",
		`list["a"] == 1`:          "invalid operation: int(text)",
		`float(list) == 1`:        "invalid operation: float(list)",
		`take(zero, 1) == [1]`:    "cannot take from a number",
		`flatten(zero) == [zero]`: "cannot flatten a number",
	} {
		got := answer(t, source)
		require.Equal(t, want, got, source)
	}
}

// Each kind of problem has a hint of its own; an empty one is that of any filter.
func TestHintsFitTheProblem(t *testing.T) {
	for source, want := range map[string]struct{ problem, want string }{
		`1 in ["a"]`:                  {"does not compile: looks for an integer where every element is a text (at 1:3 of the expression)", wantOneKind},
		`1 == "a"`:                    {"does not compile: cannot apply == to an integer and a text (at 1:3 of the expression)", wantOneKind},
		`9223372036854775807 + 1 > 0`: {"does not compile: 9223372036854775807 + 1 is beyond int64", wantInRange},
		`1 / 0 > 0`:                   {"does not compile: division by zero", wantDivisor},
		`1 % 0 > 0`:                   {"does not compile: division by zero (at 1:3 of the expression)", wantDivisor},
		`2.5 % 2 == 0`:                {"does not compile: 2.5 % 2: % takes integers", wantIntegers},
		`9223372036854775808 > x`:     {`does not compile: "9223372036854775808" is beyond int64 (at 1:21 of the expression)`, wantLiteral},
		`1e999 > x`:                   {`does not compile: "1e999" is beyond float64 (at 1:7 of the expression)`, wantLiteral},
		`abs("a") > 1`:                {"does not compile: invalid argument for abs (type text) (at 1:1 of the expression)", wantArguments},
		`duration("1h") == x`:         {"uses duration(), which gives a duration, which no event holds (at 1:1 of the expression)", wantDurations},
		`amount >`:                    {"does not compile: unexpected token EOF (at 1:8 of the expression)", ""},
		`1 + 2`:                       {"does not compile: gives an integer, and not true or false", ""},
	} {
		_, err := Compile(source)
		var refused *Error
		require.ErrorAs(t, err, &refused, source)
		require.Equal(t, want.problem, refused.Problem, source)
		require.Equal(t, want.want, refused.Want, source)
		require.NotRegexp(t, regexp.MustCompile(`strconv|interface|\bint\b|string`), refused.Problem, source)
	}
}
