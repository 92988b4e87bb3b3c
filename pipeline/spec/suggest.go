package spec

import (
	"strings"
	"unicode"
)

// Nearest returns the candidate most like name, or "" when none is close enough to be what was meant.
func Nearest(name string, candidates []string) string {
	if len(name) > 64 {
		return ""
	}
	best, found := (len(name)+2)/3, ""
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(name), candidate); d <= best && (found == "" || d < best) {
			best, found = d, candidate
		}
	}
	return found
}

// distance counts the single-character insertions, deletions and replacements between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// unprintable reports characters that YAML and JSON do not both carry as they are.
func unprintable(c rune) bool {
	switch c {
	case '\t', '\n', '\r':
		return false
	case 0xFEFF, 0xFFFE, 0xFFFF, unicode.ReplacementChar:
		return true
	}
	return unicode.IsControl(c)
}
