package event

import "math"

const (
	nsPerSecond    = 1_000_000_000
	secondsPerDay  = 86_400
	daysBefore1970 = 719_468 // from 0000-03-01, where the reckoning below begins
)

// timeReader turns a token into nanoseconds since 1970.
type timeReader struct {
	shift int   // power of ten from the unit to nanoseconds
	unit  int64 // nanoseconds in the unit
	text  bool  // RFC 3339
	name  string
}

func newTimeReader(unit string) timeReader {
	switch unit {
	case "rfc3339":
		return timeReader{text: true}
	case "s":
		return timeReader{shift: 9, unit: 1e9, name: "seconds"}
	case "ms":
		return timeReader{shift: 6, unit: 1e6, name: "milliseconds"}
	case "us":
		return timeReader{shift: 3, unit: 1e3, name: "microseconds"}
	}
	return timeReader{shift: 0, unit: 1, name: "nanoseconds"}
}

// Unit returns how many nanoseconds a unit of event times has, and its name; 0 and "" for rfc3339.
func Unit(unit string) (nanos int64, name string) {
	r := newTimeReader(unit)
	return r.unit, r.name
}

// number reads a number of units. Digits finer than a nanosecond are dropped, towards the past.
func (r *timeReader) number(t *token, data []byte) (int64, bool) {
	if t.kind == smallInt {
		if limit := math.MaxInt64 / r.unit; t.num <= limit && t.num >= -limit {
			return t.num * r.unit, true
		}
		return 0, false
	}
	return parseDecimal(data[t.start:t.end]).floor(r.shift)
}

// parseRFC3339 reads a date and time such as 2001-01-01T05:00:00.25-06:00, without allocating. Digits finer than a
// nanosecond are dropped; a leap second is refused, as in package time.
func parseRFC3339(text []byte) (int64, bool) {
	if len(text) < len("2006-01-02T15:04:05Z") || text[4] != '-' || text[7] != '-' || text[10]|0x20 != 't' ||
		text[13] != ':' || text[16] != ':' {
		return 0, false
	}
	year := two(text[0:])*100 + two(text[2:])
	month, day := two(text[5:]), two(text[8:])
	hour, minute, second := two(text[11:]), two(text[14:]), two(text[17:])
	if two(text[0:]) < 0 || two(text[2:]) < 0 || month < 1 || month > 12 || day < 1 || day > daysIn(month, year) ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 {
		return 0, false
	}
	fraction, rest, ok := fractionOf(text[19:])
	if !ok {
		return 0, false
	}
	zone, ok := zoneOf(rest)
	if !ok {
		return 0, false
	}
	days := daysSince1970(year, month, day)
	seconds := int64(days)*secondsPerDay + int64(hour*3600+minute*60+second) - int64(zone)
	// The second that holds the smallest int64 lies partly outside; it is refused with the rest of 1677.
	if seconds > math.MaxInt64/nsPerSecond-1 || seconds < math.MinInt64/nsPerSecond+1 {
		return 0, false
	}
	return seconds*nsPerSecond + fraction, true
}

// two reads two decimal digits; the result is far below zero when they are something else.
func two(text []byte) int {
	a, b := text[0]-'0', text[1]-'0'
	if a > 9 || b > 9 {
		return -1 << 20
	}
	return int(a)*10 + int(b)
}

func fractionOf(text []byte) (ns int64, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '.' {
		return 0, text, true
	}
	i, scale := 1, int64(nsPerSecond/10)
	for ; i < len(text) && text[i]-'0' <= 9; i++ {
		ns += int64(text[i]-'0') * scale
		scale /= 10
	}
	return ns, text[i:], i > 1
}

// zoneOf reads Z or an offset, in seconds east of Greenwich.
func zoneOf(text []byte) (seconds int, ok bool) {
	if len(text) == 1 {
		return 0, text[0]|0x20 == 'z'
	}
	if len(text) != 6 || text[3] != ':' || text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	hour, minute := two(text[1:]), two(text[4:])
	if hour < 0 || hour > 23 || minute < 0 || minute > 59 {
		return 0, false
	}
	if seconds = hour*3600 + minute*60; text[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

func daysIn(month, year int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts days in the proleptic Gregorian calendar; years begin in March so that a leap day comes last.
func daysSince1970(year, month, day int) int {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - daysBefore1970
}
