package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	goleak.VerifyTestMain(m)
}

// deadline bounds what a test waits for; it is never reached unless something is broken.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// small is a configuration with the smallest segments.
func small(fs wal.FS, dir string, backend wal.Backend) wal.Config {
	return wal.Config{
		Dir: dir, FS: fs, Backend: backend, SegmentSize: wal.MinSegmentSize, HardLimit: 64 << 20,
		MarkAfter: time.Millisecond, RetryAfter: time.Millisecond,
	}
}

func open(t testing.TB, cfg wal.Config) (*wal.Log, *wal.Recovery) {
	t.Helper()
	l, rep, err := wal.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, rep
}

// record makes the i-th record of a stream, recognisable by its content.
func record(stream string, i int, size int) wal.Record {
	data := fmt.Appendf(nil, "%s/%d/", stream, i)
	for len(data) < size {
		data = append(data, byte('a'+(i+len(data))%26))
	}
	return wal.Record{Stream: []byte(stream), Chain: []byte("1:token"), Place: wal.Place{Seq: uint64(i)}, Pos: int64(i * 10), Data: data[:size]}
}

// read collects what a reader yields up to the end. Corrupt ranges are skipped and returned.
func read(t testing.TB, r *wal.Reader) (records []wal.Record, corrupt []wal.Range) {
	t.Helper()
	defer r.Close()
	for {
		rec, err := r.Next()
		var bad *wal.CorruptError
		switch {
		case err == nil:
			rec.Data = append([]byte(nil), rec.Data...)
			rec.Stream, rec.Chain = append([]byte(nil), rec.Stream...), append([]byte(nil), rec.Chain...)
			records = append(records, rec)
		case errors.Is(err, io.EOF):
			return records, corrupt
		case errors.As(err, &bad):
			corrupt = append(corrupt, bad.Range)
			r.Skip()
		default:
			require.NoError(t, err)
		}
	}
}

// eventually waits for a condition another goroutine brings about.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 30*time.Second, time.Millisecond)
}

// settled says whether there are n files and none in the making.
func settled(fs *faultfs.FS, n int) bool {
	files := fs.Files()
	return len(files) == n && !slices.ContainsFunc(files, func(name string) bool { return strings.HasSuffix(name, ".tmp") })
}

func backends(t *testing.T, test func(t *testing.T, backend wal.Backend)) {
	for _, b := range []wal.Backend{wal.Write, wal.Mmap} {
		t.Run(string(b), func(t *testing.T) { test(t, b) })
	}
}
