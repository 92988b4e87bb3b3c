package stuck

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/tests/rig"
)

// scenario brings one state about, and leads out of it.
type scenario struct {
	name  string
	kind  string   // the state that the first line speaks of
	also  []string // states that hold beside it
	quick bool     // runs also without -all, but for the commands
	setup setup
	// idle leaves the pipeline as bring finds it: it is not started first.
	idle  bool
	bring func(s *scene)
	says  string // in the reasons or in the first line, a regular expression
	// leave is the way out of the table.
	leave func(s *scene)
	// end is the first line when it is over; "": running.
	end string
	// noPage leaves the page out although the table says that it shows the state, and noWorker the metrics and /health.
	noPage, noWorker bool
	verify           int    // exit code when it is not the table's; 0: the table's
	verifySays       string // on its error stream, a regular expression
	// commands that are sent into the state, in this order, and what may come of them; none: none are.
	commands []try
}

// scenarios are all there are.
func scenarios() []scenario {
	return slices.Concat(serverScenarios, incidentScenarios, unusableScenarios, workerScenarios, closingScenarios, workflowScenarios,
		intentScenarios, replayScenarios)
}

func TestEveryStateIsTried(t *testing.T) {
	tried := make(map[string]bool)
	for _, sc := range scenarios() {
		tried[sc.kind] = true
		for _, kind := range sc.also {
			tried[kind] = true
		}
	}
	known := make(map[string]bool)
	for _, state := range contract.StuckStates() {
		known[state.Kind] = true
		require.True(t, tried[state.Kind], "no scenario tries state %s", state.Kind)
	}
	for kind := range tried {
		require.True(t, known[kind], "state %s is not in the table", kind)
	}
}

func TestStuck(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			if !*all && !sc.quick {
				t.Skip("make stuck runs it")
			}
			t.Parallel()
			sc.run(t)
		})
	}
}

// run brings the state about twice: once to see that it shows and that the way out leads out, once for the commands.
func (sc *scenario) run(t *testing.T) {
	s := newScene(t, sc.setup)
	if !sc.idle {
		s.flow()
	}
	sc.bring(s)
	sc.shows(s)
	sc.leave(s)
	sc.over(s)
	if len(sc.commands) == 0 || !*all {
		return
	}
	if !sc.idle {
		s.flow()
	}
	sc.bring(s)
	sc.stands(s)
	s.send(sc.commands)
	sc.leave(s)
}

// over waits for the end of the state, and for what is right again then.
func (sc *scenario) over(s *scene) {
	s.t.Helper()
	if sc.end == "" {
		s.well()
		s.exact()
	} else {
		s.ends(sc.end)
	}
}

func (sc *scenario) state(t *testing.T) contract.StuckState {
	for _, state := range contract.StuckStates() {
		if state.Kind == sc.kind {
			return state
		}
	}
	require.FailNow(t, "no such state: "+sc.kind)
	return contract.StuckState{}
}

// stands waits until status says the state, and what else holds.
func (sc *scenario) stands(s *scene) contract.Standing {
	s.t.Helper()
	state, says := sc.state(s.t), regexp.MustCompile(sc.says)
	line := lineOf(state)
	return s.awaits(sc.kind+", "+line.String()+", "+sc.says, func(now contract.Standing, code int) bool {
		if len(now.Conditions) == 0 || now.Conditions[0].Kind != sc.kind || code != state.CheckCode() || !line.MatchString(now.Line) {
			return false
		}
		for _, kind := range sc.also {
			if !has(now.Conditions, kind) {
				return false
			}
		}
		said := now.Line
		for _, c := range now.Conditions {
			said += "\n" + c.Kind + " " + c.Subject + ": " + c.Reason
		}
		return says.MatchString(said)
	})
}

// shows looks at everything that the table says about the state.
func (sc *scenario) shows(s *scene) {
	s.t.Helper()
	standing := sc.stands(s)
	s.t.Logf("status: %s", standing.Line)
	for _, c := range standing.Conditions {
		s.t.Logf("  %s %s: %s -> %s", c.Kind, c.Subject, c.Reason, c.Command)
	}
	name := s.Spec.Name
	plain := s.CLI(append([]string{"status", name, "--check"}, s.extra...)...)
	require.True(s.t, strings.HasPrefix(plain.Out, "pipeline "+name+": "), "%s%s", plain.Out, plain.Err)
	whole := s.CLI(append([]string{"status", name, "--once"}, s.extra...)...)
	require.Zero(s.t, whole.Code, "%s%s", whole.Out, whole.Err)
	require.True(s.t, strings.HasPrefix(whole.Out, "pipeline "+name+": "), "%s", whole.Out)

	for _, kind := range append([]string{sc.kind}, sc.also...) {
		state := (&scenario{kind: kind}).state(s.t)
		if state.Page && !sc.noPage {
			rig.Eventually(s.t, "the page says "+kind, patience, func() bool { return onPage(s.page(), name, state) })
		}
		if state.Process && !sc.noWorker {
			rig.Eventually(s.t, "the metric counts "+kind, patience, func() bool { return s.worker.counts(kind) > 0 })
			rig.Eventually(s.t, "/health says "+kind, patience, func() bool { return inHealth(s.worker, kind, state) })
		}
	}
	want := sc.state(s.t).VerifyCode()
	if sc.verify != 0 {
		want = sc.verify
	}
	a := s.CLI("verify", name, "--spec", s.File)
	rig.Eventually(s.t, fmt.Sprintf("verify ends with %d, other than at first: %s%s", want, a.Out, a.Err), patience, func() bool {
		if a.Code != want { // a busy worker does not answer every query in time, and is reported
			a = s.CLI("verify", name, "--spec", s.File)
		}
		return a.Code == want
	})
	require.Regexp(s.t, sc.verifySays, a.Err)
	if want == 4 {
		require.Contains(s.t, a.Out, "PROBLEM unhealthy: ", "%s", a.Err)
	}
}

// onPage reports whether a page names a state, in its first line or in the table below.
func onPage(page, name string, state contract.StuckState) bool {
	first, _, _ := strings.Cut(page, "\n")
	said, ok := strings.CutPrefix(first, "**"+name+"** is **")
	return ok && (lineOf(state).MatchString(said) || strings.Contains(page, "\n| "+state.Kind+" |"))
}

// inHealth reports whether a worker's /health names a state, with the status code that its table row asks for.
func inHealth(w *worker, kind string, state contract.StuckState) bool {
	code, text := w.get("/health")
	return strings.Contains(text, `"kind": "`+kind+`"`) && (state.CheckCode() == 0 || code == http.StatusServiceUnavailable)
}
