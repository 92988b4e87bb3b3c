package calendar

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/long"
)

// period is what the periods of a unit longer than an hour are named by on the local clock; names only grow.
func period(unit Unit, date time.Time) int {
	year, month, day := date.Date()
	switch unit {
	case Day:
		return (year*100+int(month))*100 + day
	case Week:
		monday := date.AddDate(0, 0, -(int(date.Weekday())+6)%7)
		year, month, day = monday.Date()
		return (year*100+int(month))*100 + day
	case Month:
		return year*100 + int(month)
	case Quarter:
		return year*10 + (int(month)-1)/3
	}
	return year
}

// clockHour names the hour that a clock shows; names grow unless the clock is put back.
func clockHour(t time.Time) int {
	year, month, day := t.Date()
	return ((year*100+int(month))*100+day)*100 + t.Hour()
}

// search finds the bounds of every unit after from and before to by looking at the clock step by step, in milliseconds.
func search(zone *time.Location, from, to int64, step time.Duration) map[Unit][]int64 {
	bounds, latest := map[Unit][]int64{}, map[Unit]int{}
	before := clockHour(time.UnixMilli(from).Add(-step).In(zone))
	shown := -1 // the day of the month at the last look
	for at := from; at < to; at += step.Milliseconds() {
		now := time.UnixMilli(at).In(zone)
		hour := clockHour(now)
		if at > from && (now.Minute() == 0 && now.Second() == 0 || hour > before) {
			bounds[Hour] = append(bounds[Hour], at)
		}
		before = hour
		year, month, day := now.Date()
		if day == shown {
			continue
		}
		shown = day
		// The clock names a period in the calendar's own time, so that no offset is added twice.
		date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
		for _, unit := range Units()[1:] {
			p := period(unit, date)
			if p > latest[unit] && at > from {
				bounds[unit] = append(bounds[unit], at)
			}
			latest[unit] = max(latest[unit], p)
		}
	}
	return bounds
}

// listed is what Bounds says of [from, to).
func listed(c *Calendar, from, to int64) []int64 {
	var bounds []int64
	for _, at := c.Bounds(from); at < to; _, at = c.Bounds(at) {
		bounds = append(bounds, at)
	}
	return bounds
}

func at(t *testing.T, text string) int64 {
	t.Helper()
	when, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return when.UnixMilli()
}

// location reads a zone of the database as the standard library does.
func location(t *testing.T, name string) *time.Location {
	t.Helper()
	byName, err := files()
	require.NoError(t, err)
	file, err := byName[name].Open()
	require.NoError(t, err)
	data, err := io.ReadAll(file)
	require.NoError(t, err)
	loc, err := time.LoadLocationFromTZData(name, data)
	require.NoError(t, err)
	return loc
}

// oddZones have offsets and transitions that are easily got wrong.
var oddZones = []string{
	"UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "America/Caracas",
	"America/Havana", "America/Santiago", "America/Asuncion", "America/Scoresbysund", "Asia/Kathmandu", "Asia/Tehran", "Asia/Beirut",
	"Asia/Gaza", "Asia/Amman", "Asia/Pyongyang", "Asia/Kolkata", "Africa/Casablanca", "Africa/Cairo", "Africa/Monrovia", "Australia/Lord_Howe",
	"Antarctica/Troll", "Pacific/Apia", "Pacific/Kwajalein", "Pacific/Kiritimati", "Pacific/Chatham", "Pacific/Norfolk", "Pacific/Enderbury",
}

func TestBoundsAreWhatTheClockShows(t *testing.T) {
	for _, name := range oddZones {
		zone, err := LoadZone(name)
		require.NoError(t, err)
		points := zone.transitions(horizonStart+10*daySeconds, at(t, "2040-01-01T00:00:00Z")/1000)
		if len(points) > 24 { // the first ones are the oddest, the last ones follow a rule
			points = append(points[:18:18], points[len(points)-6:]...)
		}
		points = append(points, at(t, "2024-03-01T00:00:00Z")/1000)
		require.Equal(t, Hour, Units()[0])
		for _, p := range points {
			step, around := time.Minute, int64(30*hourSeconds)
			if p%60 != 0 || name == "Africa/Monrovia" {
				step, around = time.Second, hourSeconds
			}
			from, to := (p-around)/60*60*1000, (p+around)/60*60*1000
			want := search(location(t, name), from, to, step)
			for _, unit := range Units() {
				c, err := New(unit, name)
				require.NoError(t, err)
				require.Equal(t, want[unit], listed(c, from, to), "%s around %s", c, time.Unix(p, 0).UTC())
			}
		}
	}
}

func TestBoundsSecondBySecond(t *testing.T) {
	for _, c := range []struct{ zone, from, to string }{
		{"Europe/Berlin", "2023-03-25T22:30:00Z", "2023-03-27T02:00:00Z"},
		{"America/St_Johns", "2010-11-06T23:00:00Z", "2010-11-08T05:00:00Z"},
		{"Pacific/Apia", "2011-12-29T09:00:00Z", "2012-01-01T12:00:00Z"},
	} {
		from, to := at(t, c.from), at(t, c.to)
		want := search(location(t, c.zone), from, to, time.Second)
		for _, unit := range []Unit{Hour, Day} {
			grid, err := New(unit, c.zone)
			require.NoError(t, err)
			require.NotEmpty(t, want[unit])
			require.Equal(t, want[unit], listed(grid, from, to), grid.String())
		}
	}
}

// TestDays names the days that the clocks of a zone make odd.
func TestDays(t *testing.T) {
	for _, c := range []struct{ name, zone, in, start, end string }{
		{"23 hours", "Europe/Berlin", "2023-03-26T12:00:00Z", "2023-03-25T23:00:00Z", "2023-03-26T22:00:00Z"},
		{"25 hours", "Europe/Berlin", "2023-10-29T00:30:00Z", "2023-10-28T22:00:00Z", "2023-10-29T23:00:00Z"},
		{"the day before one that is missing", "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
		{"the day after one that is missing", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"its first minute twice: the first", "America/St_Johns", "2010-11-07T02:30:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"the clock shows the day before again", "America/St_Johns", "2010-11-07T02:31:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"its first minute twice: the second", "America/St_Johns", "2010-11-07T03:30:30Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"without midnight", "America/Sao_Paulo", "2018-11-04T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		{"put back over midnight", "America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
		{"at a quarter to the hour", "Asia/Kathmandu", "2023-06-01T18:15:00Z", "2023-06-01T18:15:00Z", "2023-06-02T18:15:00Z"},
		{"before 1970", "Europe/Berlin", "1969-12-31T23:30:00Z", "1969-12-31T23:00:00Z", "1970-01-01T23:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			days, err := New(Day, c.zone)
			require.NoError(t, err)
			start, end := days.Bounds(at(t, c.in))
			require.Equal(t, c.start, time.UnixMilli(start).UTC().Format(time.RFC3339))
			require.Equal(t, c.end, time.UnixMilli(end).UTC().Format(time.RFC3339))
		})
	}
}

func TestLongPeriods(t *testing.T) {
	for _, c := range []struct {
		unit           Unit
		in, start, end string
	}{
		{Week, "2024-01-03T12:00:00Z", "2023-12-31T23:00:00Z", "2024-01-07T23:00:00Z"},
		{Month, "2023-10-29T00:30:00Z", "2023-09-30T22:00:00Z", "2023-10-31T23:00:00Z"},
		{Month, "2024-02-29T12:00:00Z", "2024-01-31T23:00:00Z", "2024-02-29T23:00:00Z"},
		{Quarter, "2023-12-31T22:59:59Z", "2023-09-30T22:00:00Z", "2023-12-31T23:00:00Z"},
		{Year, "2023-12-31T23:00:00Z", "2023-12-31T23:00:00Z", "2024-12-31T23:00:00Z"},
	} {
		calendar, err := New(c.unit, "Europe/Berlin")
		require.NoError(t, err)
		start, end := calendar.Bounds(at(t, c.in))
		require.Equal(t, c.start, time.UnixMilli(start).UTC().Format(time.RFC3339), calendar.String())
		require.Equal(t, c.end, time.UnixMilli(end).UTC().Format(time.RFC3339), calendar.String())
	}
}

// TestOffsetsAreTheLibrarys looks at every zone there is, at both sides of its transitions and every few days between.
func TestOffsetsAreTheLibrarys(t *testing.T) {
	from, to := at(t, "1840-01-01T00:00:00Z")/1000, at(t, "2262-01-01T00:00:00Z")/1000
	step := int64(241*hourSeconds + 13)
	if long.Wanted {
		step = 61*hourSeconds + 13
	}
	for _, name := range Zones() {
		zone, err := LoadZone(name)
		require.NoError(t, err)
		loc := location(t, name)
		compare := func(sec int64) {
			if _, want := time.Unix(sec, 0).In(loc).Zone(); int64(want) != zone.spanAt(sec).offset {
				require.Equal(t, int64(want), zone.spanAt(sec).offset, "%s at %s", name, time.Unix(sec, 0).UTC())
			}
		}
		for sec := from; sec < to; sec += step {
			compare(sec)
		}
		for _, sec := range zone.transitions(from, to) {
			compare(sec - 1)
			compare(sec)
		}
	}
}

// TestEveryTimeLiesInOnePeriod holds for every zone there is, at its transitions.
func TestEveryTimeLiesInOnePeriod(t *testing.T) {
	require.Greater(t, len(Zones()), 500)
	for _, name := range Zones() {
		zone, err := LoadZone(name)
		require.NoError(t, err)
		for _, unit := range Units() {
			c, err := New(unit, name)
			require.NoError(t, err)
			for _, p := range zone.transitions(at(t, "1800-01-01T00:00:00Z")/1000, at(t, "2030-01-01T00:00:00Z")/1000) {
				for _, ms := range []int64{p*1000 - 1, p * 1000, p*1000 + 1} {
					start, end := c.Bounds(ms)
					first, same := c.Bounds(start)
					before, last := c.Bounds(start - 1)
					if start > ms || ms >= end || first != start || same != end || last != start || before >= start {
						require.Fail(t, "periods overlap or leave a gap", "%s at %d: %d to %d, before it %d to %d", c, ms, start, end, before, last)
					}
				}
			}
		}
	}
}

func TestSplit(t *testing.T) {
	const minute, hour, day = 60_000, 3_600_000, 86_400_000
	grid := func(unit Unit, zone string) Grid {
		c, err := New(unit, zone)
		require.NoError(t, err)
		return c
	}
	for _, c := range []struct {
		name  string
		unit  Unit
		zone  string
		child Grid
		fits  bool
	}{
		{"hours in a day of UTC", Day, "UTC", Steps{Size: hour}, true},
		{"hours in a day of Berlin", Day, "Europe/Berlin", Steps{Size: hour}, true},
		{"two hours in a day of Berlin", Day, "Europe/Berlin", Steps{Size: 2 * hour}, false},
		{"hours in a day of Kathmandu", Day, "Asia/Kathmandu", Steps{Size: hour}, false},
		{"quarters of an hour in a day of Kathmandu", Day, "Asia/Kathmandu", Steps{Size: 15 * minute}, true},
		{"hours in a day of St John's", Day, "America/St_Johns", Steps{Size: hour}, false},
		{"minutes in a day of St John's", Day, "America/St_Johns", Steps{Size: minute}, true},
		{"seven minutes in an hour", Hour, "UTC", Steps{Size: 7 * minute}, false},
		{"minutes in an hour of Lord Howe", Hour, "Australia/Lord_Howe", Steps{Size: minute}, true},
		{"half hours in an hour of Lord Howe", Hour, "Australia/Lord_Howe", Steps{Size: 30 * minute}, true},
		{"hours in an hour of Lord Howe", Hour, "Australia/Lord_Howe", Steps{Size: hour}, false},
		{"seconds of an offset that is no whole minute", Day, "Africa/Monrovia", Steps{Size: minute}, false},
		{"half minutes of it", Day, "Africa/Monrovia", Steps{Size: minute / 2}, true},
		{"hours with an offset", Day, "UTC", Steps{Size: hour, Offset: 30 * minute}, false},
		{"days from 23:00", Day, "UTC", Steps{Size: day, Offset: 23 * hour}, false},
		{"a day longer than the hour", Hour, "UTC", Steps{Size: day}, false},
		{"seven days from Monday in a week", Week, "UTC", Steps{Size: 7 * day, Offset: 4 * day}, true},
		{"seven days from Thursday in a week", Week, "UTC", Steps{Size: 7 * day}, false},
		{"two days in a month", Month, "UTC", Steps{Size: 2 * day}, false},
		{"days in a month", Month, "Europe/Berlin", grid(Day, "Europe/Berlin"), true},
		{"days of another zone in a month", Month, "Europe/Berlin", grid(Day, "UTC"), false},
		// Rome changed its clocks at midnight in 1970, so its days are not Berlin's.
		{"days of a zone that is like it today", Month, "Europe/Berlin", grid(Day, "Europe/Rome"), false},
		{"hours of UTC in a day of Berlin", Day, "Europe/Berlin", grid(Hour, "UTC"), true},
		{"hours of Kathmandu in a day of Berlin", Day, "Europe/Berlin", grid(Hour, "Asia/Kathmandu"), false},
		{"hours in a day of St John's, of its own", Day, "America/St_Johns", grid(Hour, "America/St_Johns"), true},
		{"hours in a day of Lord Howe, of its own", Day, "Australia/Lord_Howe", grid(Hour, "Australia/Lord_Howe"), true},
		{"days of Apia in a year", Year, "Pacific/Apia", grid(Day, "Pacific/Apia"), true},
		{"months in a quarter", Quarter, "Europe/Berlin", grid(Month, "Europe/Berlin"), true},
		{"quarters in a year", Year, "Europe/Berlin", grid(Quarter, "Europe/Berlin"), true},
		{"weeks in a month", Month, "UTC", grid(Week, "UTC"), false},
		{"weeks in a year", Year, "UTC", grid(Week, "UTC"), false},
		{"months in a week", Week, "UTC", grid(Month, "UTC"), false},
		{"days in a week", Week, "America/Sao_Paulo", grid(Day, "America/Sao_Paulo"), true},
		{"days in an hour", Hour, "UTC", grid(Day, "UTC"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent, err := New(c.unit, c.zone)
			require.NoError(t, err)
			ms, found := parent.Split(c.child)
			require.Equal(t, c.fits, !found, time.UnixMilli(ms).UTC())
			if !found {
				return
			}
			require.True(t, isBound(parent, ms))
			require.False(t, isBound(c.child, ms))
		})
	}
}

func TestGrain(t *testing.T) {
	for zone, minutes := range map[string]float64{
		"UTC": 24 * 60, "Europe/Berlin": 60, "Asia/Kathmandu": 15, "America/St_Johns": 30, "Australia/Lord_Howe": 30, "Africa/Monrovia": 0.5,
	} {
		c, err := New(Day, zone)
		require.NoError(t, err)
		require.Equal(t, int64(minutes*60_000), c.Grain(), zone)
		_, found := c.Split(Steps{Size: c.Grain()})
		require.False(t, found, zone)
	}
}

// TestSplitLooksEverywhere compares what Split samples with every bound, for days.
func TestSplitLooksEverywhere(t *testing.T) {
	for _, name := range oddZones {
		parent, err := New(Day, name)
		require.NoError(t, err)
		hours, err := New(Hour, name)
		require.NoError(t, err)
		for _, child := range []Grid{Steps{Size: 3_600_000}, Steps{Size: 1_800_000}, Steps{Size: 60_000}, hours} {
			_, sampled := parent.Split(child)
			_, found := parent.splitAnywhere(child)
			require.Equal(t, found, sampled, "%s of %v", parent, child)
		}
	}
}

func TestZonesAreTheEmbeddedOnes(t *testing.T) {
	t.Setenv("ZONEINFO", "/nowhere")
	require.Equal(t, "8f55634d05f8bca1", DataHash())
	for _, name := range []string{"", "Local", "Europe", "Europe/", "../etc/passwd", "Mars/Phobos", "europe/berlin"} {
		_, err := LoadZone(name)
		require.ErrorIs(t, err, ErrZone, name)
	}
	_, err := New("fortnight", UTC)
	require.ErrorIs(t, err, ErrUnit)

	// A zone that the machine has otherwise is still the embedded one.
	dir := t.TempDir()
	other, err := os.ReadFile("zoneinfo.zip")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/zoneinfo.zip", other[:len(other)/2], 0o600))
	t.Setenv("ZONEINFO", dir+"/zoneinfo.zip")
	zone, err := LoadZone("Asia/Kathmandu")
	require.NoError(t, err)
	require.Equal(t, int64(20_700), zone.spanAt(at(t, "2024-01-01T00:00:00Z")/1000).offset)
}

func BenchmarkBounds(b *testing.B) {
	c, err := New(Day, "Europe/Berlin")
	require.NoError(b, err)
	b.ReportAllocs()
	ms := time.Date(2024, 3, 31, 12, 0, 0, 0, time.UTC).UnixMilli()
	for b.Loop() {
		c.Bounds(ms)
	}
}
