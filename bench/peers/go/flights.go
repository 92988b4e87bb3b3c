package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// flight is one line of the flights example. Times are in seconds, the delay is in minutes.
type flight struct {
	Scheduled   int64  `json:"scheduled"`
	Reported    int64  `json:"reported"`
	Origin      string `json:"origin"`
	Destination string `json:"destination"`
	Delay       int64  `json:"delay"`
	Distance    int64  `json:"distance"`

	origin int64 // index among the origins
}

// readFlights returns the flights in the order of the file, and their origins in alphabetical order.
func readFlights(name string) (flights []flight, origins []string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		var f flight
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, nil, fmt.Errorf("%s, line %d: %w", name, len(flights)+1, err)
		}
		flights = append(flights, f)
		origins = append(origins, f.Origin)
	}
	slices.Sort(origins)
	origins = slices.Compact(origins)
	for i := range flights {
		index, _ := slices.BinarySearch(origins, flights[i].Origin)
		flights[i].origin = int64(index)
	}
	return flights, origins, lines.Err()
}

// eachFlight calls fn with the flights, copy after copy, each copy later than the one before by its share of the span.
func (w *Workload) eachFlight(fn func(Event)) {
	var buf []byte
	for c := range w.Copies {
		shift := c * w.Span / w.Copies / 1000
		for _, f := range w.flights {
			f.Scheduled += shift
			f.Reported += shift
			buf = f.appendTo(buf[:0])
			fn(Event{Key: f.origin, At: f.Scheduled * 1000, Value: f.Delay, json: buf})
		}
	}
}

// appendTo appends the flight as a line of the example is written.
func (f flight) appendTo(b []byte) []byte {
	return fmt.Appendf(b, `{"scheduled":%d,"reported":%d,"origin":"%s","destination":"%s","delay":%d,"distance":%d}`,
		f.Scheduled, f.Reported, f.Origin, f.Destination, f.Delay, f.Distance)
}
