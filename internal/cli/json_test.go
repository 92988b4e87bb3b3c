package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/verify"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

// TestJSONForms holds the field names that scripts use and that lists without elements are [].
func TestJSONForms(t *testing.T) {
	for name, v := range map[string]any{
		"failure": failure{"Temporal does not answer", 3}, "version": versionView{"v1.2.3", "go1.26.1"},
		"feed":            feedDone{Topic: "in", Partitions: 4},
		"start":           started{Pipeline: "p", WorkflowID: "pipeline:p", RunID: "r"},
		"pipeline-listed": runningPipeline{Pipeline: "p"}, "workflow-listed": listed{WorkflowID: "w"},
		"wal-ls": listedLog{Disk: "d"}, "wal-record": dumped{Index: 1}, "spec-check": specReport{OK: true}, "drain": drainReport{},
		"dev": addresses{}, "bench": measured{}, "window": ledger.Row{},
		"result-row": ledger.ResultRow{Key: json.RawMessage("{}"), Values: json.RawMessage("{}")},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, printJSON(&b, v))
			file := filepath.Join("testdata", "json", name+".json")
			if *updateGolden {
				require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "write it with -update")
			require.Equal(t, string(want), b.String())
		})
	}
}

func TestListsAreNeverNull(t *testing.T) {
	for _, c := range []struct {
		v    any
		want []string
	}{
		{statusView{Pipeline: "p"}, []string{`"lanes":[]`}},
		{&verify.Report{}, []string{`"lanes":[]`, `"problems":[]`}},
		{listedLog{}, []string{`"segments":[]`, `"streams":[]`, `"aside":[]`}},
		{[]listed(nil), []string{`[]`}},
		{struct {
			A []struct{ B []int }
			C *struct{ D []string }
			E json.RawMessage
		}{A: make([]struct{ B []int }, 1), C: &struct{ D []string }{}}, []string{`{"A":[{"B":[]}],"C":{"D":[]},"E":null}`}},
	} {
		var b bytes.Buffer
		require.NoError(t, printJSON(&b, c.v))
		for _, text := range c.want {
			require.Contains(t, b.String(), text)
		}
	}
	var b bytes.Buffer
	require.NoError(t, printList(&b, []ledger.Row(nil)))
	require.Equal(t, "[]\n", b.String())
	b.Reset()
	require.NoError(t, printList(&b, []int{1, 2}))
	require.Equal(t, "[1\n,2\n]\n", b.String())
}
