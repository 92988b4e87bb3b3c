package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays of a record may nest.
const MaxDepth = 256

// tokenKind is what stands at a wanted place of the document.
type tokenKind uint8

const (
	absent tokenKind = iota
	null
	boolean   // num is 0 or 1
	smallInt  // an integer literal of up to 18 digits; num is its value
	number    // any other number literal
	plain     // a string without escapes
	escaped   // a string with escapes
	container // an object or array
)

// token is where a wanted value stands in the record, and what it is. Strings are without their quotes.
type token struct {
	kind       tokenKind
	start, end int
	num        int64
}

// scanner validates a document in one pass and leaves the wanted values in tokens.
type scanner struct {
	tokens []token // by leaf
	name   []byte  // an unescaped field name
	reason Reason  // why scanning stopped
	offset int     // and at which byte
}

// stop notes why scanning cannot go on; its result, -1, is handed up by every caller.
func (s *scanner) stop(reason Reason, offset int) int {
	s.reason, s.offset = reason, offset
	return -1
}

// space returns the first place at or after i that holds no white space.
func space(data []byte, i int) int {
	const blanks = 1<<' ' | 1<<'\t' | 1<<'\n' | 1<<'\r'
	for i < len(data) && data[i] <= ' ' && uint64(blanks)>>data[i]&1 != 0 {
		i++
	}
	return i
}

// document scans a whole record. It returns false when the record is not JSON; object reports whether it is an object.
func (s *scanner) document(data []byte, root *node) (object, ok bool) {
	clear(s.tokens)
	i := space(data, 0)
	if object = i < len(data) && data[i] == '{'; object {
		i = s.object(data, i+1, root, 1)
	} else {
		i = s.skip(data, i, 0)
	}
	if i < 0 {
		return object, false
	}
	if i = space(data, i); i < len(data) {
		s.stop(NotJSON, i)
		return object, false
	}
	return object, true
}

// object scans from behind the brace to behind the closing one. n says which fields are wanted; nil means none.
func (s *scanner) object(data []byte, i int, n *node, depth int) int {
	if depth > MaxDepth {
		return s.stop(TooDeep, i-1)
	}
	if i = space(data, i); i < len(data) && data[i] == '}' {
		return i + 1
	}
	for at := 0; ; at++ {
		var child *node
		if n == nil {
			i = s.anyName(data, i)
		} else if child, i = n.guess(data, i, at); i < 0 {
			child, i = s.wantedName(data, -i-1, n, at)
		}
		if i < 0 {
			return -1
		}
		if child == nil {
			i = s.skip(data, i, depth)
		} else {
			i = s.field(data, i, child, depth)
		}
		if i < 0 {
			return -1
		}
		if i < len(data) && data[i] <= ' ' {
			i = space(data, i)
		}
		if i >= len(data) {
			return s.stop(NotJSON, i)
		}
		switch data[i] {
		case ',':
			i++
			if i < len(data) && data[i] <= ' ' {
				i = space(data, i)
			}
		case '}':
			return i + 1
		default:
			return s.stop(NotJSON, i)
		}
	}
}

// anyName scans a field name nobody wants and its colon, up to the value.
func (s *scanner) anyName(data []byte, i int) int {
	if i >= len(data) || data[i] != '"' {
		return s.stop(NotJSON, i)
	}
	if i, _ = s.str(data, i+1); i < 0 {
		return -1
	}
	return s.colon(data, i)
}

// wantedName scans a field name and its colon, and finds the child of n it names, if any.
func (s *scanner) wantedName(data []byte, i int, n *node, at int) (*node, int) {
	if i >= len(data) || data[i] != '"' {
		return nil, s.stop(NotJSON, i)
	}
	end, esc := s.str(data, i+1)
	if end < 0 {
		return nil, -1
	}
	name := data[i+1 : end-1]
	value := s.colon(data, end)
	if value < 0 {
		return nil, -1
	}
	if esc {
		s.name = unescape(s.name[:0], name)
		return n.child(s.name), value
	}
	child := n.child(name)
	n.learn(at, data[i:value], child)
	return child, value
}

func (s *scanner) colon(data []byte, i int) int {
	if i = space(data, i); i >= len(data) || data[i] != ':' {
		return s.stop(NotJSON, i)
	}
	return space(data, i+1)
}

// field scans a wanted value into its token, and descends where something inside it is wanted.
func (s *scanner) field(data []byte, i int, n *node, depth int) int {
	if i >= len(data) {
		return s.stop(NotJSON, i)
	}
	if len(n.children) > 0 { // a name given twice: the last one counts, also for what is inside it
		clear(s.tokens[n.leaf:n.high])
	}
	t := &s.tokens[n.leaf]
	t.start = i
	var end int
	switch data[i] {
	case '"':
		var esc bool
		if end, esc = s.str(data, i+1); end < 0 {
			return -1
		}
		t.kind, t.start, t.end = plain, i+1, end-1
		if esc {
			t.kind = escaped
		}
		return end
	case '{':
		inner := n
		if len(n.children) == 0 {
			inner = nil
		}
		t.kind = container
		end = s.object(data, i+1, inner, depth+1)
	case '[':
		t.kind = container
		end = s.array(data, i+1, depth+1)
	case 't':
		t.kind, t.num = boolean, 1
		end = s.word(data, i)
	case 'f':
		t.kind, t.num = boolean, 0
		end = s.word(data, i)
	case 'n':
		t.kind = null
		end = s.word(data, i)
	default:
		return s.number(data, i, t)
	}
	t.end = end
	return end
}

// skip scans a value nobody wants.
func (s *scanner) skip(data []byte, i, depth int) int {
	if i >= len(data) {
		return s.stop(NotJSON, i)
	}
	switch data[i] {
	case '"':
		i, _ = s.str(data, i+1)
		return i
	case '{':
		return s.object(data, i+1, nil, depth+1)
	case '[':
		return s.array(data, i+1, depth+1)
	case 't', 'f', 'n':
		return s.word(data, i)
	}
	return s.literal(data, i)
}

func (s *scanner) array(data []byte, i, depth int) int {
	if depth > MaxDepth {
		return s.stop(TooDeep, i-1)
	}
	if i = space(data, i); i < len(data) && data[i] == ']' {
		return i + 1
	}
	for {
		if i = s.skip(data, space(data, i), depth); i < 0 {
			return -1
		}
		if i = space(data, i); i >= len(data) {
			return s.stop(NotJSON, i)
		}
		switch data[i] {
		case ',':
			i++
		case ']':
			return i + 1
		default:
			return s.stop(NotJSON, i)
		}
	}
}

func (s *scanner) word(data []byte, i int) int {
	word := "true"
	switch data[i] {
	case 'f':
		word = "false"
	case 'n':
		word = "null"
	}
	if len(data)-i < len(word) || string(data[i:i+len(word)]) != word {
		return s.stop(NotJSON, i)
	}
	return i + len(word)
}

// number scans a number into t.
func (s *scanner) number(data []byte, i int, t *token) int {
	start := i
	negative := data[i] == '-'
	if negative {
		i++
	}
	first := i
	var value uint64 // wraps for long literals, which then do not use it
	for i < len(data) {
		c := data[i] - '0'
		if c > 9 {
			break
		}
		value = value*10 + uint64(c)
		i++
	}
	if i-first > 18 || i < len(data) && (data[i] == '.' || data[i]|0x20 == 'e') {
		t.kind, t.start = number, start
		t.end = s.literal(data, start)
		return t.end
	}
	if i == first || i > first+1 && data[first] == '0' {
		return s.stop(NotJSON, i)
	}
	t.kind, t.start, t.end, t.num = smallInt, start, i, int64(value)
	if negative {
		t.num = -t.num
	}
	return i
}

// literal scans a number of any form.
func (s *scanner) literal(data []byte, i int) int {
	if data[i] == '-' {
		i++
	}
	first := i
	if i = digits(data, i); i == first || i > first+1 && data[first] == '0' {
		return s.stop(NotJSON, i)
	}
	if i < len(data) && data[i] == '.' {
		first = i + 1
		if i = digits(data, first); i == first {
			return s.stop(NotJSON, i)
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		first = i
		if i = digits(data, first); i == first {
			return s.stop(NotJSON, i)
		}
	}
	return i
}

func digits(data []byte, i int) int {
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	return i
}

// Eight bytes at a time: every byte of the constant is the same.
const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// str scans a string from behind its opening quote to behind the closing one, and reports whether it holds escapes.
func (s *scanner) str(data []byte, i int) (end int, esc bool) {
	for {
		// A byte's high bit is set in special when it is a quote, a backslash, a control character or not ASCII. Borrows
		// can set it wrongly only above a byte that has it rightly, so that the lowest one is right.
		for i+8 <= len(data) {
			w := binary.LittleEndian.Uint64(data[i:])
			special := (w | (w - ' '*ones) | ((w ^ '"'*ones) - ones) | ((w ^ '\\'*ones) - ones)) & highs
			if special != 0 {
				i += bits.TrailingZeros64(special) >> 3
				break
			}
			i += 8
		}
		for i < len(data) && data[i] >= ' ' && data[i] != '"' && data[i] != '\\' && data[i] < utf8.RuneSelf {
			i++
		}
		switch {
		case i >= len(data) || data[i] < ' ':
			return s.stop(NotJSON, i), false
		case data[i] == '"':
			return i + 1, esc
		case data[i] == '\\':
			esc = true
			if i = s.escape(data, i+1); i < 0 {
				return -1, false
			}
		default:
			r, size := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && size == 1 {
				return s.stop(BadUTF8, i), false
			}
			i += size
		}
	}
}

// escape scans from behind a backslash.
func (s *scanner) escape(data []byte, i int) int {
	if i >= len(data) {
		return s.stop(NotJSON, i)
	}
	switch data[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if _, ok := hex4(data[i+1:]); ok {
			return i + 5
		}
	}
	return s.stop(NotJSON, i)
}
