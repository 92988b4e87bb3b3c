package rig

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy is a stable address in front of a server that can be cut off or replaced.
type Proxy struct {
	Addr string

	mu     sync.Mutex
	target string // "" refuses
	open   map[net.Conn]struct{}
}

func StartProxy(t *testing.T, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Addr: l.Addr().String(), target: target, open: make(map[net.Conn]struct{})}
	t.Cleanup(func() {
		l.Close()
		p.Point("")
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// Point cuts all connections and sends new ones to target; "" refuses them.
func (p *Proxy) Point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for c := range p.open {
		c.Close()
	}
}

func (p *Proxy) serve(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	target := p.target
	p.open[c] = struct{}{}
	p.mu.Unlock()
	defer p.forget(c)
	if target == "" {
		return
	}
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer s.Close()
	p.mu.Lock()
	p.open[s] = struct{}{}
	moved := p.target != target
	p.mu.Unlock()
	defer p.forget(s)
	if moved {
		return
	}
	go func() {
		io.Copy(s, c)
		s.Close()
	}()
	io.Copy(c, s)
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}
