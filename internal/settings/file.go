package settings

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"millrace/pipeline/spec"
)

// MaxFileBytes is how large a configuration file may be.
const MaxFileBytes = 1 << 20

// file reads one configuration file into a set.
type file struct {
	set      *Set
	path     string
	leaves   map[string]int
	groups   map[string]bool
	problems Problems
}

// readFile reads the configuration file.
func (s *Set) readFile(path string) Problems {
	f := &file{set: s, path: path}
	f.leaves, f.groups = s.names()
	data, err := readLimited(path)
	if err != nil {
		return Problems{fmt.Sprintf("configuration file %v", err)}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, extra yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return nil // nothing is set there
	case err != nil:
		f.syntax(err)
		return f.problems
	}
	if err := dec.Decode(&extra); err == nil {
		f.fail(&extra, "", "a second document begins here; want one")
	} else if !errors.Is(err, io.EOF) {
		f.syntax(err)
	}
	f.mapping(doc.Content[0], "")
	return f.problems
}

func readLimited(path string) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxFileBytes {
		return nil, fmt.Errorf("%s has more than %d bytes, the limit of a configuration file", path, MaxFileBytes)
	}
	return data, nil
}

func (f *file) fail(n *yaml.Node, name, problem string) {
	if name != "" {
		problem = name + ": " + problem
	}
	f.problems = append(f.problems, fmt.Sprintf("%s:%d: %s", f.path, n.Line, problem))
}

// quoted is what the YAML library repeats of the text it could not read, which may be a secret.
var quoted = regexp.MustCompile("[`'\"].*[`'\"]")

// syntax reports what the YAML library says, without what it repeats of the file.
func (f *file) syntax(err error) {
	text := quoted.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "...")
	line := 1
	if _, scanned := fmt.Sscanf(text, "line %d:", &line); scanned == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	f.problems = append(f.problems, fmt.Sprintf("%s:%d: %s; want the settings as YAML", f.path, line, text))
}

// mapping reads a group of settings.
func (f *file) mapping(n *yaml.Node, path string) {
	if n.Kind != yaml.MappingNode {
		f.fail(n, path, fmt.Sprintf("is not a mapping; want %s", f.below(path)))
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			f.fail(key, path, "has a field whose name is not a text")
			continue
		}
		name := key.Value
		if path != "" {
			name = path + "." + name
		}
		if line, twice := seen[name]; twice {
			f.fail(key, name, fmt.Sprintf("is there twice, first in line %d; leave one out", line))
			continue
		}
		seen[name] = key.Line
		place, leaf := f.leaves[name]
		switch {
		case dotted.MatchString(key.Value):
			f.fail(key, name, "is written with a dot; write what stands behind the dot below what stands before it")
		case leaf:
			f.leaf(value, place)
		case f.groups[name]:
			f.mapping(value, name)
		default:
			f.unknown(key, name, path)
		}
	}
}

// dotted is a name that says a group as well.
var dotted = regexp.MustCompile(`^[a-z_]{1,64}(\.[a-z_]{1,64})+$`)

// fieldName is what the names of settings are made of.
var fieldName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// unknown says which field may have been meant. The value is not shown: nobody knows what it is. Nor is a name that is none, such as
// "password:hunter2", where a space is missing.
func (f *file) unknown(key *yaml.Node, name, path string) {
	hint := "want " + f.below(path)
	if !fieldName.MatchString(key.Value) && key.Value != "<<" {
		f.fail(key, path, "has a field that cannot be a setting by its name; is there a space behind every colon? "+hint)
		return
	}
	known := slices.Concat(slices.Collect(maps.Keys(f.leaves)), slices.Collect(maps.Keys(f.groups)))
	slices.Sort(known)
	if near := spec.Nearest(name, known); near != "" {
		hint = "did you mean " + near + "?"
	}
	f.fail(key, name, "is no setting; "+hint)
}

// below lists what may stand in a group.
func (f *file) below(path string) string {
	var names []string
	for _, all := range [][]string{slices.Collect(maps.Keys(f.leaves)), slices.Collect(maps.Keys(f.groups))} {
		for _, name := range all {
			rest, ok := strings.CutPrefix(name, path)
			if rest = strings.TrimPrefix(rest, "."); ok && rest != "" && !strings.Contains(rest, ".") &&
				(path == "" || name[len(path)] == '.') {
				names = append(names, rest)
			}
		}
	}
	slices.Sort(names)
	return "one of " + strings.Join(slices.Compact(names), ", ")
}

// leaf reads the value of one setting.
func (f *file) leaf(n *yaml.Node, place int) {
	row := &f.set.all[place]
	list, isList := row.Value.(*listValue)
	switch {
	case isList && n.Kind == yaml.SequenceNode:
		items, ok := f.items(n, row)
		if !ok {
			return
		}
		*list.to = items
	case n.Kind != yaml.ScalarNode:
		f.fail(n, row.Name, fmt.Sprintf("is %s; want %s", kind(n), row.Value.wants()))
		return
	case !row.Value.accepts(n.ShortTag()):
		f.fail(n, row.Name, fmt.Sprintf("%s is %s; want %s", shown(n, row), kind(n), row.Value.wants()))
		return
	default:
		if err := row.set(n.Value); err != nil {
			f.fail(n, row.Name, err.Error())
			return
		}
	}
	f.set.found[place] = found{File, n.Line}
}

// items are the texts of a YAML list.
func (f *file) items(n *yaml.Node, row *Setting) (items []string, ok bool) {
	ok = true
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.ShortTag() != tagText {
			f.fail(item, row.Name, fmt.Sprintf("holds %s; want texts: %s", kind(item), row.Value.wants()))
			ok = false
			continue
		}
		items = append(items, item.Value)
	}
	return items, ok
}

// shown is a value as an error repeats it.
func shown(n *yaml.Node, row *Setting) string {
	if row.Secret {
		return "the value"
	}
	const most = 80
	return fmt.Sprintf("%.*q", most, n.Value)
}

// kind says in words what a node is.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case tagInt, tagFloat:
		return "a number"
	case tagBool:
		return "true or false"
	case tagText:
		return "a text"
	}
	return "of another type"
}
