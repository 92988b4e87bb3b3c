package event

import (
	"fmt"
	"strings"
)

// Reason says why a record is no event. It travels in the dead-letter record's mr-reason header.
type Reason string

// The reasons for which Decode refuses a record.
const (
	Tombstone     Reason = "tombstone"       // the record has no value (a Kafka tombstone)
	NotJSON       Reason = "not_json"        // the value is not one well-formed JSON document
	BadUTF8       Reason = "bad_utf8"        // a string holds bytes that are not UTF-8
	TooDeep       Reason = "too_deep"        // objects and arrays nest deeper than MaxDepth
	NotObject     Reason = "not_object"      // the document is not an object
	Missing       Reason = "missing_field"   // a field is absent, or a key or time field is null
	WrongType     Reason = "wrong_type"      // a field holds a value of another type than the spec says
	BadTime       Reason = "bad_time"        // the event time cannot be read, or lies outside the years 1678 to 2261
	EmptyKey      Reason = "empty_key"       // a key field is an empty string
	KeyTooLarge   Reason = "key_too_large"   // the encoded key is longer than max_key_bytes
	ValueTooLarge Reason = "value_too_large" // a text for first or last is longer than max_value_bytes
	NumberRange   Reason = "number_range"    // a number is too large for its type: an integer beyond int64, a float beyond float64, a key with no canonical text
	FilterError   Reason = "filter_error"    // the where expression failed or gave no boolean
)

// Invalid is the error of Decode: the record is not an event and belongs on the dead-letter topic. It never changes
// after it was returned and may be kept.
type Invalid struct {
	Reason Reason
	Field  string // path of the field; empty when the document as a whole is meant
	Got    string // what stands there as written, cut to maxGot; objects and lists in a word; empty for nothing, or too much
	Want   string // what would be valid there; empty where the reason says it
	Offset int    // NotJSON, BadUTF8 and TooDeep: the byte at which reading stopped, from 0
	Limit  int    // KeyTooLarge and ValueTooLarge: the most bytes
	Err    error  // FilterError: what the expression reported
}

func (e *Invalid) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("%s: %v", e.Reason, e.Err)
	case e.Reason == KeyTooLarge:
		return fmt.Sprintf("%s: %s: the key takes more than the %d bytes of event.max_key_bytes", e.Reason, e.Field, e.Limit)
	case e.Reason == ValueTooLarge:
		return fmt.Sprintf("%s: %s takes more than the %d bytes of event.max_value_bytes", e.Reason, e.Field, e.Limit)
	case e.Field != "" && e.Got != "":
		return fmt.Sprintf("%s: %s is %s; want %s", e.Reason, e.Field, e.Got, e.Want)
	case e.Field != "":
		return fmt.Sprintf("%s: %s; want %s", e.Reason, e.Field, e.Want)
	case e.Got != "":
		return fmt.Sprintf("%s: the record is %s; want %s", e.Reason, e.Got, e.Want)
	case e.Reason == NotJSON || e.Reason == BadUTF8 || e.Reason == TooDeep:
		return fmt.Sprintf("%s: at byte %d", e.Reason, e.Offset)
	}
	return string(e.Reason)
}

// Unwrap returns what the where expression reported.
func (e *Invalid) Unwrap() error { return e.Err }

// maxGot bounds what an Invalid shows of a value, in bytes.
const maxGot = 64

// shown is the beginning of a text of the record.
func shown(text []byte) string {
	if len(text) <= maxGot {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:maxGot]), "") + "..."
}

// written is what stands at a token, as it is written but for objects and lists; empty when nothing does.
func (t *token) written(data []byte) string {
	switch t.kind {
	case absent:
		return ""
	case null:
		return "null"
	case boolean:
		if t.num == 0 {
			return "false"
		}
		return "true"
	case plain, escaped:
		return shown(data[t.start-1 : t.end+1]) // with its quotes
	case container:
		if data[t.start] == '{' {
			return "an object"
		}
		return "a list"
	}
	return shown(data[t.start:t.end])
}

// What would be valid.
const (
	wantObject   = "an object"
	wantScalar   = "a text, a number, true or false"
	wantText     = "a text"
	wantBool     = "true or false"
	wantNumber   = "a number"
	wantInteger  = "an integer"
	wantInt64    = "an integer within int64"
	wantFloat64  = "a number within float64"
	wantNonEmpty = "a text that is not empty"
	wantExponent = "a number whose exponent has up to 18 digits"
	withinYears  = ", within the years 1678 to 2261"
)

// wantOf says what a key field wants.
func (k *keyReader) wantOf(reason Reason) string {
	switch reason {
	case EmptyKey:
		return wantNonEmpty
	case NumberRange:
		return wantExponent
	}
	return wantScalar
}

// wantOf says what the event time wants.
func (r *timeReader) wantOf() string {
	if r.text {
		return "an RFC 3339 text such as \"2001-01-01T05:00:00Z\"" + withinYears
	}
	return "a number of " + r.name + " since 1970" + withinYears
}

// wantOf says what the aggregates of a slot want.
func (r *slotReader) wantOf(reason Reason) string {
	switch {
	case r.need&needString != 0:
		return wantText
	case r.need&needBool != 0:
		return wantBool
	case r.need&needInt != 0 && reason == NumberRange:
		return wantInt64
	case r.need&needInt != 0:
		return wantInteger
	case reason == NumberRange:
		return wantFloat64
	case r.need&needNumber != 0:
		return wantNumber
	}
	return wantScalar
}
