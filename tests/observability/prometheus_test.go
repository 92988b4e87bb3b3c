package observability

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"millrace/tests/rig"
)

// prometheus is a server with the deployed rules.
type prometheus struct {
	t   *testing.T
	url string
}

// startPrometheus starts a server with the deployed configuration, but for where the targets of each job are, and how often they are
// scraped and the rules evaluated; 0 leaves that as deployed.
func startPrometheus(t *testing.T, every time.Duration, targets map[string][]string) *prometheus {
	t.Helper()
	path := need(t, "prometheus")
	text, err := os.ReadFile(configFile)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, yaml.Unmarshal(text, &config))
	global := config["global"].(map[string]any)
	if every > 0 {
		global["scrape_interval"], global["evaluation_interval"] = every.String(), every.String()
	}
	rules, err := filepath.Abs(deployed)
	require.NoError(t, err)
	for i, file := range config["rule_files"].([]any) {
		config["rule_files"].([]any)[i] = filepath.Join(rules, file.(string))
	}
	jobs := make(map[string]bool)
	for _, c := range config["scrape_configs"].([]any) {
		scrape := c.(map[string]any)
		job := scrape["job_name"].(string)
		jobs[job] = true
		delete(scrape, "dns_sd_configs")
		scrape["static_configs"] = []any{map[string]any{"targets": targets[job]}}
	}
	for job := range targets {
		require.True(t, jobs[job], "the deployed configuration has no job %s", job)
	}
	text, err = yaml.Marshal(config)
	require.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o644))
	addr := freeAddr(t)
	p := &prometheus{t: t, url: "http://" + addr}
	run := rig.Spawn(t, rig.Program{Name: "prometheus", Path: path, Args: []string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr,
		"--enable-feature=exemplar-storage", "--log.level=warn",
	}})
	rig.Eventually(t, "Prometheus is ready", rig.Patience, func() bool {
		require.False(t, run.Ended(), "Prometheus has ended:\n%s", run.Tail(20))
		answer, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return p
}

// startPushgateway starts what short runs push to, and returns its address.
func startPushgateway(t *testing.T) string {
	t.Helper()
	addr := freeAddr(t)
	rig.Spawn(t, rig.Program{Name: "pushgateway", Path: need(t, "prometheus-pushgateway"), Args: []string{"--web.listen-address=" + addr}})
	return addr
}

func freeAddr(t *testing.T) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(rig.FreePort(t)))
}

// sample is a value at a time, in seconds since the epoch.
type sample struct{ At, Value float64 }

// series is what a query answers with.
type series struct {
	Labels  map[string]string
	Samples []sample // without those that are not a number
}

// ask evaluates a query over a range of time.
func (p *prometheus) ask(query string, from, to time.Time, step time.Duration) []series {
	p.t.Helper()
	var result []struct {
		Metric map[string]string
		Values [][2]any
	}
	p.get("/api/v1/query_range", url.Values{
		"query": {query}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {fmt.Sprint(step.Seconds())},
	}, &struct{ Result any }{&result})
	var all []series
	for _, r := range result {
		one := series{Labels: r.Metric}
		for _, v := range r.Values {
			value, err := strconv.ParseFloat(v[1].(string), 64)
			require.NoError(p.t, err)
			if !math.IsNaN(value) && !math.IsInf(value, 0) {
				one.Samples = append(one.Samples, sample{v[0].(float64), value})
			}
		}
		if one.Samples != nil {
			all = append(all, one)
		}
	}
	return all
}

// alert is one that is pending or fires.
type alert struct {
	Labels      map[string]string
	Annotations map[string]string
	State       string
	ActiveAt    time.Time
}

// alerts are all that are pending or fire now.
func (p *prometheus) alerts() []alert {
	p.t.Helper()
	var data struct{ Alerts []alert }
	p.get("/api/v1/alerts", nil, &data)
	return data.Alerts
}

// names are the metrics that have been scraped or recorded.
func (p *prometheus) names() map[string]bool {
	p.t.Helper()
	var data []string
	p.get("/api/v1/label/__name__/values", nil, &data)
	names := make(map[string]bool)
	for _, name := range data {
		names[name] = true
	}
	return names
}

// get decodes the data of an answer.
func (p *prometheus) get(path string, query url.Values, into any) {
	p.t.Helper()
	answer, err := http.Get(p.url + path + "?" + query.Encode())
	require.NoError(p.t, err)
	defer answer.Body.Close()
	whole := struct {
		Status string
		Error  string
		Data   any
	}{Data: into}
	require.NoError(p.t, json.NewDecoder(answer.Body).Decode(&whole))
	require.Equal(p.t, "success", whole.Status, "%s %v: %s", path, query, whole.Error)
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
