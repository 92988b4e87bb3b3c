package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func workload(t *testing.T, name string) *Workload {
	t.Helper()
	t.Chdir("../../..") // the flights are named from the project's root
	w, err := (&workloadFlags{file: "bench/peers/workloads.json", name: name}).load()
	require.NoError(t, err)
	return w
}

// shrink makes a synthetic workload small enough for a naive computation.
func shrink(w *Workload) *Workload {
	w.Records, w.Keys = 20_000, min(w.Keys, 50)
	return w
}

func TestEventsAreWhatTheirJSONSays(t *testing.T) {
	for _, name := range []string{"10s-100k", "zipf", "hopping", "1h-64p", "flights"} {
		t.Run(name, func(t *testing.T) {
			w := workload(t, name)
			if w.flights == nil {
				shrink(w)
			}
			fast, plain := parserOf(w, true), parserOf(w, false)
			high, n := int64(0), int64(0)
			w.each(func(e Event) {
				n++
				high = max(high, e.At)
				if high-e.At >= w.Disorder || e.At < w.Start || e.At >= w.Start+w.Span {
					t.Fatalf("event %d at %d is outside of what the workload says", n, e.At)
				}
				if n%997 != 1 {
					return
				}
				for _, parse := range []parser{fast, plain} {
					at, key, value, err := parse(e.json)
					require.NoError(t, err)
					require.Equal(t, e.At, at)
					require.Equal(t, w.keyName(e.Key), key)
					require.Equal(t, e.Value, value)
					require.Equal(t, e.Key, w.keyIndex([]byte(key)))
				}
			})
			require.Equal(t, w.Records, n)
		})
	}
}

func TestFirstCopyOfTheFlightsIsTheFile(t *testing.T) {
	w := workload(t, "flights")
	file, err := os.Open(w.Flights)
	require.NoError(t, err)
	defer file.Close()
	text, err := gzip.NewReader(file)
	require.NoError(t, err)
	lines := bufio.NewScanner(text)
	w.Copies, w.Span = 1, w.Span/w.Copies
	n := 0
	w.each(func(e Event) {
		n++
		if !lines.Scan() || !bytes.Equal(lines.Bytes(), e.json) {
			t.Fatalf("line %d is %s, not %s", n, lines.Bytes(), e.json)
		}
	})
	require.False(t, lines.Scan())
}

func TestTheTruthIsWhatScanningAllWindowsGives(t *testing.T) {
	for _, name := range []string{"10s-100k", "hopping", "1h-64p"} {
		t.Run(name, func(t *testing.T) {
			w := shrink(workload(t, name))
			w.Records = 2_000
			grid, filled := truth(w)
			want := map[[2]int64]*Row{}
			w.each(func(e Event) {
				for start := w.Start - w.Size; start <= w.Start+w.Span; start += w.Slide {
					if start > e.At || e.At >= start+w.Size {
						continue
					}
					r := want[[2]int64{start, e.Key}]
					if r == nil {
						r = &Row{Min: 1 << 60, Max: -1 << 60}
						want[[2]int64{start, e.Key}] = r
					}
					r.Count, r.Sum = r.Count+1, r.Sum+e.Value
					r.Min, r.Max = min(r.Min, e.Value), max(r.Max, e.Value)
				}
			})
			require.EqualValues(t, len(want), filled)
			for id, r := range want {
				require.Equal(t, *r, grid.rows[grid.place(id[0], id[1])], "window %d key %d", id[0], id[1])
			}
		})
	}
}

func TestClosingRecordsLieBehindEveryWindow(t *testing.T) {
	for _, name := range []string{"10s-100k", "flights"} {
		t.Run(name, func(t *testing.T) {
			w := workload(t, name)
			_, value := w.closing(3)
			at, key, _, err := parserOf(w, true)(value)
			require.NoError(t, err)
			require.True(t, json.Valid(value))
			require.Equal(t, "closing-3", key)
			require.GreaterOrEqual(t, at-w.Disorder, w.Start+w.Span+w.Size)
		})
	}
}
