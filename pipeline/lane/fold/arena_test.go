package fold

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/event"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// One long text says nothing of how long the entries behind it are: a commit takes no more memory than the lane's own
// estimate of it, by which lanes are stopped when memory is short.
func TestOneLongTextDoesNotMakeTheArenaOfACommitLarge(t *testing.T) {
	p := programOf(t, strings.Replace(foldtest.Spec, "func: last, field: v, type: int", "func: last, field: s, type: any", 1))
	s, c := NewState(p, testLane, "id", 0, store.Cursor{}), &Commit{}
	keys := keysOf(20_000)
	long := slices.MinFunc(keys, func(a, b string) int { return cmp.Compare(hashOfKey(a), hashOfKey(b)) })
	var log []source.Record
	for i, key := range keys {
		text := "short"
		if key == long {
			text = strings.Repeat("x", 100_000)
		}
		log = append(log, foldtest.Record(int64(i), fmt.Sprintf(`{"k":%q,"t":%d,"v":1,"s":%q}`, key, early, text)))
	}
	s.Fold(foldtest.Batch(log...))
	estimate := s.Pending()
	s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1, Pages: true})
	require.Equal(t, len(keys), c.Entries)
	require.LessOrEqual(t, int64(cap(c.arena)), 2*estimate, "the commit has %d bytes of pages", c.Bytes)
}

// hashOfKey is the hash of the key of an event whose field k is a text.
func hashOfKey(text string) uint64 {
	key, err := event.AppendKeyOf(nil, fmt.Appendf(nil, `{"k":%q}`, text))
	if err != nil {
		panic(err)
	}
	return agg.Hash(key)
}
