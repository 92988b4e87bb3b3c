package admin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"millrace/internal/contract"
	"millrace/pipeline/credential"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second // a profile's own seconds come on top
	idleTimeout   = 30 * time.Second

	maxHeader      = 16 << 10
	maxBody        = 64 << 10 // of addresses to look up; nothing else has a body
	maxConnections = 256
)

// Health is what /health answers as JSON, with 200 when Healthy and 503 otherwise.
type Health struct {
	contract.Standing
	Pipelines map[string]contract.Standing `json:"pipelines"`
}

// Answers is what the listener serves. All are called from any goroutine.
type Answers struct {
	Metrics http.Handler
	Ready   func() error // nil, or why the process is not ready
	Health  func() Health
}

// Server answers /metrics (Prometheus), /healthz (the process lives), /readyz (it may be given work), /health (its pipelines do
// their work) and /debug/pprof/ (profiles).
type Server struct {
	http     *http.Server
	listener net.Listener
	cfg      Config
}

// Listen starts to answer at cfg.Addr.
func Listen(cfg Config, answers Answers, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a, secured, err := credentials(cfg, log)
	if err != nil {
		return nil, err
	}
	host, port, err := cfg.hostPort()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("admin: cannot listen on %s: %w; choose another address", cfg.Addr, err)
	}
	a.loopbackOnly = listener.Addr().(*net.TCPAddr).IP.IsLoopback()
	warnOfOpenDoors(cfg, a, log)
	s := &Server{cfg: cfg, listener: listener, http: &http.Server{
		Handler:           http.MaxBytesHandler(routes(answers, a), maxBody),
		TLSConfig:         secured,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers send is no warning of ours
	}}
	serving := netutil.LimitListener(listener, maxConnections)
	go func() { // ends with Close
		if cfg.tls() {
			_ = s.http.ServeTLS(serving, "", "")
			return
		}
		_ = s.http.Serve(serving)
	}()
	return s, nil
}

// credentials reads the files of cfg: who may ask, and nil or how TLS is spoken.
func credentials(cfg Config, log *slog.Logger) (a *access, secured *tls.Config, err error) {
	outdated := func(err error) {
		log.Warn("admin listener: a file cannot be read again; what it held before stays in force", "error", err)
	}
	a = &access{clientCert: cfg.ClientCAFile != ""}
	if cfg.TokenFile != "" {
		a.token = credential.NewParsed(parseToken, outdated,
			credential.Part{Kind: "token file", File: credential.NewFile(cfg.TokenFile, credential.MaxSecretBytes)})
		if _, err := a.token.Get(); err != nil {
			return nil, nil, fmt.Errorf("admin: %w", err)
		}
	}
	if !cfg.tls() {
		return a, nil, nil
	}
	pair := credential.NewPair(cfg.CertFile, cfg.KeyFile, outdated)
	if _, err := pair.Get(); err != nil {
		return nil, nil, fmt.Errorf("admin: %w", err)
	}
	secured = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.Get() },
	}
	if cfg.ClientCAFile == "" {
		return a, secured, nil
	}
	clients := credential.NewPool(cfg.ClientCAFile, outdated)
	if _, err := clients.Get(); err != nil {
		return nil, nil, fmt.Errorf("admin: %w", err)
	}
	// A certificate that is given must be good; that one is given at all is wanted by each path, as probes have none.
	secured.ClientAuth = tls.VerifyClientCertIfGiven
	base := secured.Clone()
	secured.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := clients.Get()
		if err != nil {
			return nil, err
		}
		each := base.Clone()
		each.ClientCAs = pool
		return each, nil
	}
	return a, secured, nil
}

func warnOfOpenDoors(cfg Config, a *access, log *slog.Logger) {
	switch {
	case a.loopbackOnly:
	case a.token != nil && !cfg.tls():
		log.Warn("admin listener: its token crosses the network in clear text; set admin.tls.cert and admin.tls.key", "address", cfg.Addr)
	case a.token == nil && !a.clientCert:
		log.Warn("admin listener: /metrics and /health are open to the network, profiles are refused; set admin.token_file",
			"address", cfg.Addr)
	}
}

func routes(answers Answers, a *access) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := answers.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("/metrics", a.guard(answers.Metrics))
	mux.Handle("/health", a.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := answers.Health()
		w.Header().Set("Content-Type", "application/json")
		if !h.Healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(h) // whoever asked has gone
	})))
	mux.Handle(profilesPath, a.guardProfiles(profiles()))
	return mux
}

// Addr is the address that answers.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is where the metrics are, for a log line.
func (s *Server) URL() string {
	if s.cfg.tls() {
		return "https://" + s.Addr() + "/metrics"
	}
	return "http://" + s.Addr() + "/metrics"
}

// Close stops answering: at once when ctx ends, profiles included.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return s.http.Close()
	}
	return err
}
