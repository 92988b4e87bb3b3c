package where

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// compareNumbers compares two numbers exactly, also an integer with a float beyond 2^53, where a float64 no longer has
// a place for every integer. ok is false when a or b is no number. No number is a NaN.
func compareNumbers(a, b any) (order int, ok bool) {
	switch x := widen(a).(type) {
	case int:
		switch y := widen(b).(type) {
		case int:
			return cmp.Compare(x, y), true
		case float64:
			return compareMixed(x, y), true
		}
	case float64:
		switch y := widen(b).(type) {
		case int:
			return -compareMixed(y, x), true
		case float64:
			return cmp.Compare(x, y), true
		}
	}
	return 0, false
}

func compareMixed(x int, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := math.Trunc(f)
	if order := cmp.Compare(x, int(whole)); order != 0 {
		return order
	}
	return cmp.Compare(whole, f)
}

func compareOrFail(sign string, a, b any) int {
	if order, ok := compareNumbers(a, b); ok {
		return order
	}
	x, first := a.(string)
	y, second := b.(string)
	if !first || !second {
		failOperands(sign, a, b)
	}
	return cmp.Compare(x, y)
}

func less(a, b any) bool { return compareOrFail("<", a, b) < 0 }

func lessOrEqual(a, b any) bool { return compareOrFail("<=", a, b) <= 0 }

func more(a, b any) bool { return compareOrFail(">", a, b) > 0 }

func moreOrEqual(a, b any) bool { return compareOrFail(">=", a, b) >= 0 }

// equal compares any two values; values of different types are not equal, save that a number is a number.
func equal(a, b any) bool {
	if order, ok := compareNumbers(a, b); ok {
		return order == 0
	}
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case nil:
		return b == nil
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && equalObjects(x, y)
	}
	x, first := listOf(a)
	y, second := listOf(b)
	return first && second && slices.EqualFunc(x, y, equal)
}

func notEqual(a, b any) bool { return !equal(a, b) }

func equalObjects(x, y map[string]any) bool {
	if len(x) != len(y) {
		return false
	}
	for name, value := range x {
		other, found := y[name]
		if !found || !equal(value, other) {
			return false
		}
	}
	return true
}

// listOf returns a list of the event, or one that the language has made, as values.
func listOf(v any) ([]any, bool) {
	switch list := v.(type) {
	case []any:
		return list, true
	case []int:
		return valuesOf(list), true
	case []string:
		return valuesOf(list), true
	}
	return nil, false
}

func valuesOf[T any](list []T) []any {
	values := make([]any, len(list))
	for i, v := range list {
		values[i] = v
	}
	return values
}

func listOrFail(name string, v any) []any {
	list, ok := listOf(v)
	if !ok {
		fail(fmt.Errorf("invalid argument for %s (type %s)", name, WordOf(v)))
	}
	return list
}

// contains is the operator in. Nothing is in nil.
func contains(needle, haystack any) bool {
	switch in := haystack.(type) {
	case nil:
		return false
	case map[string]any:
		name, ok := needle.(string)
		if !ok {
			failOperands("in", needle, haystack)
		}
		_, found := in[name]
		return found
	}
	if ints, ok := haystack.([]int); ok { // a range, which may be long
		n, whole := toWhole(needle)
		return whole && slices.Contains(ints, n)
	}
	list, ok := listOf(haystack)
	if !ok {
		fail(fmt.Errorf(`operator "in" not defined on %s`, WordOf(haystack)))
	}
	return slices.ContainsFunc(list, func(v any) bool { return equal(v, needle) })
}

// extreme makes max or min, which look for the first largest or smallest number in lists of lists.
func extreme(name string, sign int) func(any) any {
	var search func(best any, v any) any
	search = func(best, v any) any {
		if list, ok := listOf(v); ok {
			for _, item := range list {
				best = search(best, item)
			}
			return best
		}
		if _, ok := toFloat(v); !ok {
			fail(fmt.Errorf("invalid argument for %s (type %s)", name, WordOf(v)))
		}
		if best == nil {
			return v
		}
		if order, _ := compareNumbers(v, best); order*sign > 0 {
			return v
		}
		return best
	}
	return func(arguments any) any { return search(nil, arguments) }
}

func unique(v any) any {
	kept := []any{}
	for _, item := range listOrFail("uniq", v) {
		if !slices.ContainsFunc(kept, func(k any) bool { return equal(k, item) }) {
			kept = append(kept, item)
		}
	}
	return kept
}

// sortList sorts numbers or texts. Sorting is stable: what is equal stays in the order of the event.
func sortList(list, order any) any {
	return sortByValues([]any{list, list}, order)
}

// sortByValues sorts the first list of two by the second.
func sortByValues(lists, order any) any {
	two := listOrFail("sort", lists)
	list, by := listOrFail("sort", two[0]), listOrFail("sort", two[1])
	sign := 1
	switch order {
	case "asc":
	case "desc":
		sign = -1
	default:
		fail(fmt.Errorf("invalid order %v, expected asc or desc", order))
	}
	places := make([]int, len(list))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(i, j int) int { return sign * compareOrFail("<", by[i], by[j]) })
	sorted := make([]any, len(list))
	for i, at := range places {
		sorted[i] = list[at]
	}
	return sorted
}

func total(v any) any {
	var all any = 0
	for _, item := range listOrFail("sum", v) {
		all = add(all, item)
	}
	return all
}
