package diff

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

// content is a random content, sorted by key.
func content(r *rand.Rand, keys int) []ledger.Content {
	var rows []ledger.Content
	for k := range keys {
		if r.IntN(3) > 0 {
			rows = append(rows, ledger.Content{
				Key: fmt.Appendf(nil, `{"k":"%04d"}`, k), Values: fmt.Appendf(nil, `{"n":%d}`, r.IntN(3)), Overflow: r.IntN(9) == 0,
				State: bytes.Repeat([]byte{byte(k)}, r.IntN(200)),
			})
		}
	}
	return rows
}

func TestBaseAndDifferenceMakeTheNewContent(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		keys := r.IntN(400)
		base, counted := content(r, keys), content(r, keys)
		c := NewCompare()
		for _, row := range base {
			c.AddBase(row)
		}
		for _, i := range r.Perm(len(counted)) { // the new content comes by bucket
			c.AddNew(counted[i])
		}
		rows := c.Rows()
		var sum ledger.Checksum
		for _, row := range counted {
			sum.AddContent(row)
		}
		h := &Header{Version: HeaderVersion, Row: ledger.Row{Revision: 2, Keys: sum.Rows(), Checksum: sum.String()}}

		var pages [][]byte
		p := NewPages(func(page []byte) error {
			require.LessOrEqual(t, len(page), PageBytes)
			pages = append(pages, slices.Clone(page))
			return nil
		})
		for i := range rows {
			require.NoError(t, p.Add(&rows[i]))
		}
		require.NoError(t, p.Flush())
		var read []Row
		for _, page := range pages {
			require.NoError(t, ReadPage(page, func(row Row) error { read = append(read, row); return nil }))
		}
		require.Len(t, read, len(rows))
		for i := range rows {
			require.Equal(t, rows[i].Kind(), read[i].Kind())
			require.True(t, bytes.Equal(rows[i].State, read[i].State))
		}

		applied, gone := apply(t, base, read)
		var total ledger.Checksum
		for _, row := range applied {
			total.AddContent(row)
		}
		require.Equal(t, []any{h.Row.Keys, h.Row.Checksum}, []any{total.Rows(), total.String()})
		require.Len(t, applied, len(counted))
		for i := range counted {
			require.Equal(t, string(counted[i].Key)+string(counted[i].Values), string(applied[i].Key)+string(applied[i].Values))
			require.Equal(t, counted[i].Overflow, applied[i].Overflow)
		}
		removed := 0
		for i := range rows {
			if rows[i].Kind() == Removed {
				removed++
			}
		}
		require.Equal(t, removed, gone)
	}
}

// apply makes the new content of a base and what differs, and counts the keys that are gone.
func apply(t *testing.T, base []ledger.Content, rows []Row) (applied []ledger.Content, gone int) {
	t.Helper()
	now := make(map[string]ledger.Content)
	for _, row := range base {
		now[string(row.Key)] = row
	}
	for i := range rows {
		r := &rows[i]
		was, found := now[string(r.Key)]
		require.Equal(t, r.Old != nil, found)
		if found {
			require.Equal(t, string(r.Old), string(was.Values))
			require.Equal(t, r.OldOverflow, was.Overflow)
		}
		if r.New == nil {
			delete(now, string(r.Key))
			gone++
			continue
		}
		now[string(r.Key)] = r.Content()
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		applied = append(applied, now[key])
	}
	return applied, gone
}

func TestHeadersComeBackAsTheyWere(t *testing.T) {
	h := &Header{
		Version: HeaderVersion, Lateness: "none", Scope: "whole", BaseRevision: 3, BaseChecksum: "aa",
		Added: 1, Changed: 2, Removed: 3, Pages: 1, Digest: "d",
		Row: ledger.Row{
			Version: ledger.RowVersion, Pipeline: "p", Window: "hourly", Start: 3600_000, End: 7200_000, Edition: 1, Revision: 4,
			Lanes: []ledger.Cover{{Topic: "t", Offset: 9, FirstOffset: -1, LastOffset: -1}},
		},
	}
	b, err := h.Encode()
	require.NoError(t, err)
	again, err := ParseHeader(b)
	require.NoError(t, err)
	require.Equal(t, h, again)
	require.Equal(t, int64(6), again.Rows())
	_, err = ParseHeader(bytes.Replace(b, []byte(`"version":1`), []byte(`"version":9`), 1))
	require.ErrorContains(t, err, "version 9")
	_, err = ParseHeader([]byte("{"))
	require.ErrorIs(t, err, ErrCorrupt)
}

func FuzzPagesThatAreBroken(f *testing.F) {
	rows := []Row{{Key: []byte("a"), Old: []byte("1"), New: []byte("2"), State: []byte("s")}, {Key: []byte("b"), New: []byte("3")}}
	p := NewPages(func(page []byte) error { f.Add(slices.Clone(page)); return nil })
	for i := range rows {
		require.NoError(f, p.Add(&rows[i]))
	}
	require.NoError(f, p.Flush())
	f.Fuzz(func(t *testing.T, page []byte) {
		err := ReadPage(page, func(r Row) error {
			if r.Old == nil && r.New == nil {
				t.Fatal("a row without values")
			}
			return nil
		})
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}
