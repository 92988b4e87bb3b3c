package view

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

func head(revision int, keys ...string) Head {
	h := Head{Revision: revision, Events: int64(100 * len(keys))}
	var hasher ledger.Hasher
	for _, key := range keys {
		h.Sum.AddDigest(hasher.Digest(ledger.Content{Key: []byte(key), Values: []byte("{}")}))
	}
	return h
}

func TestADirectoryIsReadBack(t *testing.T) {
	for name, d := range map[string]*Directory{
		"empty sequence": {Pages: []Head{}},
		"sequence":       {Pages: []Head{head(3, "a"), head(3, "b", "c"), head(3)}},
		"one page":       {ByHash: true, Pages: []Head{head(1, "a")}},
		"by hash":        {ByHash: true, Pages: []Head{head(7, "a"), {}, head(300, "b", "c"), {}}},
	} {
		t.Run(name, func(t *testing.T) {
			text := d.Append(nil)
			read, err := ParseDirectory(text)
			require.NoError(t, err)
			require.Equal(t, text, read.Append(nil))
			want, got := d.Total(), read.Total()
			require.Equal(t, want.String(), got.String())
			require.Equal(t, want.Rows(), got.Rows())
			require.Equal(t, d.Events(), read.Events())
			for n := range len(text) {
				_, err := ParseDirectory(text[:n])
				require.ErrorIs(t, err, ErrCorrupt, "cut at %d", n)
			}
			_, err = ParseDirectory(append(text, 0))
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
	_, err := ParseDirectory((&Directory{ByHash: true, Pages: make([]Head, 3)}).Append(nil))
	require.ErrorIs(t, err, ErrCorrupt, "no power of two")
}

func TestPagesByHashDivideTheHashes(t *testing.T) {
	for bits := range 5 {
		d := ByHash(bits)
		next := uint64(0)
		for i := range d.Pages {
			first, last := d.Range(i)
			require.Equal(t, next, first)
			require.Equal(t, []int{i, i}, []int{d.PageOf(first), d.PageOf(last)})
			next = last + 1
		}
		require.Zero(t, next, "the last one ends with %d", uint64(math.MaxUint64))
	}
}

// Whatever the bytes are, ParseDirectory neither panics nor takes more memory than they justify, and what it accepts is read
// back as it was.
func FuzzDirectory(f *testing.F) {
	f.Add([]byte{})
	f.Add((&Directory{ByHash: true, Pages: []Head{head(7, "a"), {}}}).Append(nil))
	f.Add((&Directory{Pages: []Head{head(3, "a"), head(3, "b", "c")}}).Append(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDirectory(text)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		require.LessOrEqual(t, len(d.Pages), len(text))
		again, err := ParseDirectory(d.Append(nil))
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}
