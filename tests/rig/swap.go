package rig

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/page"
)

// SwapEntries gives two keys of a slice each other's entry in Redis, as if their lane had folded
// that. hash is where the slice's pages stand, all of them; choose picks the keys among those whose
// entries stand in one page.
func SwapEntries(t testing.TB, client redis.UniversalClient, hash string, stateID string, choose func(keys []string) (one, two string)) {
	t.Helper()
	ctx := context.Background()
	values, err := client.HGetAll(ctx, hash).Result()
	require.NoError(t, err)
	var pages []*page.Page
	for name, value := range values {
		parsed, err := page.ParseName(name)
		require.NoError(t, err)
		p, err := page.Parse(parsed, stateID, []byte(value))
		require.NoError(t, err)
		pages = append(pages, p)
	}
	newest := slices.MaxFunc(pages, func(a, b *page.Page) int {
		return cmp.Or(cmp.Compare(a.Name.Seq, b.Name.Seq), cmp.Compare(a.Len(), b.Len()))
	})
	entries := make(map[string][]byte)
	require.NoError(t, page.Merge([]*page.Page{newest}, 0, math.MaxUint64, func(e *page.Entry) error {
		entries[string(e.Key)] = slices.Clone(e.Entry)
		return nil
	}))
	one, two := choose(slices.Sorted(maps.Keys(entries)))
	require.NotEqual(t, entries[one], entries[two], "%q and %q of %d", one, two, len(entries))
	entries[one], entries[two] = entries[two], entries[one]
	var w page.Writer
	value := w.Begin(nil, stateID, newest.Name.Offset)
	for i := range newest.Len() {
		key, _ := newest.Entry(i)
		value = w.Add(value, key, func(dst []byte) []byte { return append(dst, entries[string(key)]...) })
	}
	w.End(value)
	require.Len(t, value, newest.Name.Bytes)
	require.NoError(t, client.HSet(ctx, hash, newest.Name.String(), value).Err())
}
