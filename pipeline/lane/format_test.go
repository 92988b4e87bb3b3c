package lane

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// held answers lanes that ask whether they may turn to pages.
type held struct{ why atomic.Pointer[string] }

func (h *held) say(why string)     { h.why.Store(&why) }
func (h *held) keepFields() string { return *h.why.Load() }

// keysOf reports whether the lane has entries under keys that begin so.
func (b *bench) keysOf(prefix string) bool {
	return slices.ContainsFunc(b.redis.Keys(), func(key string) bool { return strings.HasPrefix(key, prefix) })
}

// A lane turns to pages when it is told that it may, and never back: not when it is told otherwise later, and not under another
// owner. Nothing of its fields is left, and its state is exact.
func TestLaneTurnsToPagesOnce(t *testing.T) {
	log := newTap(randomLog(rand.New(rand.NewPCG(81, 81)), 600))
	st, redis := testStore(t)
	fleet := &held{}
	fleet.say("worker old reads fields alone")
	change := func(d *Deps) { d.Open, d.KeepFields = log.open, fleet.keepFields }

	b := start(t, log.fakeLog, st, redis, change)
	log.let(200)
	b.wait(t, "committed in fields", func(s Status) bool { return s.Committed == 200 })
	s := b.Status()
	require.Equal(t, store.FieldFormat, s.StateFormat)
	require.Equal(t, "worker old reads fields alone", s.KeepsFields)
	require.Nil(t, s.Pages)
	require.True(t, b.keysOf(fieldKeys))
	require.False(t, b.keysOf(pageKeys))
	require.Equal(t, "1", redis.HGet(testMeta, "format"))

	fleet.say("")
	log.let(400)
	b.wait(t, "committed in pages", func(s Status) bool { return s.Committed == 400 && s.Pages != nil })
	s = b.Status()
	require.Equal(t, store.PageFormat, s.StateFormat)
	require.Empty(t, s.KeepsFields)
	require.Positive(t, s.Pages.Pages)
	require.Positive(t, s.Pages.Bytes)
	require.GreaterOrEqual(t, s.Pages.Written, s.Pages.Dirtied)
	require.Equal(t, "2", redis.HGet(testMeta, "format"))

	fleet.say("worker old is back")
	log.let(500)
	b.wait(t, "committed", func(s Status) bool { return s.Committed == 500 })
	require.Equal(t, store.PageFormat, b.Status().StateFormat)
	require.NoError(t, b.stop(t))

	log.hint = source.Committed{Offset: 500, Metadata: b.hintText}
	b = start(t, log.fakeLog, st, redis, change)
	log.let(600)
	b.wait(t, "committed by another owner", func(s Status) bool { return s.Committed == 600 && s.Pages != nil })
	require.Equal(t, store.PageFormat, b.Status().StateFormat)
	require.Empty(t, b.Status().KeepsFields)
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log.records))
}

// The fields of slices whose pages hold everything go once no reader can want them any more.
func TestFieldsGoAfterTheTurn(t *testing.T) {
	log := newTap(randomLog(rand.New(rand.NewPCG(82, 82)), 400))
	st, redis := testStore(t)
	fleet := &held{}
	fleet.say("not yet")
	b := start(t, log.fakeLog, st, redis, func(d *Deps) { d.Open, d.KeepFields = log.open, fleet.keepFields })
	log.let(300)
	b.wait(t, "committed in fields", func(s Status) bool { return s.Committed == 300 })
	fleet.say("")
	meta, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.NoError(t, st.AskRewrite(t.Context(), testLane, meta.Owner, meta.Cursor.Seq)) // so that every slice changes
	b.wait(t, "all of it in pages", func(s Status) bool { return s.Pages != nil && s.Pages.InFields == 0 })
	eventually(t, "no field is left", func() bool { return !b.keysOf(fieldKeys) })
	log.let(400)
	b.wait(t, "committed", func(s Status) bool { return s.Committed == 400 })
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log.records))
}
