package archive

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"

	"millrace/pipeline/spec"
)

// Names of the columns that every file has. Key fields stand behind key, values behind them, overflow last.
const (
	columnWindow   = "window"
	columnStart    = "start"
	columnEnd      = "end"
	columnRevision = "revision"
	columnKey      = "key"
	columnOverflow = "overflow"

	// columnExact is there when the spec has values that are texts. It is null but in rows with a text that is not UTF-8.
	columnExact = "values_json"
)

// Where the fixed columns stand.
const (
	atWindow = iota
	atStart
	atEnd
	atRevision
	atKey
	atFields // key fields, and behind them the values
)

// Schema is what the columns of a spec's files are. It is immutable and safe for concurrent use.
type Schema struct {
	fields []Column
	values []Column

	keyMembers   members
	valueMembers members
	kinds        []*kind // of values
	exact        bool    // whether there is a column values_json
	parquet      *parquet.Schema
}

// Column says what a column of a file holds. It stands in the file's metadata.
type Column struct {
	Name string `json:"column"`
	Of   string `json:"of"`   // the key field's path or the aggregate's name
	Kind string `json:"kind"` // the name of a kind
}

// NewSchema derives the columns from a validated spec.
func NewSchema(s *spec.Spec) (*Schema, error) {
	taken := map[string]bool{}
	for _, name := range []string{
		columnWindow, columnStart, columnEnd, columnRevision, columnKey, columnOverflow, columnExact,
	} {
		taken[name] = true
	}
	var fields, values []Column
	for _, path := range s.Event.Key {
		fields = append(fields, Column{Name: freeName(taken, "key_", path), Of: path, Kind: texts.name})
	}
	for _, a := range s.Aggregates {
		kindOf := published[a.Func]
		if kindOf == nil || !spec.HasFunction(a.Func, a.Type) {
			return nil, fmt.Errorf("archive: aggregate %s: func %q with type %q does not exist", a.Name, a.Func, a.Type)
		}
		values = append(values, Column{Name: freeName(taken, "value_", a.Name), Of: a.Name, Kind: kindOf(a.Type).name})
	}
	return newSchema(fields, values)
}

// freeName returns a column's name that no other has, in whichever case: DuckDB, for one, does not tell cases apart. It
// depends on nothing but the spec.
func freeName(taken map[string]bool, prefix, name string) string {
	free := name
	for n := 1; taken[strings.ToLower(free)]; n++ {
		if free = prefix + name; n > 1 {
			free += "_" + strconv.Itoa(n)
		}
	}
	taken[strings.ToLower(free)] = true
	return free
}

// newSchema builds the schema of columns that were derived from a spec, now or when a file was written.
func newSchema(fields, values []Column) (*Schema, error) {
	s := &Schema{
		fields: fields, values: values,
		keyMembers: membersOf(namesOf(fields)), valueMembers: membersOf(namesOf(values)),
	}
	root := orderedGroup{}
	root.add(columnWindow, parquet.Encoded(parquet.String(), &parquet.RLEDictionary))
	root.add(columnStart, parquet.Encoded(parquet.Timestamp(parquet.Millisecond), &parquet.RLEDictionary))
	root.add(columnEnd, parquet.Encoded(parquet.Timestamp(parquet.Millisecond), &parquet.RLEDictionary))
	root.add(columnRevision, parquet.Encoded(parquet.Leaf(parquet.Int32Type), &parquet.RLEDictionary))
	root.add(columnKey, parquet.String())
	for _, c := range fields {
		root.add(c.Name, parquet.String())
	}
	for _, c := range values {
		k := kinds[c.Kind]
		if k == nil {
			return nil, fmt.Errorf("archive: column %s: kind %q is not known to this version of millrace", c.Name, c.Kind)
		}
		s.kinds = append(s.kinds, k)
		s.exact = s.exact || k == texts
		root.add(c.Name, parquet.Optional(k.node))
	}
	root.add(columnOverflow, parquet.Leaf(parquet.BooleanType))
	if s.exact {
		root.add(columnExact, parquet.Optional(parquet.String()))
	}
	s.parquet = parquet.NewSchema("millrace", &root)
	return s, nil
}

func namesOf(columns []Column) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Of
	}
	return names
}

// atValues is where the first value stands.
func (s *Schema) atValues() int { return atFields + len(s.fields) }

// atOverflow is where overflow stands; values_json, if there is one, stands behind it.
func (s *Schema) atOverflow() int { return s.atValues() + len(s.values) }

// columns is how many columns there are.
func (s *Schema) columns() int {
	if s.exact {
		return s.atOverflow() + 2
	}
	return s.atOverflow() + 1
}

// matches reports whether a file's columns are those of the schema, in their order.
func (s *Schema) matches(file *parquet.Schema) bool {
	return slices.EqualFunc(s.parquet.Fields(), file.Fields(), func(want, have parquet.Field) bool {
		return want.Name() == have.Name() && have.Leaf() && want.Type().Kind() == have.Type().Kind() &&
			want.Optional() == have.Optional() && want.Repeated() == have.Repeated()
	})
}

// orderedGroup is a group whose fields stay in the order in which they were added; parquet.Group sorts them by name.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

func (g *orderedGroup) add(name string, node parquet.Node) {
	g.fields = append(g.fields, &groupField{node, name})
}

func (g *orderedGroup) Fields() []parquet.Field { return g.fields }

// groupField is one column of an orderedGroup.
type groupField struct {
	parquet.Node
	name string
}

func (f *groupField) Name() string { return f.name }

// Value is for rows that are Go structs, which no file here is written from.
func (f *groupField) Value(reflect.Value) reflect.Value { return reflect.Value{} }
