package dashboards

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write ../grafana/dashboards anew")

// written is where Grafana finds the dashboards.
const written = "../grafana/dashboards"

func TestDashboardsAreWritten(t *testing.T) {
	var files []string
	for _, d := range All() {
		text, err := d.JSON()
		require.NoError(t, err)
		file := filepath.Join(written, d.Name+".json")
		files = append(files, file)
		if *update {
			require.NoError(t, os.WriteFile(file, text, 0o644))
		}
		there, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(text), string(there), "%s is stale: go test ./deploy/observability/dashboards -update", file)
	}
	all, err := filepath.Glob(filepath.Join(written, "*"))
	require.NoError(t, err)
	require.ElementsMatch(t, files, all, "a file that no dashboard here becomes")
}

// variable is a choice or an interval that Grafana fills in.
var variable = regexp.MustCompile(`\$(\w+)`)

func TestPanelsAreComplete(t *testing.T) {
	uids := make(map[string]bool)
	for _, d := range All() {
		require.False(t, uids[d.UID()], d.Name)
		uids[d.UID()] = true
		require.NotEmpty(t, d.About, d.Name)
		known := map[string]bool{"__rate_interval": true}
		for _, v := range d.Variables {
			known[v.Name] = true
		}
		titles := make(map[string]bool)
		for _, p := range d.Panels {
			require.False(t, titles[p.Title], "%s: two panels %q", d.Name, p.Title)
			titles[p.Title] = true
			require.Regexp(t, `^[A-Z].*\?$`, p.Title)
			require.Regexp(t, `^\S.*\.$`, p.About, p.Title)
			require.NotEmpty(t, p.Unit, p.Title)
			require.NotEmpty(t, p.Queries, p.Title)
			for _, q := range p.Queries {
				require.NotEmpty(t, q.Legend, p.Title)
				for _, name := range variable.FindAllStringSubmatch(q.Expr, -1) {
					require.True(t, known[name[1]], "%s: %s has no choice $%s", p.Title, d.Name, name[1])
				}
			}
		}
	}
}
