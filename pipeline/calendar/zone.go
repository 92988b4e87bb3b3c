package calendar

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sort"
	"sync"
	"time"
)

// database is the IANA time zone database, release 2025c, as lib/time/zoneinfo.zip of Go 1.26 has it. It is in the public
// domain. A newer release is a new file here: it changes the version of every spec that names a zone.
//
//go:embed zoneinfo.zip
var database []byte

// UTC is the zone of calendars that name none.
const UTC = "UTC"

// ErrZone means that the database has no zone of that name.
var ErrZone = errors.New("no such time zone")

// Zone is one time zone of the database. It is immutable and safe for concurrent use.
type Zone struct {
	name  string
	spans []span // all of time, ascending
}

// span is a time over which a zone keeps one offset: from ≤ t < to, all in seconds. The first span begins at
// math.MinInt64, the last one ends at math.MaxInt64. Neighbours differ in their offsets.
type span struct {
	from, to int64
	offset   int64 // of the local clock from UTC
}

// DataHash identifies the database: 16 hexadecimal digits of a hash over its bytes.
func DataHash() string { return dataHash() }

var dataHash = sync.OnceValue(func() string {
	sum := sha256.Sum256(database)
	return hex.EncodeToString(sum[:8])
})

// files are the zones of the database by name.
var files = sync.OnceValues(func() (map[string]*zip.File, error) {
	archive, err := zip.NewReader(bytes.NewReader(database), int64(len(database)))
	if err != nil {
		return nil, fmt.Errorf("embedded time zones: %w", err)
	}
	byName := make(map[string]*zip.File, len(archive.File))
	for _, f := range archive.File {
		if !f.FileInfo().IsDir() {
			byName[f.Name] = f
		}
	}
	return byName, nil
})

// Zones lists the names of all zones, sorted.
func Zones() []string {
	byName, err := files()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(byName))
}

var zones sync.Map // name -> *Zone

// LoadZone returns the zone with an IANA name such as Europe/Berlin, or UTC. Errors wrap ErrZone for an unknown name.
func LoadZone(name string) (*Zone, error) {
	if known, ok := zones.Load(name); ok {
		return known.(*Zone), nil
	}
	byName, err := files()
	if err != nil {
		return nil, err
	}
	file := byName[name]
	if file == nil {
		return nil, fmt.Errorf("%w: %q", ErrZone, name)
	}
	content, err := file.Open()
	if err != nil {
		return nil, fmt.Errorf("embedded time zone %s: %w", name, err)
	}
	data, err := io.ReadAll(content)
	if err = errors.Join(err, content.Close()); err != nil {
		return nil, fmt.Errorf("embedded time zone %s: %w", name, err)
	}
	location, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		return nil, fmt.Errorf("embedded time zone %s: %w", name, err)
	}
	zone, _ := zones.LoadOrStore(name, &Zone{name, spansOf(location)})
	return zone.(*Zone), nil
}

// lastTransition bounds the transitions that are looked for, in seconds: no event time is later.
var lastTransition = time.Date(2263, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// spansOf walks over all transitions of a location.
func spansOf(location *time.Location) []span {
	offsetAt := func(sec int64) int64 {
		_, offset := time.Unix(sec, 0).In(location).Zone()
		return int64(offset)
	}
	first := time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC).Unix() // no zone has a transition before
	spans := []span{{from: math.MinInt64, to: math.MaxInt64, offset: offsetAt(first)}}
	for at := first; ; {
		_, bound := time.Unix(at, 0).In(location).ZoneBounds()
		if bound.IsZero() {
			return spans
		}
		// Where a zone follows a rule, ZoneBounds also ends at the end of each year, and in a leap year a day before that. So
		// a bound is a place to look at, and only another offset makes it a transition.
		next := bound.Unix()
		if next <= at {
			next = at - floorMod(at, daySeconds) + daySeconds
		}
		if next > lastTransition {
			return spans
		}
		last := &spans[len(spans)-1]
		if offset := offsetAt(next); offset != last.offset {
			last.to = next
			spans = append(spans, span{from: next, to: math.MaxInt64, offset: offset})
		}
		at = next
	}
}

// spanAt returns the span that holds a time in seconds.
func (z *Zone) spanAt(sec int64) span {
	i := sort.Search(len(z.spans), func(i int) bool { return sec < z.spans[i].to })
	return z.spans[min(i, len(z.spans)-1)]
}

// transitions lists the zone's transitions in from ≤ t < to, in seconds.
func (z *Zone) transitions(from, to int64) []int64 {
	var list []int64
	for _, s := range z.spans[1:] {
		if from <= s.from && s.from < to {
			list = append(list, s.from)
		}
	}
	return list
}
