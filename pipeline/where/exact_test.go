package where

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/expr-lang/expr/vm"
	"github.com/stretchr/testify/require"
)

func compiled(t testing.TB, source string) *Expression {
	t.Helper()
	e, err := Compile(source)
	require.NoError(t, err)
	return e
}

// FuzzIntegers holds the arithmetic of integers against math/big: the right result, or a failure where it is no int64.
func FuzzIntegers(f *testing.F) {
	for _, x := range []int64{0, 1, -1, 2, 4, math.MaxInt64, math.MinInt64, math.MinInt64 / 2, 1 << 31, 3037000500} {
		f.Add(x, int64(-1))
		f.Add(x, x)
	}
	operations := map[string]func(z, x, y *big.Int) *big.Int{"+": (*big.Int).Add, "-": (*big.Int).Sub, "*": (*big.Int).Mul, "%": (*big.Int).Rem}
	programs := map[string]*Expression{}
	for sign := range operations {
		programs[sign] = compiled(f, "x "+sign+" y == want")
	}
	f.Fuzz(func(t *testing.T, x, y int64) {
		for sign, operation := range operations {
			env := map[string]any{"x": int(x), "y": int(y), "want": 0}
			if sign == "%" && y == 0 {
				_, err := vm.Run(programs[sign].Program, env)
				require.ErrorContains(t, err, "division by zero")
				continue
			}
			want := operation(new(big.Int), big.NewInt(x), big.NewInt(y))
			if want.IsInt64() {
				env["want"] = int(want.Int64())
				result, err := vm.Run(programs[sign].Program, env)
				require.NoError(t, err)
				require.Equal(t, true, result, "%d %s %d", x, sign, y)
				continue
			}
			_, err := vm.Run(programs[sign].Program, env)
			require.ErrorContains(t, err, fmt.Sprintf("%d %s %d is beyond int64", x, sign, y))
		}
	})
}

// FuzzComparisons holds comparisons of integers with floats against math/big, between fields as with literals.
func FuzzComparisons(f *testing.F) {
	for _, x := range []int64{0, 3, -3, 1 << 53, 1<<53 + 1, -1<<53 - 1, math.MaxInt64, math.MinInt64} {
		f.Add(x, float64(x))
		f.Add(x, math.Nextafter(float64(x), 0))
		f.Add(x, math.Inf(1))
	}
	fields := compiled(f, "[x == y, x != y, x < y, x <= y, x > y, x >= y, y < x, x in [y], max(x, y) == x] == want")
	f.Fuzz(func(t *testing.T, x int64, y float64) {
		if math.IsNaN(y) {
			return
		}
		order := new(big.Float).SetInt64(x).Cmp(big.NewFloat(y))
		want := []any{order == 0, order != 0, order < 0, order <= 0, order > 0, order >= 0, order > 0, order == 0, order >= 0}
		result, err := vm.Run(fields.Program, map[string]any{"x": int(x), "y": y, "want": want})
		require.NoError(t, err)
		require.Equal(t, true, result, "%d %v", x, y)
		if math.IsInf(y, 0) {
			return
		}
		for sign, holds := range map[string]bool{"==": order == 0, "<": order < 0, ">=": order >= 0} {
			literal := new(big.Float).SetFloat64(y).Text('f', 1) // exact, as y has at most one digit behind the point
			if back, ok := new(big.Rat).SetString(literal); !ok || back.Cmp(new(big.Rat).SetFloat64(y)) != 0 {
				return
			}
			e, err := Compile("x " + sign + " " + literal)
			require.NoError(t, err, literal)
			result, err := vm.Run(e.Program, map[string]any{"x": int(x)})
			require.NoError(t, err)
			require.Equal(t, holds, result, "%d %s %s", x, sign, literal)
		}
	})
}

// What is checked costs no memory and no reflection: integers below 256 are not even boxed.
func TestExactOperatorsDoNotAllocate(t *testing.T) {
	e := compiled(t, `x * 4 + y > z && x != y && -x < y`)
	env := map[string]any{"x": 3, "y": 5, "z": 16}
	var machine vm.VM
	run := func() {
		result, err := machine.Run(e.Program, env)
		if err != nil || result != true {
			t.Fatal(result, err)
		}
	}
	run()
	require.LessOrEqual(t, testing.AllocsPerRun(100, run), 1.0) // -3 is boxed
}
