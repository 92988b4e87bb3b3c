package credential

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// commandTimeout bounds a command that prints a token: a connection waits for it.
	commandTimeout = 5 * time.Second
	// tokenMargin is how long before its end a token is replaced; of a short-lived one it is a tenth of its life.
	tokenMargin = 30 * time.Second
	// unboundToken is how long a token of a command that does not say when it ends is used for further connections.
	unboundToken = 10 * time.Second
)

// Tokens supplies bearer tokens from a file or from a command that prints one. It is safe for concurrent use.
type Tokens struct {
	file    Secret
	command []string
	now     func() time.Time

	mu    sync.Mutex // guards the rest, and lets one command run at a time
	token string
	until time.Time
}

// TokenFile returns tokens from a file, which somebody replaces before the token ends.
func TokenFile(path string) *Tokens { return &Tokens{file: InFile(path), now: time.Now} }

// TokenCommand returns tokens that a command prints on standard output. It is run without a shell, when a connection needs a
// token and the last one has ended or is about to.
func TokenCommand(command []string) *Tokens { return &Tokens{command: command, now: time.Now} }

// Check looks whether the file can be read and whether there is such a command, without running it.
func (t *Tokens) Check() error {
	if len(t.command) == 0 {
		_, err := t.Token(context.Background())
		return err
	}
	_, err := exec.LookPath(t.command[0])
	return err
}

// Token returns a token that has not ended. The error never holds a token, nor what the command printed.
func (t *Tokens) Token(ctx context.Context) (string, error) {
	if len(t.command) == 0 {
		token, err := t.file.Get()
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		token = strings.TrimSpace(token)
		if ends, ok := tokenEnd(token); ok && !t.now().Before(ends) {
			return "", fmt.Errorf("the token in %s ended at %s; somebody has to replace it", t.file.file.Path(), ends.UTC().Format(time.RFC3339))
		}
		return token, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if t.token != "" && now.Before(t.until) {
		return t.token, nil
	}
	token, err := t.run(ctx)
	if err != nil {
		return "", err
	}
	ends, ok := tokenEnd(token)
	if !ok {
		t.token, t.until = token, now.Add(unboundToken)
		return token, nil
	}
	if !now.Before(ends) {
		return "", fmt.Errorf("the token of command %s ended at %s already", t.command[0], ends.UTC().Format(time.RFC3339))
	}
	t.token, t.until = token, ends.Add(-min(tokenMargin, ends.Sub(now)/10))
	return token, nil
}

// run asks the command for a token.
func (t *Tokens) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.command[0], t.command[1:]...)
	cmd.WaitDelay = time.Second // children that hold the pipe do not keep us
	out := &bounded{left: MaxSecretBytes}
	cmd.Stdout = out
	err := cmd.Run()
	token := strings.TrimSpace(out.buf.String())
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("token command %s has not ended within %s", t.command[0], commandTimeout)
	case out.over:
		return "", fmt.Errorf("token command %s prints more than %d bytes; want a token and nothing else", t.command[0], MaxSecretBytes)
	case errors.As(err, &ended):
		return "", fmt.Errorf("token command %s ended with %s; run it by hand to see why", t.command[0], ended.ProcessState)
	case err != nil:
		return "", fmt.Errorf("token command %s: %w", t.command[0], err)
	case token == "":
		return "", fmt.Errorf("token command %s prints nothing; want a token", t.command[0])
	}
	return token, nil
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	buf  bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.over = true
		return 0, io.ErrShortWrite
	}
	b.left -= len(p)
	return b.buf.Write(p)
}

// tokenEnd is when a token ends, if it is a JWT that says so. It is not verified: that is the server's business.
func tokenEnd(token string) (ends time.Time, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ends, false
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return ends, false
	}
	var claims struct {
		Exp json.Number `json:"exp"`
	}
	if json.Unmarshal(body, &claims) != nil {
		return ends, false
	}
	seconds, err := claims.Exp.Float64()
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return ends, false
	}
	return time.Unix(int64(seconds), 0), true
}
