package event

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

func flightsSpec(t testing.TB) *spec.Spec {
	t.Helper()
	data, err := os.ReadFile("../../examples/flights/flights.yaml")
	require.NoError(t, err)
	s, err := spec.Parse("flights.yaml", data)
	require.NoError(t, err)
	return s
}

// flightLines returns the first lines of the real input, and their mean length in bytes.
func flightLines(t testing.TB, count int) (lines [][]byte, mean int64) {
	t.Helper()
	f, err := os.Open("../../examples/flights/flights-2001-01.jsonl.gz")
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	total := 0
	for in := bufio.NewScanner(z); in.Scan() && len(lines) < count; {
		lines = append(lines, bytes.Clone(in.Bytes()))
		total += len(in.Bytes())
	}
	require.Len(t, lines, count)
	return lines, int64(total / count)
}

func BenchmarkDecode(b *testing.B) {
	lines, mean := flightLines(b, 10_000)
	shuffled := make([][]byte, len(lines))
	for i, line := range lines { // every second record begins with another field
		shuffled[i] = line
		if i%2 == 0 {
			shuffled[i] = append([]byte(`{"carrier":"DL",`), line[1:]...)
		}
	}
	spaced := make([][]byte, len(lines))
	for i, line := range lines {
		spaced[i] = bytes.ReplaceAll(bytes.ReplaceAll(line, []byte(":"), []byte(": ")), []byte(","), []byte(", "))
	}
	plain := flightsSpec(b)
	filtered := flightsSpec(b)
	filtered.Where = `delay > 15 && origin != "ATL"`
	reckoned := flightsSpec(b)
	reckoned.Where = `delay * 60 + 1 > 900 && origin != destination`
	for _, c := range []struct {
		name  string
		spec  *spec.Spec
		lines [][]byte
	}{
		{"flights", plain, lines},
		{"changing fields", plain, shuffled},
		{"spaced", plain, spaced},
		{"where", filtered, lines},
		{"where reckons", reckoned, lines},
	} {
		b.Run(c.name, func(b *testing.B) {
			d, err := NewDecoder(c.spec)
			require.NoError(b, err)
			var ev Event
			b.SetBytes(mean)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := d.Decode(c.lines[i], &ev); err != nil {
					b.Fatal(err)
				}
				if i++; i == len(c.lines) {
					i = 0
				}
			}
		})
	}
}
