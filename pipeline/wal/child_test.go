package wal_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
)

const (
	childDir     = "MILLRACE_WAL_TEST_DIR"
	childBackend = "MILLRACE_WAL_TEST_BACKEND"
	dataStart    = 3 * 4096
)

// child appends for ever and prints what was acknowledged. It is the test binary, started by TestKilled.
func child(dir string) int {
	l, _, err := wal.Open(small(wal.OS, dir, wal.Backend(os.Getenv(childBackend))))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	next := map[string]int{}
	for _, s := range l.Streams() {
		next[s.Stream] = int(s.Chains[0].Last.Seq)
	}
	done := make(chan error)
	for w := range 3 {
		go func() {
			stream := fmt.Sprintf("w%d", w)
			for i := next[stream] + 1; ; i++ {
				index, err := l.Append(context.Background(), record(stream, i, 100+i%3000))
				if err != nil {
					done <- err
					return
				}
				if _, err := fmt.Printf("%s %d\n", stream, i); err != nil {
					done <- err
					return
				}
				if i%50 == 0 {
					l.Release([]byte(stream), index-500)
				}
			}
		}()
	}
	fmt.Fprintln(os.Stderr, <-done)
	return 1
}

// TestKilled kills a process in the middle of appending, again and again on the same log, and looks for every record it
// had seen acknowledged.
func TestKilled(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	backends(t, func(t *testing.T, backend wal.Backend) {
		dir := filepath.Join(t.TempDir(), "log")
		acked := map[string]int{}
		for round := range rounds {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childDir+"="+dir, childBackend+"="+string(backend))
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(out)
			for n := 0; lines.Scan(); n++ {
				var stream string
				var i int
				if _, err := fmt.Sscanf(lines.Text(), "%s %d", &stream, &i); err == nil {
					acked[stream] = max(acked[stream], i)
				}
				if n == 100+37*round {
					require.NoError(t, cmd.Process.Kill())
				}
			}
			require.Error(t, cmd.Wait())

			l, rep, err := wal.Open(small(wal.OS, dir, backend))
			require.NoError(t, err)
			require.Empty(t, rep.Corrupt)
			require.Empty(t, rep.Headers)
			for stream, last := range acked {
				got, corrupt := read(t, l.StreamReader([]byte(stream), 0))
				require.Empty(t, corrupt)
				require.NotEmpty(t, got)
				first := int(got[0].Place.Seq)
				for i, rec := range got {
					want := record(stream, first+i, 100+(first+i)%3000)
					require.Equal(t, string(want.Data), string(rec.Data))
				}
				require.GreaterOrEqual(t, first+len(got)-1, last, "acknowledged and gone")
			}
			require.NoError(t, l.Close())
		}
	})
}
