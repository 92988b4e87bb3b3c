package spec

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// functionTable renders the table of docs/spec.md.
func functionTable() string {
	var b strings.Builder
	b.WriteString("| func | field | type | publishes |\n|---|---|---|---|\n")
	for _, f := range Functions() {
		field, types := f.Takes, "no"
		if field == "" {
			field = "no"
		}
		for i, typ := range f.Types {
			switch i {
			case 0:
				types = "`" + typ + "` (default)"
			default:
				types += ", `" + typ + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, field, types, f.Publishes)
	}
	return b.String()
}

// The documentation lists the functions there are; go test -update writes its table.
func TestDocsListTheFunctions(t *testing.T) {
	const file, head = "../../docs/spec.md", "| func |"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(text), head)
	require.True(t, found)
	table, after, found := strings.Cut(rest, "\n\n")
	require.True(t, found)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(before+functionTable()+"\n"+after), 0o600))
		return
	}
	require.Equal(t, functionTable(), head+table+"\n")
}

// Every function of the table is checked, completed and suggested.
func TestFunctions(t *testing.T) {
	for _, f := range Functions() {
		t.Run(f.Name, func(t *testing.T) {
			require.NotEmpty(t, f.Publishes)
			require.Equal(t, f.Takes == "", len(f.Types) == 0)
			parse := func(aggregate string) (*Spec, error) {
				return Parse("x.yaml", fmt.Appendf(nil, `{name: a, source: {topics: [in]}, event: {key: [k], time: {field: t, unit: s}},
  aggregates: {x: {func: %s}}, windows: [{name: w, size: 1h}], results: {kafka: {topic: out}}}`, aggregate))
			}
			if f.Takes == "" {
				s, err := parse(f.Name)
				require.NoError(t, err)
				require.Empty(t, s.Aggregates[0].Type)
				_, err = parse(f.Name + ", field: v, type: int")
				require.ErrorContains(t, err, "is not for "+f.Name)
			} else {
				s, err := parse(f.Name + ", field: v")
				require.NoError(t, err)
				require.Equal(t, f.Types[0], s.Aggregates[0].Type)
				for _, typ := range f.Types {
					_, err = parse(f.Name + ", field: v, type: " + typ)
					require.NoError(t, err)
				}
				_, err = parse(f.Name + ", field: v, type: decimal")
				require.ErrorContains(t, err, "is not a type of "+f.Name)
				_, err = parse(f.Name)
				require.ErrorContains(t, err, "x.field: is missing")
			}
			_, err := parse(f.Name + "z")
			require.ErrorContains(t, err, "(did you mean "+f.Name+"?)")
		})
	}
}
