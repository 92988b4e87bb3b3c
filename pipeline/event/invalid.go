package event

import "fmt"

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
	case e.Field != "":
		return fmt.Sprintf("%s: %s", e.Reason, e.Field)
	case e.Reason == NotJSON || e.Reason == BadUTF8 || e.Reason == TooDeep:
		return fmt.Sprintf("%s: at byte %d", e.Reason, e.Offset)
	}
	return string(e.Reason)
}

// Unwrap returns what the where expression reported.
func (e *Invalid) Unwrap() error { return e.Err }
