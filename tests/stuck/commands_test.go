package stuck

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

const (
	// soon is how long a command may take to end or to say what it waits for.
	soon = 10 * time.Second
	// wait is the --wait of commands. Within bounded they end, with what they do before and after it.
	wait    = "13s"
	bounded = 40 * time.Second
)

// try is a command that is sent into a state.
type try struct {
	args []string // "NAME" stands for the pipeline's
	code []int    // one of these
	says string   // a regular expression for everything that it prints
}

func pause(says string, code ...int) try {
	return try{[]string{"pause", "NAME", "--wait", wait}, code, says}
}
func resume(says string, code ...int) try {
	return try{[]string{"resume", "NAME", "--wait", wait}, code, says}
}
func scale(says string, code ...int) try {
	return try{[]string{"scale", "NAME", "2", "--wait", wait}, code, says}
}
func stop(says string, code ...int) try {
	return try{[]string{"stop", "NAME", "--wait", wait}, code, says}
}
func drain(says string, code ...int) try {
	return try{[]string{"stop", "NAME", "--drain", "--timeout", "5s", "--wait", "20s"}, code, says}
}
func remove(says string, code ...int) try {
	return try{[]string{"rm", "NAME", "--yes", "--grace", "1s"}, code, says}
}

const stillOpen = "is open;(?s:.*)stop it first with"

// waiting is a line that says what a command waits for, and left what a command says that has waited long enough.
var (
	waiting = regexp.MustCompile(`(?m)^.+: .*(waits for|are missing|cannot be read|at the longest)`)
	left    = regexp.MustCompile("goes on(?s:.*)(`|--request-id)")
)

// send sends commands one after the other.
func (s *scene) send(tries []try) {
	s.t.Helper()
	for _, c := range tries {
		s.try(c)
	}
}

// try wants a command to end or to say soon what it waits for, and then to end in its time. One without a bound of its own
// (rm) is interrupted, and says what goes on.
func (s *scene) try(c try) {
	s.t.Helper()
	args := slices.Clone(c.args)
	for i := range args {
		args[i] = strings.Replace(args[i], "NAME", s.Spec.Name, 1)
	}
	r := s.running(args)
	defer func() {
		if s.t.Failed() {
			s.t.Logf("millrace %s says:\n%s", strings.Join(args, " "), r.output())
		}
	}()
	said := "nothing"
	rig.Eventually(s.t, "millrace "+strings.Join(args, " ")+" ends or says what it waits for", soon, func() bool {
		said = r.output()
		return r.ended() || waiting.MatchString(said)
	})
	took := time.Since(r.began)
	timer := time.NewTimer(bounded)
	defer timer.Stop()
	if args[0] == "rm" {
		timer.Reset(soon)
	}
	select {
	case <-r.done:
	case <-timer.C:
		require.Equal(s.t, "rm", args[0], "millrace %v does not end; it says:\n%s", args, r.output())
		require.NoError(s.t, r.cmd.Process.Signal(syscall.SIGINT))
		<-r.done
	}
	code, text := r.cmd.ProcessState.ExitCode(), r.output()
	s.t.Logf("millrace %s: exit code %d, first word after %v\n%s", strings.Join(args, " "), code, took.Round(100*time.Millisecond), text)
	require.Contains(s.t, c.code, code, "millrace %v says:\n%s", args, text)
	require.Regexp(s.t, c.says, text)
	if code != 0 {
		require.NotEmpty(s.t, r.errs.String(), "a command that fails says why")
	}
	if code == 130 || strings.Contains(text, "no answer within") {
		require.Regexp(s.t, left, text, "it says how to go on")
	}
}

// running is a command that has been started.
type running struct {
	cmd       *exec.Cmd
	out, errs rig.Output
	began     time.Time
	done      chan struct{}
}

func (s *scene) running(args []string) *running {
	s.t.Helper()
	path, err := rig.Binary("millrace")
	require.NoError(s.t, err)
	r := &running{cmd: exec.Command(path, args...), began: time.Now(), done: make(chan struct{})}
	r.cmd.Env = append(r.cmd.Environ(), s.Env()...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	require.NoError(s.t, r.cmd.Start())
	s.t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // gone already is fine
		<-r.done
	})
	go func() {
		defer close(r.done)
		_ = r.cmd.Wait() // how it ended is in its state
	}()
	return r
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (r *running) output() string { return r.errs.String() + r.out.String() }

func TestWaitingLines(t *testing.T) {
	for text, want := range map[string]bool{
		"stop of pipeline:p: waits for Redis: write that it stops since 2026-11-29T12:00:00Z":                             true,
		"pause of pipeline:p: 1 of 2 lanes are missing: t/0: x":                                                           true,
		"surveying: Redis and Kafka: look; it waits, the last try failed: EOF, until 2026-11-29T18:19:12Z at the longest": true,
		"millrace: workflow pipeline:p is open":                                                                           false,
	} {
		require.Equal(t, want, waiting.MatchString(text), text)
	}
	require.Regexp(t, left, "the request goes on without this command. Look with `millrace status p`")
	require.NotRegexp(t, left, "no answer")
}
