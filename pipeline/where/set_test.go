package where

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The operator in finds in a list of literals what == finds, whatever the types on both sides are.
func TestInIsEquality(t *testing.T) {
	values := []string{"zero", "three", "half", "odd", "even", "top", "bottom", "huge", "yes", "text", "absent", "list", "object", "text[0]"}
	for _, literals := range []string{
		`"ab"`, `"ab", "cd"`, `""`, `"3"`, `"0", "0.5", "true"`, `0`, `3, 4`, `0, 1`, `3.0`, `0.5, 3`, `97`, `-1, 0`,
		`9007199254740993`, `9007199254740992`, `9007199254740992.0`, `9007199254740993, 9007199254740992`,
		`9223372036854775807`, `9223372036854775808.0`, `-9223372036854775808.0`, `1e300`, `true`, `false`, `nil`, `nil, ""`,
		`"ab", 3, 0.5, true, nil`, `"cd", 4, 1.5, false`,
	} {
		for _, value := range values {
			var either []string
			for _, literal := range strings.Split(literals, ", ") {
				either = append(either, fmt.Sprintf("[%s] == [%s]", value, literal)) // in lists, so that the types are not checked
			}
			in := fmt.Sprintf("%s in [%s]", value, literals)
			require.Equal(t, answer(t, strings.Join(either, " or ")), answer(t, in), in)
		}
	}
	require.Equal(t, "false", answer(t, `zero in []`))
}
