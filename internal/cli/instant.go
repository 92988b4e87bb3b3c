package cli

import (
	"strconv"
	"time"
)

// parseInstant reads a time; name is the flag or argument that gives it.
func parseInstant(name, text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), nil
	}
	return time.Time{}, usagef("%s is %q; want RFC 3339 such as 2001-01-01T00:00:00Z, or milliseconds since 1970", name, text)
}
