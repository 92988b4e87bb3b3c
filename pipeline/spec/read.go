package spec

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader walks the nodes of one document. It notes where every field stands, so that what is wrong with a value can be
// said at its place even when it is found later.
type reader struct {
	file   string
	errs   Errors
	places map[string]*yaml.Node // by field path
	root   *yaml.Node

	aggregatePaths []string // by index: aggregates.total in a mapping, aggregates[0] in a list
}

// maxErrors bounds the work on a hopeless file; nobody reads more.
const maxErrors = 100

// field is one name a mapping may have, and how to read its value.
type field struct {
	name string
	read func(n *yaml.Node, path string)
}

func (r *reader) full() bool { return len(r.errs) >= maxErrors }

func (r *reader) fail(n *yaml.Node, path, value, problem, want string) {
	if r.full() {
		return
	}
	e := &Error{File: r.file, Field: path, Value: shorten(value), Problem: problem, Want: want}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	r.errs = append(r.errs, e)
}

// mapping reads n as a mapping with the given fields; anything else in it is an error.
func (r *reader) mapping(n *yaml.Node, path, want string, fields ...field) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.fail(n, path, text(n), "is "+kind(n)+", not a mapping", want)
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.fail(key, path, "", "has a field whose name is "+kind(key), want)
			continue
		}
		if first, twice := seen[key.Value]; twice {
			r.fail(key, join(path, key.Value), "", fmt.Sprintf("is given twice, first in line %d", first), "it once")
			continue
		}
		seen[key.Value] = key.Line
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if at < 0 {
			r.unknown(key, path, fields)
			continue
		}
		r.places[join(path, key.Value)] = value
		fields[at].read(value, join(path, key.Value))
	}
}

func (r *reader) unknown(key *yaml.Node, path string, fields []field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	problem := "is no field here"
	if near := Nearest(key.Value, names); near != "" {
		problem += fmt.Sprintf(" (did you mean %s?)", near)
	}
	r.fail(key, path, text(key), problem, "one of "+strings.Join(names, ", "))
}

// list calls read for every element of a list.
func (r *reader) list(n *yaml.Node, path, want string, read func(n *yaml.Node, path string)) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		r.fail(n, path, text(n), "is "+kind(n)+", not a list", want)
		return
	}
	if len(n.Content) > maxList {
		r.fail(n, path, "", fmt.Sprintf("has %d elements", len(n.Content)), wantCount(maxList))
		return
	}
	for i, element := range n.Content {
		if r.full() {
			return
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		r.places[at] = element
		read(element, at)
	}
}

func (r *reader) text(dst *string, want string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		n = resolve(n)
		switch {
		case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null":
			r.fail(n, path, text(n), "is "+kind(n)+", not a text", want)
		case n.ShortTag() != "!!str":
			r.fail(n, path, text(n), "is "+kind(n)+", not a text", want+" (write quotes around it)")
		case strings.ContainsFunc(n.Value, unprintable):
			r.fail(n, path, text(n), "holds a control character", want)
		default:
			*dst = n.Value
		}
	}
}

func (r *reader) texts(dst *[]string, list, one string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.list(n, path, list, func(n *yaml.Node, path string) {
			var value string
			r.text(&value, one)(n, path)
			*dst = append(*dst, value)
		})
	}
}

func (r *reader) integer(dst *int, want string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		n = resolve(n)
		value, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
			r.fail(n, path, text(n), "is not a whole number", want)
			return
		}
		*dst = value
	}
}

func (r *reader) duration(dst *Duration) func(*yaml.Node, string) {
	const want = "e.g. 1h, 90s, 250ms, 1h30m or 1d"
	return func(n *yaml.Node, path string) {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
			r.fail(n, path, text(n), "is "+kind(n)+", not a duration", want)
			return
		}
		value, err := ParseDuration(n.Value)
		if err != nil {
			r.fail(n, path, n.Value, "is not a duration", want)
			return
		}
		*dst = value
	}
}

// positive reads a duration whose zero, in a Spec, means that the field is not there.
func (r *reader) positive(dst *Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		known := len(r.errs)
		if r.duration(dst)(n, path); *dst == 0 && len(r.errs) == known {
			r.fail(n, path, text(resolve(n)), "is out of range", fmt.Sprintf("%s to %s", Duration(time.Millisecond), maxDuration))
		}
	}
}

// bytes reads a number of bytes: 1048576, 64KiB, 512MiB or 2GiB.
func (r *reader) bytes(set func(int64)) func(*yaml.Node, string) {
	units := map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
	return func(n *yaml.Node, path string) {
		n = resolve(n)
		digits := strings.TrimRight(n.Value, "KMGiB")
		unit, known := units[n.Value[len(digits):]]
		count, err := strconv.ParseInt(digits, 10, 64)
		if n.Kind != yaml.ScalarNode || !known || err != nil || count > math.MaxInt64/unit || count < 0 {
			r.fail(n, path, text(n), "is not a number of bytes", "e.g. 1048576, 64KiB, 512MiB or 2GiB")
			return
		}
		set(count * unit)
	}
}

// document parses data as exactly one YAML document.
func (r *reader) document(data []byte) (*yaml.Node, bool) {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, extra yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		r.syntax("is empty")
		return nil, false
	case err != nil:
		r.syntax(err.Error())
		return nil, false
	}
	switch err := dec.Decode(&extra); {
	case err == nil:
		r.fail(&extra, "", "", "a second document begins here", "one pipeline per file")
		return nil, false
	case !errors.Is(err, io.EOF):
		r.syntax(err.Error())
		return nil, false
	}
	return doc.Content[0], true
}

// syntax reports what the YAML library says, with the line taken out of its text.
func (r *reader) syntax(problem string) {
	e := &Error{File: r.file, Problem: strings.TrimPrefix(problem, "yaml: "), Want: "a pipeline as YAML or JSON"}
	var line int
	if _, err := fmt.Sscanf(e.Problem, "line %d:", &line); err == nil {
		e.Line = line
		_, e.Problem, _ = strings.Cut(e.Problem, ": ")
	}
	r.errs = append(r.errs, e)
}

// sorted returns what was found in the order of the file, or nil.
func (r *reader) sorted() error {
	if len(r.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return r.errs
}

// resolve follows a YAML alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// kind says in words what a node is.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!str":
		return "a text"
	}
	return "of type " + n.ShortTag()
}

// text is a scalar as written, and nothing for the rest.
func text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

func shorten(value string) string {
	const most = 120
	if len(value) <= most {
		return value
	}
	return strings.ToValidUTF8(value[:most], "") + "..."
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
