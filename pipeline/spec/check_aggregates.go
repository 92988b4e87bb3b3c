package spec

import (
	"fmt"
	"slices"
	"strings"
)

func aggregatePath(i int) string { return fmt.Sprintf("aggregates[%d]", i) }

func checkAggregates(s *Spec, fail report) {
	if len(s.Aggregates) == 0 {
		fail("aggregates", "", missing, "at least one, e.g. {events: {func: count}}")
	}
	if len(s.Aggregates) > maxAggregates {
		fail("aggregates", "", fmt.Sprintf("has %d aggregates", len(s.Aggregates)), wantCount(maxAggregates))
	}
	names := make(map[string]bool)
	for i, a := range s.Aggregates {
		path := aggregatePath(i)
		switch {
		case a.Name == "":
			fail(path+".name", "", missing, wantAggregate)
		case !aggregatePattern.MatchString(a.Name):
			fail(path+".name", a.Name, "is not a name", wantAggregate)
		case names[a.Name]:
			fail(path+".name", a.Name, "is given twice", "each aggregate under a name of its own")
		}
		names[a.Name] = true
		checkFunc(path, &a, fail)
	}
}

func checkFunc(path string, a *Aggregate, fail report) {
	f, known := functionNamed(a.Func)
	switch {
	case a.Func == "":
		fail(path+".func", "", missing, wantFunc())
		return
	case !known:
		problem := "is not a function"
		if near := Nearest(a.Func, functionNames()); near != "" {
			problem += fmt.Sprintf(" (did you mean %s?)", near)
		}
		fail(path+".func", a.Func, problem, wantFunc())
		return
	case f.Takes == "":
		if a.Field != "" {
			fail(path+".field", a.Field, "is not for "+f.Name+", which publishes "+f.Publishes, "no field")
		}
		if a.Type != "" {
			fail(path+".type", a.Type, "is not for "+f.Name+", which publishes "+f.Publishes, "no type")
		}
		return
	}
	checkPath(path+".field", a.Field, fail)
	if !slices.Contains(f.Types, a.Type) {
		fail(path+".type", a.Type, "is not a type of "+a.Func, "one of "+strings.Join(f.Types, ", "))
	}
}

// use is one place in a spec that reads a field of the event.
type use struct {
	path, label string // where it stands, for the place of an error and for its text
	field, kind string // kind: number, string, bool or any
}

// uses lists every place that reads a field, in the order of the file.
func uses(s *Spec) []use {
	var all []use
	for i, name := range s.Event.Key {
		path := fmt.Sprintf("event.key[%d]", i)
		all = append(all, use{path, path, name, "any"})
	}
	timeKind := "number"
	if s.Event.Time.Unit == "rfc3339" {
		timeKind = "string"
	}
	all = append(all, use{"event.time.field", "event.time.field", s.Event.Time.Field, timeKind})
	for i, a := range s.Aggregates {
		kind := a.Type
		switch kind {
		case "int", "float":
			kind = "number"
		case "string", "bool":
		default:
			kind = "any"
		}
		all = append(all, use{aggregatePath(i) + ".field", "aggregate " + a.Name, a.Field, kind})
	}
	return slices.DeleteFunc(all, func(u use) bool { return u.field == "" })
}

// checkPaths refuses specs no event could satisfy: a field that is both a value and an object, or has two types.
func checkPaths(s *Spec, fail report) {
	all := uses(s)
	for i, u := range all {
		for _, earlier := range all[:i] {
			switch {
			case strings.HasPrefix(u.field, earlier.field+".") || strings.HasPrefix(earlier.field, u.field+"."):
				fail(u.path, u.field, fmt.Sprintf("and %s (%s) cannot both be: one is inside the other",
					earlier.field, earlier.label), "fields with plain values")
			case u.field == earlier.field && u.kind != earlier.kind && u.kind != "any" && earlier.kind != "any":
				fail(u.path, u.field, fmt.Sprintf("is a %s here and a %s in %s", u.kind, earlier.kind, earlier.label),
					"one type for one field")
			default:
				continue
			}
			break
		}
	}
}
