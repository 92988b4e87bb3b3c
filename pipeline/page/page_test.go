package page

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
)

const stateID = "0123456789abcdef"

// build makes a page of entries that are sorted here.
func build(place Place, offset int64, entries map[string]string) (Name, []byte) {
	keys := make([]string, 0, len(entries))
	for key := range entries {
		keys = append(keys, key)
	}
	sort.Slice(keys, func(i, j int) bool {
		x, y := agg.Hash([]byte(keys[i])), agg.Hash([]byte(keys[j]))
		return x < y || x == y && keys[i] < keys[j]
	})
	var w Writer
	value := w.Begin(nil, stateID, offset)
	for _, key := range keys {
		value = w.Add(value, []byte(key), func(dst []byte) []byte { return append(dst, entries[key]...) })
	}
	w.End(value)
	return Name{
		Place: place, Offset: offset, Bytes: len(value),
		First: agg.Hash([]byte(keys[0])), Last: agg.Hash([]byte(keys[len(keys)-1])),
	}, value
}

func parse(t *testing.T, name Name, value []byte) *Page {
	t.Helper()
	p, err := Parse(name, stateID, value)
	require.NoError(t, err)
	return p
}

func TestPageHoldsItsEntries(t *testing.T) {
	for _, sizes := range [][]int{{0}, {1}, {127, 128}, {1<<14 - 1, 1 << 14, 3}, {300_000, 5}} {
		entries := make(map[string]string)
		for i, size := range sizes {
			for k := range 5 {
				entries[fmt.Sprintf("key-%d-%d", i, k)] = strings.Repeat("e", size)
			}
		}
		entries[""] = "the empty key"
		name, value := build(Place{3, 1}, 77, entries)
		p := parse(t, name, value)
		require.Equal(t, len(entries), p.Len())
		for i := range p.Len() {
			key, entry := p.Entry(i)
			require.Equal(t, entries[string(key)], string(entry))
			require.Equal(t, agg.Hash(key), p.Hash(i))
			delete(entries, string(key))
		}
		require.Empty(t, entries)
	}
}

// The format is stored: this page was written by the release that introduced it.
func TestFirstPageIsRead(t *testing.T) {
	const golden = "0210303132333435363738396162636465660702000000a905cd30016282000a0b0161810009"
	name, value := build(Place{1, 0}, 7, map[string]string{"a": "\x09", "b": "\x0a\x0b"})
	require.Equal(t, golden, hex.EncodeToString(value))
	require.Equal(t, "1:0:7:78452aa11af39f9b-d24ec4f1a98c6e5b:38", name.String())
}

func TestNames(t *testing.T) {
	for _, n := range []Name{{}, {Place: Place{1 << 40, 7}, Offset: math.MaxInt64, First: 1, Last: math.MaxUint64, Bytes: 1 << 30}} {
		got, err := ParseName(n.String())
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
	for _, text := range []string{
		"", "1:2:3", "1:2:3:0-0:4", "1:2:3:0000000000000000-0000000000000000:", "1:2:3:0000000000000002-0000000000000001:4",
		"-1:2:3:0000000000000000-0000000000000000:4", "1:2:3:0000000000000000-0000000000000000:4:5", "+1:2:3:0000000000000000-0000000000000000:4",
	} {
		_, err := ParseName(text)
		require.ErrorIs(t, err, ErrCorrupt, text)
	}
}

func TestDamageIsSeen(t *testing.T) {
	name, value := build(Place{1, 0}, 7, map[string]string{"a": "x", "b": "y", "c": "z"})
	for i := range value {
		for bit := range 8 {
			bad := bytes.Clone(value)
			bad[i] ^= 1 << bit
			_, err := Parse(name, stateID, bad)
			require.Error(t, err)
			require.Equal(t, i == 0 && bad[0] > Format, errors.Is(err, ErrNewer), "byte %d", i)
		}
	}
	for i := range value {
		_, err := Parse(name, stateID, value[:i])
		require.ErrorIs(t, err, ErrCorrupt)
	}
	_, err := Parse(name, "another state", value)
	require.ErrorContains(t, err, "is of the state")
	for _, change := range []func(*Name){
		func(n *Name) { n.Offset++ }, func(n *Name) { n.First-- }, func(n *Name) { n.Last++ }, func(n *Name) { n.Bytes++ },
	} {
		other := name
		change(&other)
		_, err := Parse(other, stateID, value)
		require.ErrorIs(t, err, ErrCorrupt)
	}
}

func TestEntriesOutOfOrderAreCorrupt(t *testing.T) {
	for _, keys := range [][]string{{"a", "a"}, {"b", "a"}, {"a", "c"}} { // b < c < a by hash: one of the three is in order
		var w Writer
		value := w.Begin(nil, stateID, 0)
		for _, key := range keys {
			value = w.Add(value, []byte(key), func(dst []byte) []byte { return dst })
		}
		w.End(value)
		hashes := []uint64{agg.Hash([]byte(keys[0])), agg.Hash([]byte(keys[1]))}
		_, err := Parse(Name{Bytes: len(value), First: hashes[0], Last: hashes[1]}, stateID, value)
		if hashes[0] < hashes[1] {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, "out of order", keys)
	}
}

// Merge agrees with a map that takes the pages oldest first, for any range of hashes.
func TestMergeAgainstAMap(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 9))
		want := make(map[string]string)
		var pages []*Page
		for seq := range int64(rng.IntN(12)) {
			entries := make(map[string]string)
			for range 1 + rng.IntN(30) {
				entries[fmt.Sprint(rng.IntN(60))] = fmt.Sprint("entry ", seq, rng.Int())
			}
			for key, entry := range entries {
				want[key] = entry
			}
			name, value := build(Place{seq + 1, rng.Int64N(3)}, 10*seq, entries)
			pages = append(pages, parse(t, name, value))
		}
		rng.Shuffle(len(pages), func(i, j int) { pages[i], pages[j] = pages[j], pages[i] })
		first, last := uint64(0), uint64(math.MaxUint64)
		if rng.IntN(2) == 0 {
			first, last = rng.Uint64(), rng.Uint64()
			first, last = min(first, last), max(first, last)
		}
		got := make(map[string]string)
		var hashes []uint64
		require.NoError(t, Merge(pages, first, last, func(e *Entry) error {
			require.Equal(t, agg.Hash(e.Key), e.Hash)
			require.True(t, strings.HasPrefix(string(e.Entry), fmt.Sprint("entry ", e.Seq-1)))
			got[string(e.Key)] = string(e.Entry)
			hashes = append(hashes, e.Hash)
			return nil
		}))
		for key := range want {
			if h := agg.Hash([]byte(key)); h < first || h > last {
				delete(want, key)
			}
		}
		require.Equal(t, want, got)
		require.Len(t, hashes, len(got), "each key once")
		require.True(t, slices.IsSorted(hashes))
	}
}

// MergeIn passes on what Merge does of the ranges.
func TestMergeInSeveralRanges(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 10))
		var pages []*Page
		for seq := range int64(1 + rng.IntN(6)) {
			entries := make(map[string]string)
			for range 1 + rng.IntN(60) {
				entries[fmt.Sprint(rng.IntN(90))] = fmt.Sprint("entry ", seq)
			}
			name, value := build(Place{seq + 1, 0}, 10*seq, entries)
			pages = append(pages, parse(t, name, value))
		}
		var ends []uint64
		for range 2 * rng.IntN(20) {
			end := rng.Uint64()
			if p := pages[rng.IntN(len(pages))]; rng.IntN(2) == 0 {
				end = p.Hash(rng.IntN(p.Len()))
			}
			ends = append(ends, end)
		}
		slices.Sort(ends)
		ends = slices.Compact(ends)
		var ranges []HashRange
		var want, got []string
		for i := 0; i+1 < len(ends); i += 2 {
			r := HashRange{ends[i], ends[i+rng.IntN(2)]}
			ranges = append(ranges, r)
			require.NoError(t, Merge(pages, r.First, r.Last, func(e *Entry) error {
				want = append(want, string(e.Key)+string(e.Entry))
				return nil
			}))
		}
		require.NoError(t, MergeIn(pages, ranges, func(e *Entry) error {
			got = append(got, string(e.Key)+string(e.Entry))
			return nil
		}))
		require.Equal(t, want, got)
	}
}

func TestMergeEndsWithAnError(t *testing.T) {
	name, value := build(Place{1, 0}, 1, map[string]string{"a": "", "b": ""})
	calls := 0
	require.ErrorIs(t, Merge([]*Page{parse(t, name, value)}, 0, math.MaxUint64, func(*Entry) error {
		calls++
		return ErrNewer
	}), ErrNewer)
	require.Equal(t, 1, calls)
}

// Whatever the bytes are, Parse neither panics nor takes more memory than they justify, and what it
// accepts can be merged.
func FuzzParse(f *testing.F) {
	for n := range 4 {
		entries := map[string]string{"": "x"}
		for i := range 10 * n {
			entries[fmt.Sprint("key ", i)] = strings.Repeat("e", i*n)
		}
		name, value := build(Place{int64(n), 0}, int64(n), entries)
		f.Add(name.String(), value)
	}
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		name, err := ParseName(text)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		require.Equal(t, text, name.String())
		name.Bytes = len(value)
		reseal(value)
		p, err := Parse(name, stateID, value)
		if err != nil {
			return
		}
		require.LessOrEqual(t, p.Len(), len(value)/leastEntry)
		seen := 0
		require.NoError(t, Merge([]*Page{p, p}, 0, math.MaxUint64, func(e *Entry) error {
			seen++
			return nil
		}))
		require.Equal(t, p.Len(), seen)
	})
}

// reseal gives a value the checksum that it should have, so that a fuzzer gets behind it.
func reseal(value []byte) {
	r := reader{b: value, at: 1}
	r.bytes()
	r.uvarint()
	if r.bad || r.at+countSize+sumSize > len(value) {
		return
	}
	w := Writer{fixed: r.at, body: r.at + countSize + sumSize}
	count := bytes.Clone(value[r.at : r.at+countSize])
	w.count = uint32(count[0]) | uint32(count[1])<<8 | uint32(count[2])<<16 | uint32(count[3])<<24
	w.End(value)
}

func BenchmarkParse(b *testing.B) {
	entries := make(map[string]string)
	for i := range 4096 {
		entries[fmt.Sprintf("user-%010d", i)] = strings.Repeat("e", 24)
	}
	name, value := build(Place{1, 0}, 1, entries)
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(name, stateID, value); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(entries)), "ns/entry")
}

func TestWhatPagesHoldHidesWhatLiesBeneath(t *testing.T) {
	old, oldValue := build(Place{1, 0}, 1, map[string]string{"a": "1", "b": "1"})
	young, youngValue := build(Place{2, 0}, 2, map[string]string{"b": "2"})
	pages := []*Page{parse(t, old, oldValue), parse(t, young, youngValue)}
	content := func(beneath func(fn func(key, entry []byte) error) error) map[string]string {
		got := make(map[string]string)
		require.NoError(t, MergeOver(pages, beneath, func(key, entry []byte) error {
			require.NotContains(t, got, string(key), "each key once")
			got[string(key)] = string(entry)
			return nil
		}))
		return got
	}
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, content(nil))
	require.Equal(t, map[string]string{"a": "1", "b": "2", "c": "0"}, content(func(fn func(key, entry []byte) error) error {
		return errors.Join(fn([]byte("b"), []byte("0")), fn([]byte("c"), []byte("0")))
	}))
	require.ErrorIs(t, MergeOver(pages, func(func(key, entry []byte) error) error { return ErrNewer },
		func([]byte, []byte) error { return nil }), ErrNewer)
}
