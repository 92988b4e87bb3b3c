package contract

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const stuckStatesFile = "../../docs/stuck-states.md"

const stuckStatesHead = `# States that can last

<!-- Made from internal/contract/stuckstates.go by: go test ./internal/contract -run StuckStates -update -->

Every state in which a pipeline can stay, how it shows, how long it lasts, and the command that leads out. Where several hold at
once, the first line speaks of the one that stands first here and counts the others; ` + "`millrace status NAME`" + ` lists them all.
The suite ` + "`make stuck`" + ` brings every one of them about on real servers, checks everything below, and goes the way out
until the pipeline is well and ` + "`millrace verify`" + ` finds nothing.

- **first line**: of ` + "`millrace status`" + ` and of the page of ` + "`pipeline:NAME`" + ` in Temporal's UI.
- **check**: the exit code of ` + "`millrace status NAME --check`" + `. It is 0 if data flows and windows close, or if an operator wants it
  otherwise, and the line says so.
- **page**: whether the page of the pipeline tells it. What only a server or a process knows, it cannot.
- **metric, /health**: whether the worker where it arises counts it in ` + "`millrace_conditions{pipeline,kind}`" + ` and answers
  /health with it. /readyz does not change with it, so that an outage does not block a rollout; only a worker that cannot
  reach Temporal is not ready.
- **verify**: the exit code of ` + "`millrace verify NAME`" + ` where what was published is right. It reads Redis and Kafka
  itself, so it answers 3 while one of them is away from where it runs; without Temporal it needs ` + "`--spec`" + `.

`

// stuckStatesText is docs/stuck-states.md.
func stuckStatesText() string {
	var b strings.Builder
	b.WriteString(stuckStatesHead)
	b.WriteString("| state | events flow | windows close | check | page | metric, /health | verify |\n|---|---|---|---|---|---|---|\n")
	for _, s := range StuckStates() {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %d | %s | %s | %d |\n",
			s.Kind, s.Kind, yes(s.Flows), yes(s.Closes), s.CheckCode(), yes(s.Page), yes(s.Process), s.VerifyCode())
	}
	for _, s := range StuckStates() {
		c := s.Sample
		c.Kind = s.Kind
		phase := StateRunning
		if IntentConditions("orders", s.Kind, "", sampleSince) != nil {
			phase = s.Kind
		}
		line := NewStanding("orders", phase, 4, []Condition{c}, sampleSince.Add(time.Hour)).Line
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n    pipeline orders: %s\n\n", s.Kind, s.Means, line)
		if c.Reason != "" {
			fmt.Fprintf(&b, "- **Reason**, for example: %s\n", c.Reason)
		}
		fmt.Fprintf(&b, "- **Bound:** %s\n- **Way out:** %s\n", s.Bound, s.WayOut)
	}
	return b.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func TestStuckStatesAreDocumented(t *testing.T) {
	text := stuckStatesText()
	if *update {
		require.NoError(t, os.WriteFile(stuckStatesFile, []byte(text), 0o644))
	}
	written, err := os.ReadFile(stuckStatesFile)
	require.NoError(t, err)
	require.Equal(t, text, string(written), "docs/stuck-states.md is stale: go test ./internal/contract -run StuckStates -update")
}

// Samples leave no placeholder open, and a state that names a lane or a command in its line has one in its sample.
func TestStuckStatesHaveSamples(t *testing.T) {
	for _, s := range StuckStates() {
		for placeholder, value := range map[string]string{
			"{subject}": s.Sample.Subject, "{reason}": s.Sample.Reason, "{command}": s.Sample.Command,
		} {
			if strings.Contains(s.Line, placeholder) && !s.OnPurpose {
				require.NotEmpty(t, value, "%s: the sample has no %s", s.Kind, placeholder)
			}
		}
	}
}
