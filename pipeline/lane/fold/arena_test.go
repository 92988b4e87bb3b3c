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

// textProgram keeps the last text of every key.
func textProgram(t *testing.T) *Program {
	return programOf(t, strings.Replace(foldtest.Spec, "func: last, field: v, type: int", "func: last, field: s, type: any", 1))
}

func textAt(offset int64, key, text string) source.Record {
	return foldtest.Record(offset, fmt.Sprintf(`{"k":%q,"t":%d,"v":1,"s":%q}`, key, early, text))
}

// One long text says nothing of how long the entries behind it are: a commit takes no more memory than the lane's own
// estimate of it, by which lanes are stopped when memory is short.
func TestOneLongTextDoesNotMakeTheArenaOfACommitLarge(t *testing.T) {
	s, c := NewState(textProgram(t), testLane, "id", 0, store.Cursor{}), &Commit{}
	keys := keysOf(20_000)
	first := slices.MinFunc(keys, func(a, b string) int { return cmp.Compare(hashOfKey(a), hashOfKey(b)) })
	var log []source.Record
	for i, key := range keys {
		text := "short"
		if key == first {
			text = strings.Repeat("x", 100_000)
		}
		log = append(log, textAt(int64(i), key, text))
	}
	s.Fold(foldtest.Batch(log...))
	estimate := s.Pending()
	s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1, Pages: true})
	require.Equal(t, len(keys), c.Entries)
	require.LessOrEqual(t, int64(cap(c.arena)), 2*estimate, "the commit has %d bytes of pages", c.Bytes)
}

// Nor do short texts say how many rows there are of long ones.
func TestShortTextsDoNotMakeTheIndexOfARestoredTableLarge(t *testing.T) {
	h, s, c := newShelf(t), NewState(textProgram(t), testLane, "id", 0, store.Cursor{}), &Commit{}
	commit := func(keys []string, text string) {
		for _, key := range keys {
			s.Fold(foldtest.Batch(textAt(s.offset, key, text)))
		}
		s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1, Pages: true})
		h.put(c)
	}
	keys := keysOf(300)
	commit(keys, strings.Repeat("x", 20_000))
	commit(keys[:10], "short")
	again, _, err := h.load(textProgram(t))
	require.NoError(t, err)
	require.Empty(t, restingSlices(again))
	require.LessOrEqual(t, again.Bytes(), s.Bytes()+100_000)
}

// hashOfKey is the hash of the key of an event whose field k is a text.
func hashOfKey(text string) uint64 {
	key, err := event.AppendKeyOf(nil, fmt.Appendf(nil, `{"k":%q}`, text))
	if err != nil {
		panic(err)
	}
	return agg.Hash(key)
}
