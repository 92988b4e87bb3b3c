package secure

import (
	"crypto/rand"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// planted are secrets that occur nowhere else, so that a text which holds one has leaked it.
type planted struct {
	mu     sync.Mutex
	byName map[string]string
}

// plant makes a secret, once for each name.
func (p *planted) plant(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byName == nil {
		p.byName = make(map[string]string)
	}
	if p.byName[name] == "" {
		p.byName[name] = "planted" + rand.Text()
	}
	return p.byName[name]
}

// add takes a secret that was made elsewhere, such as a signed token.
func (p *planted) add(name, secret string) string {
	p.plant(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byName[name] = secret
	return secret
}

// in are the names of the secrets that a text holds.
func (p *planted) in(text string) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, secret := range p.byName {
		if strings.Contains(text, secret) {
			names = append(names, name)
		}
	}
	return names
}

// requireNoneIn wants a text to hold none of them.
func (p *planted) requireNoneIn(t *testing.T, what, text string) {
	t.Helper()
	require.Empty(t, p.in(text), "%s holds secrets", what)
}
