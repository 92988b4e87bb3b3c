package contract

import (
	"fmt"
	"regexp"
	"strings"

	"millrace/pipeline/report"
)

// MissingGroup are lanes that are missing for one reason. Their texts differ in nothing but the lane and numbers.
type MissingGroup []report.LaneMissing

// maxLanesNamed is how many lanes of a group are named.
const maxLanesNamed = 16

// numbers are what may differ between the reasons of one group.
var numbers = regexp.MustCompile(`[0-9]+`)

// GroupMissing sorts lanes by their reason, in the order in which the reasons come first.
func GroupMissing(missing []report.LaneMissing) (groups []MissingGroup) {
	at := make(map[string]int)
	for _, m := range missing {
		alike := numbers.ReplaceAllString(strings.ReplaceAll(m.Reason, m.Lane().String(), "*"), "0")
		n, known := at[alike]
		if !known {
			n = len(groups)
			at[alike] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], m)
	}
	return groups
}

// MissingText names lanes and why they are missing: every reason once, those of the first few.
func MissingText(missing []report.LaneMissing) string {
	const shown = 5
	var parts []string
	groups := GroupMissing(missing)
	for _, g := range groups[:min(shown, len(groups))] {
		noun := "lanes "
		if len(g) == 1 {
			noun = "lane "
		}
		parts = append(parts, noun+g.String())
	}
	more := 0
	for _, g := range groups[len(parts):] {
		more += len(g)
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}

// String names the lanes and says the reason, of which lane where the lanes differ in it.
func (g MissingGroup) String() string {
	for _, m := range g {
		if m.Reason != g[0].Reason {
			return fmt.Sprintf("%s (numbers of %s): %s", g.Lanes(), g[0].Lane(), g[0].Reason)
		}
	}
	return g.Lanes() + ": " + g[0].Reason
}

// Lanes names the lanes, the first sixteen.
func (g MissingGroup) Lanes() string {
	var names []string
	for _, m := range g[:min(len(g), maxLanesNamed)] {
		names = append(names, m.Lane().String())
	}
	text := strings.Join(names, ", ")
	if more := len(g) - maxLanesNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
