package spec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a Go duration such as 1h30m or 250ms, optionally led by whole days: 1d, 2d12h.
func ParseDuration(text string) (Duration, error) {
	if head, tail, found := strings.Cut(text, "d"); found {
		negative := strings.HasPrefix(head, "-")
		days, err := strconv.ParseInt(head, 10, 64)
		if err != nil || days > int64(math.MaxInt64/day) || days < int64(math.MinInt64/day) {
			return 0, fmt.Errorf("%q is not a duration", text)
		}
		if tail == "" {
			return Duration(time.Duration(days) * day), nil
		}
		if tail[0] == '-' || tail[0] == '+' {
			return 0, fmt.Errorf("%q is not a duration", text)
		}
		more, err := time.ParseDuration(tail)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration", text)
		}
		if negative {
			more = -more
		}
		sum := time.Duration(days)*day + more
		if (sum < 0) != negative && sum != 0 {
			return 0, fmt.Errorf("%q is longer than a duration can be", text)
		}
		return Duration(sum), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	return Duration(d), nil
}

// String renders d for people, in days and what is left of them: 1h rather than 1h0m0s, 100d30s rather than 2400h0m30s.
// ParseDuration reads it back exactly.
func (d Duration) String() string {
	days, rest := d/Duration(day), d%Duration(day)
	switch {
	case days == 0:
		return rest.canonical()
	case rest == 0:
		return d.canonical()
	}
	return strconv.FormatInt(int64(days), 10) + "d" + max(rest, -rest).canonical()
}

// canonical renders d as it stands in the canonical JSON of a spec, and so in its state id: it may not change. Days are
// named only where nothing else is.
func (d Duration) canonical() string {
	std := time.Duration(d)
	if std != 0 && std%day == 0 {
		return strconv.FormatInt(int64(std/day), 10) + "d"
	}
	text := std.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText implements encoding.TextMarshaler, which JSON and YAML use.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.canonical()), nil }

// UnmarshalText implements encoding.TextUnmarshaler, which JSON and YAML use.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
