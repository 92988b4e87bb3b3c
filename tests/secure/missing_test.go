package secure

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// Of the rights that a start needs one is missing, each in turn: somebody is told what may not be done.
func TestMissingRights(t *testing.T) {
	needLong(t)
	s := newSecured(t)
	s.redisRights()
	worker := s.work()
	for n := range s.rules() {
		s.Pipeline = s.World.Pipeline(shopsYAML, 1)
		rules := s.rules()
		missing := rules[n]
		what := strings.ReplaceAll(missing.String(), s.Spec.Name, "NAME")
		needed := map[string]bool{
			"TOPIC NAME: READ": true, "GROUP millrace.NAME: READ": true, "TRANSACTIONAL_ID millrace.NAME.close.*: WRITE": true,
			"TOPIC NAME.ledger: CREATE": true,
		}
		if !needed[what] {
			continue
		}
		s.broker.allow(append(rules[:n:n], rules[n+1:]...)...)
		before := len(worker.Said())
		a := s.CLI("start", s.File, "--wait", "5s")
		at := time.Date(2001, 3, 18, 23, 0, 0, 0, time.UTC).UnixMilli()
		for hour := range int64(30) {
			s.Send(0, fmt.Appendf(nil, `{"shop":"a","at":%d}`, at+hour*3_600_000), []byte("no JSON"))
		}
		s.Send(0, fmt.Appendf(nil, `{"shop":"a","at":%d}`, at))
		told := func() string {
			for line := range strings.Lines(a.Err + worker.Said()[before:]) {
				if strings.Contains(strings.ToLower(line), "not authorized") || strings.Contains(line, "uthorization") {
					return strings.TrimSpace(line)
				}
			}
			return ""
		}
		rig.Eventually(t, "somebody is told that "+what+" is missing", rig.Patience, func() bool { return told() != "" })
		t.Logf("without %s: %.420s", what, strings.ReplaceAll(told(), s.Spec.Name, "NAME"))
	}
}

// redisRights takes commands that a start needs from the user, each in turn.
func (s *secured) redisRights() {
	t := s.T
	for _, command := range []string{"info", "set"} {
		require.NoError(t, s.redis.rdb.Do(context.Background(), "ACL", "SETUSER", principal, "-"+command).Err())
		program := s.WorkerProgram("without-" + command)
		program.Args = append(program.Args, "--metrics", fmt.Sprintf("127.0.0.1:%d", rig.FreePort(t)))
		w := rig.Spawn(t, program)
		rig.Eventually(t, "a worker without "+command+" ends", rig.Patience, w.Ended)
		lines := complaints(w.Said())
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `Redis does not let user "millrace" do what is needed`)
		require.Contains(t, lines[0], "'"+command+"'")
		t.Logf("without +%s: %s", command, lines[0])
		require.NoError(t, s.redis.rdb.Do(context.Background(), "ACL", "SETUSER", principal, "+"+command).Err())
	}
}
