package event

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// numberTime reads one literal as the decoder does.
func numberTime(unit, literal string) (int64, bool) {
	var s scanner
	var t token
	if s.number([]byte(literal), 0, &t) != len(literal) {
		return 0, false
	}
	r := newTimeReader(unit)
	return r.number(&t, []byte(literal))
}

func TestNumberTime(t *testing.T) {
	for _, c := range []struct {
		unit, literal string
		want          int64
		ok            bool
	}{
		{"s", "978307260", 978307260e9, true},
		{"s", "-1", -1e9, true},
		{"s", "0", 0, true},
		{"s", "978307260.000000001", 978307260000000001, true},
		{"s", "978307260.1234567891", 978307260123456789, true},
		{"s", "-0.0000000001", -1, true},
		{"s", "-0.0", 0, true},
		{"s", "1.0000000000000000001", 1e9, true},
		{"s", "-1.0000000000000000001", -1e9 - 1, true},
		{"s", "9.7830726e8", 978307260e9, true},
		{"s", "978307260000e-3", 978307260e9, true},
		{"s", "9223372036", 9223372036e9, true},
		{"s", "9223372036.854775807", math.MaxInt64, true},
		{"s", "9223372036.8547758079999", math.MaxInt64, true},
		{"s", "9223372036.854775808", 0, false},
		{"s", "9223372037", 0, false},
		{"s", "-9223372036.854775808", math.MinInt64, true},
		{"s", "1e10", 0, false},
		{"s", "1e99999999999999999999", 0, false},
		{"s", "1e-99999999999999999999", 0, true},
		{"s", "-1e-99999999999999999999", -1, true},
		{"ms", "978307260123", 978307260123e6, true},
		{"ms", "978307260123.4567", 978307260123456700, true},
		{"us", "978307260123456", 978307260123456e3, true},
		{"ns", "978307260123456789", 978307260123456789, true},
		{"ns", "9223372036854775807", math.MaxInt64, true},
		{"ns", "9223372036854775808", 0, false},
		{"ns", "-9223372036854775808", math.MinInt64, true},
		{"ns", "1.5", 1, true},
	} {
		t.Run(c.unit+" "+c.literal, func(t *testing.T) {
			got, ok := numberTime(c.unit, c.literal)
			require.Equal(t, c.ok, ok)
			if ok {
				require.Equal(t, c.want, got)
			}
		})
	}
}

// FuzzNumberTime compares with exact rational arithmetic.
func FuzzNumberTime(f *testing.F) {
	f.Add(int64(978307260), uint64(5), -3, "s")
	f.Add(int64(math.MaxInt64), uint64(math.MaxUint64), 2, "ns")
	f.Add(int64(-1), uint64(1), -30, "ms")
	f.Fuzz(func(t *testing.T, whole int64, fraction uint64, exponent int, unit string) {
		factor, ok := map[string]int64{"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}[unit]
		if !ok || exponent > 60 || exponent < -60 {
			return
		}
		literal := fmt.Sprintf("%d.%de%d", whole, fraction, exponent)
		exact, ok := new(big.Rat).SetString(literal)
		require.True(t, ok)
		exact.Mul(exact, new(big.Rat).SetInt64(factor))
		want := new(big.Int).Div(exact.Num(), exact.Denom()) // floors, for the denominator is positive
		got, ok := numberTime(unit, literal)
		require.Equal(t, want.IsInt64(), ok, literal)
		if ok {
			require.Equal(t, want.Int64(), got, literal)
		}
	})
}

func TestRFC3339(t *testing.T) {
	for _, text := range []string{
		"2001-01-01T00:01:00Z", "2001-01-01T05:00:00.25-06:00", "2000-02-29T23:59:59.999999999+14:00", "1970-01-01t00:00:00z",
		"1969-12-31T23:59:59.5Z", "2262-04-11T23:47:15Z", "1677-09-21T00:12:45Z", "2024-12-31T00:00:00+00:00",
		"1900-03-01T00:00:00Z", "2100-02-28T12:00:00.1Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			want, err = time.Parse("2006-01-02t15:04:05z", text)
		}
		require.NoError(t, err)
		got, ok := parseRFC3339([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want.UnixNano(), got, text)
	}
	got, ok := parseRFC3339([]byte("2001-01-01T00:00:00.0000000019Z"))
	require.True(t, ok)
	require.Equal(t, int64(978307200000000001), got)
	for _, text := range []string{
		"", "2001-01-01", "2001-01-01 00:00:00Z", "2001-01-01T00:00:00", "2001-13-01T00:00:00Z", "2001-00-01T00:00:00Z",
		"2001-02-29T00:00:00Z", "2001-01-01T24:00:00Z", "2001-01-01T00:60:00Z", "2016-12-31T23:59:60Z", "2001-01-01T00:00:00.Z",
		"2001-01-01T00:00:00+0600", "2001-01-01T00:00:00+24:00", "2001-01-01T00:00:00Zx", "20010101T000000Z-----",
		"2263-01-01T00:00:00Z", "1600-01-01T00:00:00Z", "+001-01-01T00:00:00Z", "2001-01-01T00:00:-1Z",
	} {
		_, ok := parseRFC3339([]byte(text))
		require.False(t, ok, text)
	}
}

// rfc3339 is the grammar; package time alone is laxer (hours of one digit, offsets of 24 hours, decimal commas).
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzRFC3339 compares with package time.
func FuzzRFC3339(f *testing.F) {
	f.Add("2001-01-01T05:00:00.25-06:00")
	f.Add("2000-01-01T0:00:00+00:00")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseRFC3339([]byte(text))
		want, err := time.Parse(time.RFC3339, strings.ToUpper(text))
		valid := err == nil && rfc3339.MatchString(strings.ToUpper(text))
		if valid && (want.Year() < 1678 || want.Year() > 2261) {
			return
		}
		require.Equal(t, valid, ok)
		if ok {
			require.Equal(t, want.UnixNano(), got)
		}
	})
}
