package shadow

import (
	"cmp"
	"slices"

	"millrace/pipeline/shadow/plan"
)

// spans is a set of times, ms: those that the windows of a plan are made of.
type spans struct{ list []span }

type span struct{ from, to int64 } // to is not in it

// spansOf joins what the windows cover.
func spansOf(windows []plan.Window) *spans {
	all := make([]span, len(windows))
	for i := range windows {
		all[i] = span{windows[i].Start, windows[i].End}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	s := new(spans)
	for _, x := range all {
		if n := len(s.list); n > 0 && x.from <= s.list[n-1].to {
			s.list[n-1].to = max(s.list[n-1].to, x.to)
			continue
		}
		s.list = append(s.list, x)
	}
	return s
}

// holds reports whether the instant is in the set.
func (s *spans) holds(ms int64) bool {
	i, found := slices.BinarySearchFunc(s.list, ms, func(x span, ms int64) int { return cmp.Compare(x.from, ms) })
	return found || i > 0 && ms < s.list[i-1].to
}
