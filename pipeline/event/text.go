package event

import (
	"unicode/utf16"
	"unicode/utf8"
)

// unescape appends the text of a JSON string that the scanner has accepted, as UTF-8. A surrogate without its other half,
// which JSON can express (\ud800) and UTF-8 cannot, becomes the three bytes that UTF-8's scheme would give it, so that
// texts which differ in nothing else stay different. AppendString turns it back into its escape. Pairs never come apart,
// so two texts have equal bytes exactly when they are equal.
func unescape(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		i += 2
		switch c = text[i-1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(text[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				var low rune
				if i+6 <= len(text) && text[i] == '\\' && text[i+1] == 'u' {
					low, _ = hex4(text[i+2:])
				}
				pair := utf16.DecodeRune(r, low)
				if pair == utf8.RuneError {
					dst = appendSurrogate(dst, r)
					continue
				}
				r = pair
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

const surrogateBytes = 3

func appendSurrogate(dst []byte, r rune) []byte {
	return append(dst, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
}

// surrogateAt returns the surrogate without its other half that text begins with, if it does. No UTF-8 begins so.
func surrogateAt(text []byte) (rune, bool) {
	if len(text) < surrogateBytes || text[0] != 0xED || text[1]&0xE0 != 0xA0 || text[2]&0xC0 != 0x80 {
		return 0, false
	}
	return 0xD000 | rune(text[1]&0x3F)<<6 | rune(text[2]&0x3F), true
}

// ValidText reports whether text is one that a record's string can have: UTF-8, save for surrogates without their other
// half.
func ValidText(text []byte) bool {
	for !utf8.Valid(text) {
		r, size := utf8.DecodeRune(text)
		for r != utf8.RuneError || size != 1 {
			text = text[size:]
			r, size = utf8.DecodeRune(text)
		}
		if _, ok := surrogateAt(text); !ok {
			return false
		}
		text = text[surrogateBytes:]
	}
	return true
}

// hex4 reads the four hexadecimal digits of a \u escape.
func hex4(text []byte) (rune, bool) {
	if len(text) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range text[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
