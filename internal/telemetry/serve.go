package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"millrace/internal/contract"
)

// Server answers /metrics (Prometheus), /healthz (the process lives), /readyz (it may be given work) and /health (its pipelines
// do their work).
type Server struct {
	http     *http.Server
	listener net.Listener
}

// Health is what /health answers as JSON, with 200 when Healthy and 503 otherwise.
type Health struct {
	contract.Standing
	Pipelines map[string]contract.Standing `json:"pipelines"`
}

// Listen starts answering on addr (host:port, port 0 for a free one). ready returns nil, or why the process is not ready. Both
// functions are called from any goroutine.
func Listen(addr string, metrics *Registry, ready func() error, health func() Health) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: cannot listen on %s: %w; choose another address with --metrics", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics.Handler())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		h := health()
		w.Header().Set("Content-Type", "application/json")
		if !h.Healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(h) // whoever asked has gone
	})
	s := &Server{
		http:     &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second},
		listener: listener,
	}
	go func() { _ = s.http.Serve(listener) }() // ends with Close
	return s, nil
}

// Addr is the address that answers.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close stops answering.
func (s *Server) Close(ctx context.Context) error {
	return s.http.Shutdown(ctx)
}
