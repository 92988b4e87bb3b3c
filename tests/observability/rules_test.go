package observability

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	root       = "../.."
	deployed   = root + "/deploy/observability/prometheus"
	configFile = deployed + "/prometheus.yaml"
	alertsFile = deployed + "/alerts.yaml"
)

// need finds one of Prometheus's programs, or skips the test where the system has none.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed (Debian: apt-get install prometheus prometheus-pushgateway), and this test asks one", program)
	}
	return path
}

// rule is an alert, or a value that is recorded.
type rule struct {
	Alert       string
	Record      string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// rules are all of the deployed files.
func rules(t *testing.T) (all []rule) {
	t.Helper()
	files, err := filepath.Glob(deployed + "/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		var groups struct{ Groups []struct{ Rules []rule } }
		readYAML(t, file, &groups)
		for _, g := range groups.Groups {
			all = append(all, g.Rules...)
		}
	}
	require.NotEmpty(t, all)
	return all
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

// promtool runs Debian's build, whose release is older than the one in compose: what it takes both take.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command(need(t, "promtool"), args...).CombinedOutput()
	require.NoError(t, err, "promtool %v:\n%s", args, out)
}

func TestPrometheusTakesTheConfiguration(t *testing.T) {
	promtool(t, "check", "config", configFile)
}

const virtual = "testdata/alerts*.yaml"

func TestAlertsFireInVirtualTime(t *testing.T) {
	files, err := filepath.Glob(virtual)
	require.NoError(t, err)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", file)
		})
	}
}

// Every alert is tried before its limit, at it, and when it is over.
func TestEveryAlertIsTried(t *testing.T) {
	tried := make(map[string]string) // by alert: f where it fires, - where it does not
	files, err := filepath.Glob(virtual)
	require.NoError(t, err)
	for _, file := range files {
		var tests struct {
			Tests []struct {
				Alerts []struct {
					Name string `yaml:"alertname"`
					Want []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		readYAML(t, file, &tests)
		for _, test := range tests.Tests {
			for _, a := range test.Alerts {
				if len(a.Want) > 0 {
					tried[a.Name] += "f"
				} else {
					tried[a.Name] += "-"
				}
			}
		}
	}
	for _, r := range rules(t) {
		if r.Alert != "" {
			require.Regexp(t, `-f-`, tried[r.Alert], "%s is not tried below its limit, at it and after it in %s", r.Alert, virtual)
			delete(tried, r.Alert)
		}
	}
	require.Empty(t, tried, "tests of alerts that do not exist")
}

func TestAlertsSayWhatToDo(t *testing.T) {
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		require.Regexp(t, `^Millrace[A-Z]\w+$`, r.Alert)
		require.Contains(t, []string{"page", "ticket"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		about := r.Annotations["description"]
		require.Regexp(t, `\$value|limit: closed`, about, "%s does not say its value", r.Alert)
		require.Contains(t, about, "limit: ", r.Alert)
		file, anchor, found := strings.Cut(r.Annotations["runbook_url"], "#")
		require.True(t, found, "%s leads to no section", r.Alert)
		require.Contains(t, anchors(t, file), anchor, "%s leads to a section of %s that does not exist", r.Alert, file)
	}
}

var heading = regexp.MustCompile(`(?m)^##+ (.+)$`)

// anchors are the sections of a document, as links name them.
func anchors(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	require.NoError(t, err)
	for _, h := range heading.FindAllStringSubmatch(string(text), -1) {
		name := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

var update = flag.Bool("update", false, "write the table of docs/observability.md anew")

// The table in the documentation is that of the rules.
func TestTableOfAlerts(t *testing.T) {
	const file, begin, end = root + "/docs/observability.md", "<!-- alerts -->\n", "<!-- /alerts -->"
	var table strings.Builder
	table.WriteString("| alert | severity | fires when | for | runbook |\n|---|---|---|---|---|\n")
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		section := strings.TrimPrefix(r.Annotations["runbook_url"], "docs/")
		_, name, _ := strings.Cut(section, "#")
		expr := strings.ReplaceAll(r.Expr, "|", `\|`)
		fmt.Fprintf(&table, "| `%s` | %s | `%s` | %s | [%s](%s) |\n", r.Alert, r.Labels["severity"], expr, cmp.Or(r.For, "0s"), name, section)
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	head, rest, found := strings.Cut(string(text), begin)
	require.True(t, found)
	_, tail, found := strings.Cut(rest, end)
	require.True(t, found)
	want := head + begin + table.String() + end + tail
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(text), "%s is stale: go test ./tests/observability -run Table -update", file)
}
