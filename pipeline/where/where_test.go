package where

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
	_ "time/tzdata" // zones are known on every machine

	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/vm"
	"github.com/stretchr/testify/require"
)

// event is what the fields of a record become.
func event() map[string]any {
	return map[string]any{
		"top": 9223372036854775807, "bottom": -9223372036854775808, "odd": 9007199254740993, "even": 9007199254740992.0,
		"three": 3.0, "half": 0.5, "huge": 1e300, "zero": 0, "yes": true, "text": "ab", "at": "2024-01-01T09:00:00Z",
		"list": []any{1, 2.0, 3}, "mixed": []any{9007199254740992.0, 9007199254740993}, "object": map[string]any{"p": 1},
		"lines": []any{map[string]any{"qty": 2, "id": "x"}, map[string]any{"qty": 1, "id": "y"}, map[string]any{"qty": 2, "id": "z"}},
	}
}

// answer is true, false, or what the run or the compilation of an expression reports.
func answer(t testing.TB, source string) string {
	t.Helper()
	expression, err := Compile(source)
	if err != nil {
		return "refused: " + err.Error()
	}
	result, err := vm.Run(expression.Program, event())
	if err != nil {
		return RunError(err).Error()
	}
	return fmt.Sprint(result)
}

// Every pair is an expression and its one answer, under every time zone and on every machine.
var answers = [][2]string{
	// Arithmetic does not wrap.
	{`top * 4 > 0`, "9223372036854775807 * 4 is beyond int64"},
	{`top + 1 > 0`, "9223372036854775807 + 1 is beyond int64"},
	{`bottom - 1 < 0`, "-9223372036854775808 - 1 is beyond int64"},
	{`-bottom > 0`, "0 - -9223372036854775808 is beyond int64"},
	{`abs(bottom) > 0`, "0 - -9223372036854775808 is beyond int64"},
	{`bottom * -1 > 0`, "-9223372036854775808 * -1 is beyond int64"},
	{`sum([top, 1]) > 0`, "9223372036854775807 + 1 is beyond int64"},
	{`sum(lines, .qty * top) > 0`, "2 * 9223372036854775807 is beyond int64"},
	{`reduce([top, top], #acc + #) > 0`, "9223372036854775807 + 9223372036854775807 is beyond int64"},
	{`9223372036854775807 * 4 > 0`, "refused: does not compile: 9223372036854775807 * 4 is beyond int64"},
	{`bitshl(three == 3 ? 1 : 0, 63) > 0`, "bitshl(1, 63) is beyond int64"},
	{`huge * huge > 0`, "1e+300 * 1e+300 is beyond float64"},
	{`mean([huge * 1e8, huge * 1e8]) > 0`, "the mean is beyond float64"},
	{`top - 1 + 1 == top and bottom + 1 - 1 == bottom and top * -1 == bottom + 1`, "true"},
	{`60 * 60 * 24 == 86400 and -three == -3 and "a" + text == "aab" and sum(list) == 6 and sum([]) == 0`, "true"},
	{`bottom / -1 == 9223372036854775808.0`, "true"},

	// Division and remainder have an answer or fail.
	{`three % 2 == 1 and -7 % three == -1 and bottom % -1 == 0`, "true"},
	{`half % 2 == 1`, "0.5 % 2: % takes integers"},
	{`3.0 % 2 == 1 and 7 % 2.0 == 1 and -7.0 % three == -1`, "true"},
	{`floor(half) % 2 == 0 and ceil(half) % 2 == 1 and 5 % round(three) == 2 and floor(three / 2) % 2 == 1`, "true"},
	{`2.5 % 2 == 1`, "refused: does not compile: 2.5 % 2: % takes integers"},
	{`three / 2 % 2 == 1`, "1.5 % 2: % takes integers"},
	{`text % 2 == 1`, "invalid operation: text % number"},
	{`floor(half) % 2 == "a"`, "refused: does not compile: cannot apply == to an integer and a text (at 1:17 of the expression)"},
	{`top % zero == 0`, "division by zero"},
	{`top / zero > 0`, "division by zero"},
	{`1 / 0 > 0`, "refused: does not compile: division by zero"},
	{`7 / 2 == 3.5 and 2 ** 10 == 1024`, "true"},
	{`(-8) ** half == 2`, "-8 ** 0.5 is beyond float64"},

	// Conversions of numbers are exact or fail.
	{`int(huge) > 0`, "int(1e+300) is beyond int64"},
	{`int("9223372036854775808") > 0`, `int("9223372036854775808"): not an integer within int64`},
	{`float("nan") == 1`, `float("nan"): not a number within float64`},
	{`int(-3.9) == -3 and int("12") == 12 and float("1.5") == 1.5 and floor(odd) == odd and round(half) == 1`, "true"},
	{`list[half] == 1`, "0.5 is no place in a list or text: not an integer within int64"},
	{`list[huge] == 1`, "1e+300 is no place in a list or text: not an integer within int64"},
	{`list[three - 1] == 3 and list[-1] == 3 and list[0:three - 1] == [1, 2] and get(list, three) == nil`, "true"},
	{`len(bottom..top) == 0`, "-9223372036854775808 cannot end a range: not an integer from -2^53 to 2^53"},
	{`len(0..three) == 4 and three in 1..5 and !(half in 0..1)`, "true"},
	{`fromJSON("9007199254740993") == odd and fromJSON("[1, 2.0, 3]") == list`, "true"},
	{`fromJSON("9007199254740993.0") == odd and fromJSON("900719925474099300e-2") == odd and fromJSON("9223372036854775807.0") == top`, "true"},
	{`type(fromJSON("3.0")) == "float" and fromJSON("1e999") > 1e308 and fromJSON("-9223372036854775808.0") == bottom`, "true"},
	{`fromJSON("1 2") == 1`, "fromJSON: something follows the document"},

	// Integers and floats compare exactly beyond 2^53.
	{`odd == even`, "false"}, {`odd > even`, "true"}, {`odd <= even`, "false"}, {`even < odd`, "true"},
	{`odd == 9007199254740992.0`, "false"}, {`odd in [9007199254740992.0]`, "false"}, {`even in [odd]`, "false"},
	{`[odd] == [even]`, "false"}, {`{"p": 1.0} == object`, "true"}, {`top < 9223372036854775808.0`, "true"},
	{`max(mixed) == odd and min(mixed) == even and sort(mixed, "desc")[0] == odd and len(uniq(mixed)) == 2`, "true"},
	{`list == [1.0, 2, 3.0] and three == 3 and 3 in list and zero != nil and text != 1`, "true"},
	{`text < "b" and "b" in ["a", text, "b"] and "p" in object and !(text in absent)`, "true"},
	{`text > 1`, "invalid operation: text > number"},
	{`object > three`, "invalid operation: object > number"},

	// What may be nil although the language knows a type for it is compared like every other nil.
	{`findIndex(list, # == 9) == 0 or findIndex(list, # == 9) in [0, 1] or findIndex(list, # == 9) in 0..1`, "false"},
	{`findIndex(list, # == 9) == findLastIndex(list, # == 8) and findIndex(list, # == 2) == 1`, "true"},
	{`find([1, 2], # > three) == 1 or first(filter(["a"], # > text)) == "a" or get([1, 2], 5) in [0]`, "false"},
	{`(half > 1 ? 1 : nil) == 1`, "false"}, {`(half < 1 ? 1 : nil) == 1`, "true"},

	// The language's findLast and findLastIndex lose the operand to their left.
	{`1 == findLastIndex(list, # == 2) and 3 == findLast(list, # > 1) and 2 + findLastIndex(list, # < 3) == 3`, "true"},
	{`3 == last(filter(list, # > 1)) and [1, findLast(list, true)] == [1, 3] and zero != findLast(list, # > 9)`, "true"},
	{`findLast(lines, .qty == 2).id == "z" and findLastIndex(lines, .qty == 1) == 1 and findLastIndex(["a", text], # < "z") == 1`, "true"},

	// Sorting is stable, and repeat() is bounded.
	{`map(sortBy(lines, .qty), .id) == ["y", "x", "z"] and map(sortBy(lines, .qty, "desc"), .id) == ["x", "z", "y"]`, "true"},
	{`repeat(text, 1000000) == ""`, "repeat: a text of 2 bytes 1000000 times is longer than 1048576 bytes"},
	{`repeat(text, 2) == "abab" and split(at, "T", three - 1)[0] == "2024-01-01"`, "true"},

	// What depends on a zone, a clock or an order is refused, and so is every value that has methods.
	{`date(at).Local().Hour() < 12`, "refused: uses date(), which gives a time, which depends on the time zone of the worker (at 1:1 of the expression)"},
	{`date(at).Unix() > 0`, "refused: uses date(), which gives a time, which depends on the time zone of the worker (at 1:1 of the expression)"},
	{`let f = date(at); string(f) == ""`, "refused: uses date(), which gives a time, which depends on the time zone of the worker (at 1:9 of the expression)"},
	{`duration("1h").Hours() > 0`, "refused: uses duration(), which gives a duration, which no event holds (at 1:1 of the expression)"},
	{`timezone("Local") == nil`, "refused: uses timezone(), which gives a time zone, which no event holds (at 1:1 of the expression)"},
	{`now() > at`, "refused: uses now(), which depends on the clock of the worker (at 1:1 of the expression)"},
	{`at.Local() == at`, "refused: calls the method Local(), and values of events have none (at 1:4 of the expression)"},
	{`object.p() == 1`, "refused: calls the method p(), and values of events have none (at 1:8 of the expression)"},
	{`at == b"abc"`, `refused: has a text of bytes (b"..."), which no event holds (at 1:7 of the expression)`},
	{`keys(object)[0] == "p"`, "refused: uses keys(), which depends on the order of an object's fields, which is not fixed (at 1:1 of the expression)"},
	{`groupBy(list, #)[1] == [1]`, "refused: uses groupBy(), which depends on the order of an object's fields, which is not fixed (at 1:1 of the expression)"},
	{`check(at)`, "refused: calls check(), which is not a function (at 1:1 of the expression)"},
	{"yes &&\n  now() > at", "refused: uses now(), which depends on the clock of the worker (at 2:3 of the expression)"},
	{`string(object) == "map[p:1]" and string(1e21) == "1e+21" and toJSON(list) == "[\n  1,\n  2,\n  3\n]"`, "true"},
	{`at >= "2024-01-01T00:00:00Z" and upper(text) == "AB" and type(three) == "float"`, "true"},
}

func TestAnswers(t *testing.T) {
	for _, c := range answers {
		t.Run(c[0], func(t *testing.T) { require.Equal(t, c[1], answer(t, c[0])) })
	}
}

// zoneVariable makes this test binary a child that looks at the answers under another time zone.
const zoneVariable = "MILLRACE_TEST_ZONE"

func TestAnswersUnderEveryZone(t *testing.T) {
	if zone := os.Getenv(zoneVariable); zone != "" {
		there, err := time.LoadLocation(zone)
		require.NoError(t, err)
		_, want := time.Unix(0, 0).In(there).Zone()
		_, got := time.Unix(0, 0).Zone()
		require.Equal(t, want, got, "the child runs under another zone")
		for _, c := range answers {
			require.Equal(t, c[1], answer(t, c[0]), c[0])
		}
		return
	}
	for _, zone := range []string{"UTC", "Asia/Tokyo", "America/St_Johns"} {
		t.Run(zone, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestAnswersUnderEveryZone$", "-test.v")
			child.Env = append(os.Environ(), "TZ="+zone, zoneVariable+"="+zone)
			out, err := child.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Contains(t, string(out), "--- PASS: TestAnswersUnderEveryZone")
		})
	}
}

// Every function that the language has is either listed as available or refused: also one that a later version adds.
func TestFunctionsAreListed(t *testing.T) {
	for name := range available {
		_, exists := builtin.Index[name]
		require.True(t, exists, name)
	}
	for _, f := range builtin.Builtins {
		source := f.Name + "(list)"
		if f.Predicate {
			source = f.Name + "(list, true)"
		}
		_, err := Compile(source + " == nil")
		if available[f.Name] {
			if err != nil {
				require.ErrorContains(t, err, "does not compile", "only for its arguments")
			}
			continue
		}
		require.ErrorContains(t, err, "uses "+f.Name+"()")
	}
}

func TestFields(t *testing.T) {
	w, err := Compile(`amount > 10 && order.state in ["new", "paid"] && $env["user id"] != nil && any(lines, .qty > least)`)
	require.NoError(t, err)
	require.Equal(t, []string{"amount", "least", "lines", "order", "user id"}, w.Fields)
	w, err = Compile(`date > 1 && now == nil && values != keys`) // fields that only look like functions
	require.NoError(t, err)
	require.Equal(t, []string{"date", "keys", "now", "values"}, w.Fields)
	for source, problem := range map[string]string{
		`amount >`:          "does not compile: unexpected token EOF (at 1:8 of the expression)",
		`"text"`:            "does not compile: gives a text, and not true or false",
		`$env == nil`:       `does not compile: $env must name its field, as in $env["order id"]`,
		`$env[name] == nil`: `does not compile: $env must name its field, as in $env["order id"]`,
	} {
		_, err := Compile(source)
		require.EqualError(t, err, problem, source)
	}
}
