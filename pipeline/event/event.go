// Package event turns the bytes of one record into an Event: event time, key and the field values that aggregates need.
// A Decoder is compiled once from a spec; it validates the whole document in one pass, extracts only what the spec
// mentions and allocates nothing per event in steady state.
package event

import (
	"millrace/pipeline/spec"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds of a Value.
const (
	Null   Kind = iota // the field is null: there is no value to aggregate
	Int                // a number that is an integer within int64, however it is written, or an integer literal beyond
	Float              // any other number
	String             // a string
	Bool               // true or false
)

// Value is one scalar field of an event.
type Value struct {
	Kind  Kind
	Big   bool    // Int only: an integer literal beyond int64; Int is 0, Float is the nearest and Str the literal
	Int   int64   // Int; for Bool 1 is true
	Float float64 // set for Int as well, as the nearest float64
	Str   []byte  // String: the text, unescaped; valid until the next Decode and as long as the record's bytes
}

// Event is one decoded record. Its slices are valid until the Decoder's next Decode.
type Event struct {
	Time     int64   // event time in nanoseconds since the Unix epoch
	Key      []byte  // canonical encoding, see KeyJSON
	Values   []Value // by slot, see Slots
	Filtered bool    // the spec's where says false
}

// Slots lists the distinct field paths that aggregates read, in order of first use.
func Slots(s *spec.Spec) []string {
	var slots []string
	seen := make(map[string]bool)
	for _, a := range s.Aggregates {
		if a.Field != "" && !seen[a.Field] {
			seen[a.Field] = true
			slots = append(slots, a.Field)
		}
	}
	return slots
}

// SlotOf returns the index in Event.Values that aggregate i of the spec reads, or -1 when it reads none (count).
func SlotOf(s *spec.Spec, i int) int {
	field := s.Aggregates[i].Field
	if field == "" {
		return -1
	}
	for slot, name := range Slots(s) {
		if name == field {
			return slot
		}
	}
	return -1
}
