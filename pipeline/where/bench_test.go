package where

import (
	"testing"

	"github.com/expr-lang/expr/vm"
)

// BenchmarkIn looks a value up in lists of literals, the most common filter of all.
func BenchmarkIn(b *testing.B) {
	const few, many = `state in ["new", "paid", "sent"]`, `state in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "paid", "p"]`
	for _, c := range []struct {
		name, source string
		state        any
	}{
		{"texts", few, "paid"},
		{"texts_absent", few, "lost"},
		{"many_texts", many, "paid"},
		{"integers", `state in [1, 2, 3, 4]`, 3},
		{"integers_and_float", `state in [1, 2, 3, 4]`, 3.0},
		{"mixed", `state in ["a", 1, 2.5, true]`, "b"},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := compiled(b, c.source)
			env := map[string]any{"state": c.state}
			var machine vm.VM
			b.ReportAllocs()
			for b.Loop() {
				if _, err := machine.Run(e.Program, env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
