package secure

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// Commands that are not let in end within 10 s, with an exit code that says so and one line: which server, what is wrong, and where it is
// set. Of what can be wrong each kind is tried once for each server; workers have gone through all of it.
func TestCommandsThatAreNotLetIn(t *testing.T) {
	needLong(t)
	s := newStage(t)
	s.kafkaAttempts()
	s.redisAttempts()
	s.temporalAttempts()
	s.Ready(s.Worker())
	p := s.Pipeline(strings.Replace(shopsYAML, "overflow: journal", "overflow: block", 1), 1)
	s.Must("start", p.File, "--wait", "60s")
	name := p.Spec.Name
	events := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(events, []byte(`{"shop":"a","at":984873600000}`+"\n"), 0o600))
	commands := map[string][][]string{
		"Kafka":    {{"feed", events, "--topic", p.Spec.Source.Topics[0]}, {"status", name}, {"verify", name}},
		"Redis":    {{"status", name}, {"verify", name}},
		"Temporal": {{"status", name}, {"start", p.File}, {"verify", name}, {"pause", name}},
	}
	logins := map[string]bool{"SCRAM-SHA-512": true, "ACL user, TLS": true, "API key, TLS": true}
	for _, a := range s.attempts {
		if !logins[a.login] || a.says == nil {
			continue
		}
		for _, command := range commands[a.server] {
			t.Run(fmt.Sprintf("%s %s %s", command[0], a.server, a.fault), func(t *testing.T) {
				began := time.Now()
				answer := rig.RunProgram(t, append(s.Env(), a.env...), "millrace", command...)
				took := time.Since(began)
				s.secrets.requireNoneIn(t, "what the command said", answer.Out+answer.Err)
				t.Logf("code %d after %.1f s: %s", answer.Code, took.Seconds(), answer.Err)
				require.Less(t, took, limit)
				line := answer.Err
				if command[0] == "status" && a.server != "Temporal" { // it shows what it can, and in its place what it cannot
					line = saysAll(answer.Out, a.says)
				} else {
					require.NotZero(t, answer.Code)
					require.Equal(t, 1, strings.Count(line, "\n"), "one line")
				}
				for _, text := range a.says {
					require.Contains(t, line, text, answer.Out)
				}
			})
		}
	}
}

// saysAll is the first line of a text that holds all of these, "" without one.
func saysAll(text string, all []string) string {
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(all, func(one string) bool { return !strings.Contains(line, one) }) {
			return line
		}
	}
	return ""
}
