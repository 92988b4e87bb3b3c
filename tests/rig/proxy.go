package rig

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proxy is a stable address in front of a server that can be cut off, replaced, slowed down or silenced.
type Proxy struct {
	Addr string

	mu       sync.Mutex
	target   string // "" refuses
	weather  Weather
	lost     int // bytes of the largest request since the weather was set
	open     map[net.Conn]struct{}
	finished chan struct{}
}

// Weather is what happens to the bytes on their way. A connection that has lost bytes stays dead, as the two ends would
// never agree again; new ones work once the weather is fair.
type Weather struct {
	Delay time.Duration // of every piece, in both directions
	Hang  bool          // nothing arrives anywhere, and nobody is told; of the first requests lost half arrive
	Mute  bool          // requests arrive, answers do not
}

// StartProxy starts a proxy that ends with the test.
func StartProxy(t *testing.T, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Addr: l.Addr().String(), target: target, open: make(map[net.Conn]struct{}), finished: make(chan struct{})}
	t.Cleanup(func() {
		l.Close()
		close(p.finished)
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

// Set changes the weather from the next byte on.
func (p *Proxy) Set(w Weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather, p.lost = w, 0
}

// Lost is the size of the largest piece of a request that the present weather has cost.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// next is the weather for the next piece.
func (p *Proxy) next(request bool, size int) (delay time.Duration, lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost = p.weather.Hang || p.weather.Mute && !request
	if lost && request {
		p.lost = max(p.lost, size)
	}
	return p.weather.Delay, lost
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
		p.carry(s, c, true)
		s.Close()
	}()
	p.carry(c, s, false)
}

// carry copies until one end is closed. From the first piece that is lost on, all are.
func (p *Proxy) carry(to, from net.Conn, request bool) {
	buf := make([]byte, 32<<10)
	dead := false
	for {
		n, err := from.Read(buf)
		if err != nil {
			if dead && errors.Is(err, io.EOF) {
				<-p.finished // a peer behind a dead link is not heard to hang up
			}
			return
		}
		if dead {
			continue
		}
		delay, lost := p.next(request, n)
		if dead = lost; dead {
			if request {
				to.Write(buf[:n/2])
			}
			continue
		}
		if delay > 0 {
			late := time.NewTimer(delay)
			select {
			case <-late.C:
			case <-p.finished:
				late.Stop()
				return
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}
