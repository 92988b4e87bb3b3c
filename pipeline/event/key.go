package event

import (
	"encoding/binary"
	"errors"

	"millrace/pipeline/spec"
)

// ErrKey reports bytes that are not an encoded key of the spec.
var ErrKey = errors.New("event: not an encoded key")

// An encoded key holds, for every key field in the order of the spec, one kind byte, the length of the text as an
// unsigned varint, and the text. Keys have equal bytes exactly when their fields are equal: 10, 10.0 and 1e1 are one key,
// "10" is another, and texts are compared by code points, without normalising them.
const (
	keyString = 's' // UTF-8; a surrogate without its other half as in unescape
	keyInt    = 'i' // the canonical text of a number that is an integer in digits
	keyFloat  = 'f' // the canonical text of any other number
	keyBool   = 'b' // true or false
)

// keyReader appends the values of key fields. It belongs to one Decoder.
type keyReader struct {
	text []byte // one value, where its text has to be made
}

// append appends one field of the key.
func (k *keyReader) append(dst []byte, t *token, data []byte) ([]byte, Reason) {
	kind, text := byte(keyInt), data[t.start:t.end]
	switch t.kind {
	case absent, null:
		return dst, Missing
	case container:
		return dst, WrongType
	case boolean:
		kind = keyBool
	case smallInt:
		if t.num == 0 {
			text = text[len(text)-1:] // -0
		}
	case number:
		var reason Reason
		if kind, text, reason = k.number(text); reason != "" {
			return dst, reason
		}
	case plain, escaped:
		if len(text) == 0 {
			return dst, EmptyKey
		}
		if kind = keyString; t.kind == escaped {
			k.text = unescape(k.text[:0], text)
			text = k.text
		}
	}
	dst = append(dst, kind)
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...), ""
}

func (k *keyReader) number(literal []byte) (kind byte, text []byte, reason Reason) {
	text, integer, ok := appendCanonical(k.text[:0], literal)
	k.text = text
	switch {
	case !ok:
		return 0, nil, NumberRange
	case integer:
		return keyInt, text, ""
	}
	return keyFloat, text, ""
}

// isInteger reports whether a literal is written without a point and an exponent.
func isInteger(literal []byte) bool {
	return digits(literal, 1) == len(literal)
}

// KeyJSON renders an encoded key as a JSON object with the key fields in the order of the spec: {"origin":"ATL"}.
func KeyJSON(s *spec.Spec, key []byte) ([]byte, error) { return AppendKeyJSON(nil, s, key) }

// AppendKeyJSON appends the JSON object of an encoded key. The error is ErrKey.
func AppendKeyJSON(dst []byte, s *spec.Spec, key []byte) ([]byte, error) {
	dst = append(dst, '{')
	for i, name := range s.Event.Key {
		if len(key) == 0 {
			return dst, ErrKey
		}
		kind := key[0]
		length, n := binary.Uvarint(key[1:])
		if n <= 0 || length > uint64(len(key)-1-n) {
			return dst, ErrKey
		}
		text := key[1+n : 1+n+int(length)]
		key = key[1+n+int(length):]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, []byte(name))
		dst = append(dst, ':')
		switch kind {
		case keyString:
			dst = AppendString(dst, text)
		case keyInt, keyFloat, keyBool:
			dst = append(dst, text...)
		default:
			return dst, ErrKey
		}
	}
	if len(key) > 0 {
		return dst, ErrKey
	}
	return append(dst, '}'), nil
}
