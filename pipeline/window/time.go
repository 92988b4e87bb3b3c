package window

import "time"

// AppendTime appends a time in milliseconds as everything published writes it: RFC 3339 in UTC, with no more fraction
// digits than it needs.
func AppendTime(dst []byte, ms int64) []byte {
	return time.UnixMilli(ms).UTC().AppendFormat(dst, time.RFC3339Nano)
}

// FormatTime is AppendTime as a string.
func FormatTime(ms int64) string { return string(AppendTime(nil, ms)) }

// ParseTime reads RFC 3339 into milliseconds, cutting off what is finer.
func ParseTime(text string) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, err
	}
	return t.UnixMilli(), nil
}
