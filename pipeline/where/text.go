package where

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// maxRepeat bounds the text that repeat() makes, in bytes.
const maxRepeat = 1 << 20

// repeatable passes on a text that may be repeated so often.
func repeatable(text, times any) any {
	s, ok := text.(string)
	n, whole := toWhole(times)
	if ok && whole && n > 0 && len(s) > maxRepeat/n {
		fail(fmt.Errorf("repeat: a text of %d bytes %d times is longer than %d bytes", len(s), n, maxRepeat))
	}
	return text
}

// fromJSON reads the numbers of a text as those of the event are read: an integer within int64 keeps its digits, however it
// is written.
func fromJSON(v any) any {
	text, ok := v.(string)
	if !ok {
		fail(fmt.Errorf("invalid argument for fromJSON (type %s)", WordOf(v)))
	}
	in := json.NewDecoder(strings.NewReader(text))
	in.UseNumber()
	var value any
	err := in.Decode(&value)
	if err == nil {
		if _, err = in.Token(); err == io.EOF { //nolint:errorlint // Token returns io.EOF itself
			return plainNumbers(value)
		}
		err = fmt.Errorf("something follows the document")
	}
	fail(fmt.Errorf("fromJSON: %w", err))
	return nil
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		return plainNumber(string(v))
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = plainNumbers(v[name])
		}
	}
	return v
}

// plainNumber makes an integer that is written with a point or an exponent a float where a float64 holds it exactly.
func plainNumber(literal string) any {
	if n, err := strconv.Atoi(literal); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(literal, 64) // beyond float64 it is an infinity, as in the event
	if size := math.Abs(f); size < 1<<53 || size > 1<<63 {
		return f
	}
	// The exponent is no larger than the literal is long, so the exact value is not either.
	exact, ok := new(big.Rat).SetString(literal)
	if !ok || !exact.IsInt() || !exact.Num().IsInt64() {
		return f
	}
	if n := int(exact.Num().Int64()); !withinInt(f) || int(f) != n {
		return n
	}
	return f
}
