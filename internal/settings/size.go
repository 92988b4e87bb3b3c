package settings

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as such or with one of KiB, MiB, GiB, TiB.
type Size int64

var units = []struct {
	name  string
	shift uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"", 0}}

const wantSize = "bytes, or a number with KiB, MiB, GiB or TiB, such as 4GiB"

// String implements pflag.Value.
func (s *Size) String() string {
	if *s == 0 {
		return ""
	}
	for _, u := range units {
		if int64(*s)%(1<<u.shift) == 0 {
			return strconv.FormatInt(int64(*s)>>u.shift, 10) + u.name
		}
	}
	return ""
}

// Type implements pflag.Value.
func (s *Size) Type() string { return kindSize }

// Set implements pflag.Value.
func (s *Size) Set(text string) error {
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n <= 0 || n > (1<<62)>>u.shift {
			break
		}
		*s = Size(n << u.shift)
		return nil
	}
	return fmt.Errorf("%q is no size; want %s", text, wantSize)
}
