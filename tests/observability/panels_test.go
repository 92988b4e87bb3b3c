package observability

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/deploy/observability/dashboards"
	"millrace/tests/long"
)

// pictures is where the answers of the panels go that tools/dashboards draws; without it nothing is written.
var pictures = flag.String("pictures", "", "file for what every panel showed of the long run")

// drawn is what a dashboard showed.
type drawn struct {
	Name   string       `json:"name"`
	Title  string       `json:"title"`
	Panels []drawnPanel `json:"panels"`
}

type drawnPanel struct {
	Title string      `json:"title"`
	Unit  string      `json:"unit"`
	Kind  string      `json:"kind"`
	Lines []drawnLine `json:"lines"`
}

type drawnLine struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Every query of every panel has an answer in a Prometheus that has scraped a run, and every rule an answer or a reason why not.
func TestEveryQueryAnswers(t *testing.T) {
	set, unit := setup{spec: traffic, every: time.Second, args: []string{"--wal-hard-limit", "2MiB"}}, time.Second
	if set.long = long.Wanted || *pictures != ""; set.long {
		set.every, unit = 2*time.Second, 20*time.Second
	}
	r := newRun(t, set)
	r.live(unit)
	until := time.Now()

	var all []drawn
	for _, d := range dashboards.All() {
		shown := drawn{Name: d.Name, Title: d.Title}
		for _, p := range d.Panels {
			panel := drawnPanel{Title: p.Title, Unit: string(p.Unit), Kind: string(p.Kind)}
			for _, q := range p.Queries {
				panel.Lines = append(panel.Lines, r.answers(d, p, q, until)...)
			}
			shown.Panels = append(shown.Panels, panel)
		}
		all = append(all, shown)
	}
	r.rulesAnswer(t, until)
	r.namesExist(t)
	if *pictures != "" {
		text, err := json.Marshal(all)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(*pictures, text, 0o644))
	}
}

// answers asks Prometheus what a panel asks, and reports when nothing comes back or a line has no name.
func (r *run) answers(d dashboards.Dashboard, p dashboards.Panel, q dashboards.Query, until time.Time) (lines []drawnLine) {
	r.t.Helper()
	expr := strings.ReplaceAll(q.Expr, "$__rate_interval", (5 * r.every).String())
	for _, v := range d.Variables {
		expr = strings.ReplaceAll(expr, "$"+v.Name, ".*")
	}
	answer := r.prometheus.ask(expr, r.began, until, r.every)
	reason, none := unanswered[q.Expr]
	switch {
	case len(answer) == 0 && !none && !r.without(q.Expr):
		r.t.Errorf("%s, %q: no answer to %s", d.Title, p.Title, expr)
	case len(answer) > 0 && none:
		r.t.Errorf("%s, %q: %s is answered, although %s", d.Title, p.Title, expr, reason)
	}
	named := 0
	for _, s := range answer {
		name, complete := legend(q.Legend, s.Labels)
		if complete {
			named++
		}
		line := drawnLine{Name: name}
		for _, v := range s.Samples {
			line.Points = append(line.Points, [2]float64{v.At, v.Value})
		}
		lines = append(lines, line)
	}
	if len(answer) > 0 && named == 0 {
		r.t.Errorf("%s, %q: no answer to %s has the labels of %q", d.Title, p.Title, expr, q.Legend)
	}
	return lines
}

var placeholder = regexp.MustCompile(`{{\s*(\w+)\s*}}`)

// legend names a line; complete reports whether the labels are there that the name is made of. The line of a panel on which nothing is to
// be seen is named by one of them.
func legend(text string, labels map[string]string) (name string, complete bool) {
	complete = true
	none := false
	name = placeholder.ReplaceAllStringFunc(text, func(p string) string {
		value, found := labels[placeholder.FindStringSubmatch(p)[1]]
		complete, none = complete && found, none || value == "none"
		return value
	})
	return strings.TrimSpace(name), complete || none
}

// unanswered are queries of panels and selectors of alerts whose subject does not arise in the run, and why. One that is answered all the
// same fails.
var unanswered = map[string]string{
	`millrace_lane_state{state="parked"}`: "no lane meets an incident; TestAlertsFireLive parks one",
}

// tooSlow are those for which the short run is too short, and why.
var tooSlow = map[string]string{
	`millrace_pipeline_conditions{kind=~"replay-asks|recount-differs|journal-asks"}`: "workflows are asked every 30 s",
}

// without reports whether a query may be without an answer in this run.
func (r *run) without(query string) bool {
	_, slow := tooSlow[query]
	return slow && !r.long
}

// selector is a metric with its labels, as it stands in an expression.
var selector = regexp.MustCompile(`\b(?:millrace|go|process|temporal|up)[a-z0-9_:]*(?:\{[^}]*\})?`)

// rulesAnswer asks for every selector of every alert, which is what there is to ask of one that does not fire, and for every recorded value.
func (r *run) rulesAnswer(t *testing.T, until time.Time) {
	t.Helper()
	span := until.Sub(r.began)
	for _, rule := range rules(t) {
		asked := []string{rule.Record}
		if rule.Alert != "" {
			asked = selector.FindAllString(rule.Expr, -1)
			require.NotEmpty(t, asked, rule.Alert)
		}
		for _, s := range asked {
			answer := r.prometheus.ask(s, r.began, until, max(r.every, span/500))
			reason, none := unanswered[s]
			switch {
			case len(answer) == 0 && !none && !r.without(s):
				t.Errorf("%s%s: no sample of %s", rule.Alert, rule.Record, s)
			case len(answer) > 0 && none:
				t.Errorf("%s%s: there are samples of %s, although %s", rule.Alert, rule.Record, s, reason)
			}
		}
	}
}

// otherMetric is a metric of Go, the process or Temporal's SDK; those of Millrace are held by a test of their definitions.
var otherMetric = regexp.MustCompile("`((?:go|process|temporal)_[a-z0-9_]*[a-z0-9])`")

// namesExist holds the names in the documents against what was scraped.
func (r *run) namesExist(t *testing.T) {
	t.Helper()
	known := r.prometheus.names()
	for _, file := range []string{"metrics.md", "observability.md", "runbook.md"} {
		text, err := os.ReadFile(root + "/docs/" + file)
		require.NoError(t, err)
		for _, name := range otherMetric.FindAllStringSubmatch(string(text), -1) {
			if !known[name[1]] {
				t.Errorf("docs/%s names the metric %s, which nobody exports", file, name[1])
			}
		}
	}
}
