package agg

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// The format is stored: these bytes must be read for as long as version 2 is.
func TestEntryFormat(t *testing.T) {
	table := newTable(t, flightsSpec())
	row := table.Row([]byte("s\x03ATL"))
	for i, delay := range []int64{-9, 19} {
		ev := flight(delay, "SAV")
		ev.Time = 978307200_000000000
		table.Add(row, &ev, 300+int64(i))
	}
	entry := table.AppendEntry(nil, row, 302)
	require.Equal(t, "02"+"ae02"+"02"+ // version, stamp 302, count 2
		"14"+ // sum 10
		"00"+"02"+"02"+"05"+ // no nulls, one byte, exponent 1, 5
		"0111"+"0126"+ // integers -9, 19
		"1b"+"80a2fea407"+"ad02"+"03534156", // string and seconds, time, offset 301, "SAV"
		hex.EncodeToString(entry))

	version, stamp, count, err := EntryHeader(entry)
	require.NoError(t, err)
	require.Equal(t, []int64{2, 302, 2}, []int64{int64(version), stamp, count})
	require.Less(t, len(entry), 64, "Redis keeps short values in a compact encoding")
}

func TestLoadEntryReplaces(t *testing.T) {
	table := one(t, "last", "", text("a text that lives in the arena"))
	entry := table.AppendEntry(nil, 0, 7)
	for range 3 {
		require.NoError(t, table.LoadEntry([]byte("k"), entry))
	}
	require.Equal(t, 1, table.Len())
	require.Equal(t, int64(1), table.Count(0))
	require.Equal(t, int64(7), table.Stamp(0))
	require.Equal(t, entry, table.AppendEntry(nil, 0, 0))
	require.Len(t, table.blocks.chunks, 1)
}

func TestEntriesThatAreRefused(t *testing.T) {
	table := newTable(t, allSpec())
	row := table.Row([]byte("k"))
	ev := event.Event{Time: 5, Values: []event.Value{integer(3), float(0.5), text("some text")}}
	table.Add(row, &ev, 1)
	good := table.AppendEntry(nil, row, 2)
	edit := func(at int, b ...byte) []byte {
		return append(append(append([]byte(nil), good[:at]...), b...), good[at+len(b):]...)
	}
	for _, c := range []struct {
		name  string
		entry []byte
		want  error
	}{
		{"empty", nil, ErrEntryCorrupt},
		{"version 0", edit(0, 0), ErrEntryCorrupt},
		{"newer version", edit(0, 3), ErrEntryVersion},
		{"newer version of other shape", []byte{9}, ErrEntryVersion},
		{"bytes at the end", append(good[:len(good):len(good)], 0), ErrEntryCorrupt},
		{"stamp beyond int64", append([]byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, good[2:]...), ErrEntryCorrupt},
		{"sum of more than its count", edit(2, 0), ErrEntryCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			into := newTable(t, allSpec())
			require.ErrorIs(t, into.LoadEntry([]byte("k"), c.entry), c.want)
			require.ErrorIs(t, into.MergeEntry([]byte("k"), c.entry, 1), c.want)
			require.Zero(t, into.Len())
		})
	}
	for n := range good {
		require.ErrorIs(t, table.LoadEntry([]byte("k"), good[:n]), ErrEntryCorrupt, "cut at %d", n)
	}
	require.Equal(t, good, table.AppendEntry(nil, row, 0), "refused entries changed nothing")

	huge := newTable(t, &spec.Spec{Aggregates: []spec.Aggregate{{Name: "n", Func: "count"}}})
	most := appendUint([]byte{1, 0}, math.MaxInt64)
	require.NoError(t, huge.MergeEntry([]byte("k"), most, 0))
	require.ErrorIs(t, huge.MergeEntry([]byte("k"), []byte{1, 0, 1}, 1), ErrEntryCorrupt)
}

// Whatever bytes are read, there is no panic, an error is one of two, refused bytes change nothing, and what is accepted
// is written and read again without change and publishes valid JSON.
func FuzzEntry(f *testing.F) {
	layout, err := NewLayout(allSpec())
	require.NoError(f, err)
	seed := layout.NewTable()
	row := seed.Row([]byte("k"))
	f.Add(seed.AppendEntry(nil, row, 0), []byte(nil))
	for i, v := range []event.Value{text("a text of the arena"), {}, float(1.5), {Kind: event.Bool, Int: 1}, integer(-4), {Kind: event.Int, Big: true, Str: []byte("123456789012345678901")}} {
		ev := event.Event{Time: int64(i) * 1e6, Values: []event.Value{integer(math.MinInt64 + int64(i)), float(0.1), v}}
		seed.Add(row, &ev, int64(i))
		f.Add(seed.AppendEntry(nil, row, 0), seed.AppendEntry(nil, row, int64(i+1)))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		table, fresh := layout.NewTable(), layout.NewTable()
		err := fresh.LoadNew(Hash([]byte("k")), []byte("k"), a, 1)
		if failed := table.LoadEntry([]byte("k"), a); failed != nil {
			requireEntryError(t, failed)
			require.Equal(t, failed, err)
			require.Zero(t, table.Len())
			return
		}
		require.NoError(t, err)
		require.Equal(t, table.AppendEntry(nil, 0, 0), fresh.AppendEntry(nil, 0, 0))
		require.Equal(t, table.AppendValues(nil, 0), fresh.AppendValues(nil, 0))
		require.True(t, json.Valid(table.AppendValues(nil, 0)), "%s", table.AppendValues(nil, 0))
		once := table.AppendEntry(nil, 0, 0)
		again := layout.NewTable()
		require.NoError(t, again.LoadEntry([]byte("k"), once))
		require.Equal(t, once, again.AppendEntry(nil, 0, 0))

		if err := again.MergeEntry([]byte("k"), b, 3); err != nil {
			requireEntryError(t, err)
			require.Equal(t, once, again.AppendEntry(nil, 0, 0))
			return
		}
		require.True(t, json.Valid(again.AppendValues(nil, 0)))
		require.Less(t, again.Bytes(), 64<<10+4*(len(a)+len(b)))
		require.NoError(t, table.LoadEntry([]byte("k"), again.AppendEntry(nil, 0, 0)))
	})
}

func requireEntryError(t *testing.T, err error) {
	t.Helper()
	require.True(t, errors.Is(err, ErrEntryCorrupt) || errors.Is(err, ErrEntryVersion), "%v", err)
}

// What was folded comes back from its entry, byte for byte and value for value.
func FuzzRoundTrip(f *testing.F) {
	layout, err := NewLayout(allSpec())
	require.NoError(f, err)
	f.Add(int64(1), 2.5, "text", int64(1e9), int64(7), uint8(3))
	f.Add(int64(math.MinInt64), -math.MaxFloat64, "a longer text, in the arena", int64(math.MaxInt64), int64(math.MaxInt64-100), uint8(90))
	f.Fuzz(func(t *testing.T, i int64, x float64, s string, at, offset int64, times uint8) {
		if math.IsNaN(x) || math.IsInf(x, 0) || offset < 0 || offset > math.MaxInt64-256 {
			t.Skip()
		}
		s = string([]rune(s)) // valid UTF-8, as a decoded event has it
		table := layout.NewTable()
		row := table.Row([]byte("k"))
		for n := range int64(times) {
			ev := event.Event{Time: at, Values: []event.Value{integer(i), float(x), text(s)}}
			table.Add(row, &ev, offset+n)
		}
		entry := table.AppendEntry(nil, row, offset+int64(times))
		again := layout.NewTable()
		require.NoError(t, again.LoadEntry([]byte("k"), entry))
		require.Equal(t, entry, again.AppendEntry(nil, 0, 0))
		require.Equal(t, string(table.AppendValues(nil, row)), string(again.AppendValues(nil, 0)))
	})
}
