package event

import (
	"bytes"
	"encoding/binary"
)

// AppendKeyOf appends the encoded key that AppendKeyJSON has rendered as text. It reads that form alone, in which every key
// has one text: without white space, with numbers in their canonical form. The error is ErrKey for anything else.
func AppendKeyOf(dst, text []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(text, []byte{'{'})
	for first := true; ok; first = false {
		if len(rest) == 1 && rest[0] == '}' && !first {
			return dst, nil
		}
		if !first {
			if rest, ok = bytes.CutPrefix(rest, []byte{','}); !ok {
				break
			}
		}
		if _, rest, ok = cutText(rest); !ok { // the name of the field
			break
		}
		if rest, ok = bytes.CutPrefix(rest, []byte{':'}); ok {
			dst, rest, ok = appendFieldOf(dst, rest)
		}
	}
	return dst, ErrKey
}

// appendFieldOf appends the field whose value text begins with, and returns what follows the value.
func appendFieldOf(dst, text []byte) (key, rest []byte, ok bool) {
	if len(text) > 0 && text[0] == '"' {
		value, rest, ok := cutText(text)
		if !ok {
			return dst, nil, false
		}
		if bytes.IndexByte(value, '\\') >= 0 {
			value = unescape(nil, value)
		}
		return appendField(dst, keyString, value), rest, true
	}
	end := bytes.IndexAny(text, ",}")
	if end <= 0 {
		return dst, nil, false
	}
	value, rest := text[:end], text[end:]
	switch c := value[0]; {
	case string(value) == "true" || string(value) == "false":
		return appendField(dst, keyBool, value), rest, true
	case c != '-' && (c < '0' || c > '9'):
		return dst, nil, false
	case isInteger(value):
		return appendField(dst, keyInt, value), rest, true
	}
	return appendField(dst, keyFloat, value), rest, true
}

func appendField(dst []byte, kind byte, text []byte) []byte {
	dst = binary.AppendUvarint(append(dst, kind), uint64(len(text)))
	return append(dst, text...)
}

// cutText cuts the JSON string that text begins with, and returns what stands between its quotes.
func cutText(text []byte) (inner, rest []byte, ok bool) {
	if len(text) == 0 || text[0] != '"' {
		return nil, nil, false
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return text[1:i], text[i+1:], true
		case '\\':
			i++
		}
	}
	return nil, nil, false
}
