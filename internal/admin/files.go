package admin

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// maxFile bounds what is read of a certificate, key or token file.
const maxFile = 1 << 20

// parsedFiles is what some files hold, parsed. Every get reads the files, which are small and seldom asked for, and parses them
// again only when their bytes have changed. While the files cannot be read or parsed, as in the middle of a rotation, what they
// held before stays in force. Its methods may be called from any goroutine.
type parsedFiles[T any] struct {
	names []string
	parse func(contents [][]byte) (T, error)
	log   *slog.Logger

	mu       sync.Mutex // guards what follows
	contents [][]byte
	value    T
	warned   string // the last error, so that each is logged once
}

// readFiles parses the files for the first time, when a failure is an error.
func readFiles[T any](log *slog.Logger, parse func([][]byte) (T, error), names ...string) (*parsedFiles[T], error) {
	f := &parsedFiles[T]{names: names, parse: parse, log: log}
	if err := f.reread(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return f, nil
}

func (f *parsedFiles[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.reread()
	switch {
	case err == nil:
		f.warned = ""
	case err.Error() != f.warned:
		f.warned = err.Error()
		f.log.Warn("admin listener: a file cannot be read again; what it held before stays in force", "error", err)
	}
	return f.value
}

func (f *parsedFiles[T]) reread() error {
	contents := make([][]byte, len(f.names))
	for i, name := range f.names {
		var err error
		if contents[i], err = readFile(name); err != nil {
			return err
		}
	}
	if f.contents != nil && equal(contents, f.contents) {
		return nil
	}
	value, err := f.parse(contents)
	if err != nil {
		return fmt.Errorf("%s: %w", f.names[0], err)
	}
	f.contents, f.value = contents, value
	return nil
}

func equal(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return content, err
}

func parsePair(contents [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	return &pair, err
}

func parsePool(contents [][]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(contents[0]) {
		return nil, errors.New("holds no PEM certificate")
	}
	return pool, nil
}
