package where

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

var errDivideByZero = errors.New("division by zero")

// fail ends the run of an expression: the VM turns the panic of a function into the error of the run.
func fail(err error) {
	panic(err) //nolint:forbidigo // functions that the VM calls without allocating have no other way to fail
}

func failOperands(op string, a, b any) {
	fail(fmt.Errorf("invalid operation: %s %s %s", WordOf(a), op, WordOf(b)))
}

// widen makes a byte, which is what indexing a text gives, an integer like every other.
func widen(v any) any {
	if c, ok := v.(uint8); ok {
		return int(c)
	}
	return v
}

// operation is one arithmetic operator. Two integers give an integer or fail; a float among them makes it one of floats.
type operation struct {
	sign   string
	ints   func(x, y int) (result int, fits bool)
	floats func(x, y float64) float64
}

var (
	sum        = operation{"+", addInts, func(x, y float64) float64 { return x + y }}
	difference = operation{"-", subtractInts, func(x, y float64) float64 { return x - y }}
	product    = operation{"*", multiplyInts, func(x, y float64) float64 { return x * y }}
)

func (o *operation) apply(a, b any) any {
	switch x := a.(type) {
	case int:
		switch y := b.(type) {
		case int:
			result, fits := o.ints(x, y)
			if !fits {
				fail(fmt.Errorf("%d %s %d is beyond int64", x, o.sign, y))
			}
			return result
		case float64:
			return o.float(float64(x), y)
		case uint8:
			return o.apply(a, int(y))
		}
	case float64:
		switch y := b.(type) {
		case int:
			return o.float(x, float64(y))
		case float64:
			return o.float(x, y)
		case uint8:
			return o.apply(a, int(y))
		}
	case uint8:
		return o.apply(int(x), b)
	}
	failOperands(o.sign, a, b)
	return nil
}

func (o *operation) float(x, y float64) any { return finite(o.floats(x, y), o.sign, x, y) }

// finite fails on a result that is no number, or an infinity that only the operation made.
func finite(result float64, sign string, x, y float64) float64 {
	if math.IsNaN(result) || math.IsInf(result, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		fail(fmt.Errorf("%v %s %v is beyond float64", x, sign, y))
	}
	return result
}

func addInts(x, y int) (int, bool) {
	z := x + y
	return z, z > x == (y > 0)
}

func subtractInts(x, y int) (int, bool) {
	z := x - y
	return z, z < x == (y > 0)
}

func multiplyInts(x, y int) (int, bool) {
	high, low := bits.Mul64(magnitude(x), magnitude(y))
	if x < 0 != (y < 0) {
		return -int(low), high == 0 && low <= 1<<63
	}
	return int(low), high == 0 && low < 1<<63
}

func magnitude(x int) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

func add(a, b any) any {
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return x + y
		}
	}
	return sum.apply(a, b)
}

func subtract(a, b any) any { return difference.apply(a, b) }

func multiply(a, b any) any { return product.apply(a, b) }

func negate(v any) any {
	switch x := widen(v).(type) {
	case int:
		return subtract(0, x)
	case float64:
		return -x
	}
	fail(fmt.Errorf("invalid operation: - %s", WordOf(v)))
	return nil
}

// divide always gives a float, as the language says.
func divide(a, b any) any {
	x, y := floats("/", a, b)
	if y == 0 {
		fail(errDivideByZero)
	}
	return finite(x/y, "/", x, y)
}

func power(a, b any) any {
	x, y := floats("**", a, b)
	return finite(math.Pow(x, y), "**", x, y)
}

func floats(sign string, a, b any) (x, y float64) {
	x, first := toFloat(a)
	y, second := toFloat(b)
	if !first || !second {
		failOperands(sign, a, b)
	}
	return x, y
}

func toFloat(v any) (float64, bool) {
	switch x := widen(v).(type) {
	case int:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

// modulo is for integers, however they are written: 3.0 is the integer 3. The result has the sign of a.
func modulo(a, b any) any {
	x, first := toWhole(a)
	y, second := toWhole(b)
	switch {
	case !first || !second:
		_, first = toFloat(a)
		if _, second = toFloat(b); first && second {
			fail(fmt.Errorf("%v %% %v: %% takes integers", a, b))
		}
		failOperands("%", a, b)
	case y == 0:
		fail(errDivideByZero)
	}
	return x % y
}

// toWhole returns a number as an integer if it is one within int64.
func toWhole(v any) (int, bool) {
	switch x := widen(v).(type) {
	case int:
		return x, true
	case float64:
		if x == math.Trunc(x) && withinInt(x) {
			return int(x), true
		}
	}
	return 0, false
}

// withinInt reports whether the integer part of f is an int. The limits are exact as float64; infinities are outside.
func withinInt(f float64) bool { return f >= -1<<63 && f < 1<<63 }

// place makes a number that counts or indexes an integer, and leaves everything else to what it indexes. The language
// would cut fractions off, and what it made of numbers beyond int64 would differ from machine to machine.
func place(v any) any {
	if f, ok := v.(float64); ok {
		n, whole := toWhole(f)
		if !whole {
			fail(fmt.Errorf("%v is no place in a list or text: not an integer within int64", f))
		}
		return n
	}
	return v
}

// maxRange bounds the ends of a range, so that its length cannot wrap. The VM bounds the length itself.
const maxRange = 1 << 53

func rangeEnd(v any) any {
	n, whole := toWhole(v)
	if !whole || n < -maxRange || n > maxRange {
		fail(fmt.Errorf("%v cannot end a range: not an integer from -2^53 to 2^53", v))
	}
	return n
}

func toInt(v any) any {
	switch x := widen(v).(type) {
	case int:
		return x
	case float64:
		if !withinInt(x) {
			fail(fmt.Errorf("int(%v) is beyond int64", x))
		}
		return int(x)
	case string:
		n, err := strconv.Atoi(x)
		if err != nil {
			fail(fmt.Errorf("int(%q): not an integer within int64", x))
		}
		return n
	}
	fail(fmt.Errorf("invalid operation: int(%s)", WordOf(v)))
	return nil
}

func toFloatOrFail(v any) any {
	if text, ok := v.(string); ok {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			fail(fmt.Errorf("float(%q): not a number within float64", text))
		}
		return f
	}
	f, ok := toFloat(v)
	if !ok {
		fail(fmt.Errorf("invalid operation: float(%s)", WordOf(v)))
	}
	return f
}

func absolute(v any) any {
	switch x := widen(v).(type) {
	case int:
		if x < 0 {
			return negate(x)
		}
		return x
	case float64:
		return math.Abs(x)
	}
	fail(fmt.Errorf("invalid argument for abs (type %s)", WordOf(v)))
	return nil
}

// rounding makes a function that rounds floats; integers are what they are, where the language would make them floats
// and lose digits.
func rounding(name string, round func(float64) float64) func(any) any {
	return func(v any) any {
		switch x := widen(v).(type) {
		case int:
			return x
		case float64:
			return round(x)
		}
		fail(fmt.Errorf("invalid argument for %s (type %s)", name, WordOf(v)))
		return nil
	}
}

func shiftLeft(a, b any) any {
	x, first := widen(a).(int)
	y, second := widen(b).(int)
	switch {
	case !first || !second:
		failOperands("bitshl", a, b)
	case y < 0:
		fail(fmt.Errorf("bitshl(%d, %d): negative shift count", x, y))
	case x != 0 && (y >= 64 || x<<y>>y != x):
		fail(fmt.Errorf("bitshl(%d, %d) is beyond int64", x, y))
	}
	return x << y
}

// finiteMean passes on the result of mean or median, which reckon in float64.
func finiteMean(v any) any {
	f, _ := toFloat(v)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		fail(errors.New("the mean is beyond float64"))
	}
	return f
}
