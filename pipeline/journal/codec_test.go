package journal

import (
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

func allCounters(c *store.Counters) []*int64 {
	first, added := counters(c), addedCounters(c)
	return slices.Concat(first[:], added[:])
}

// randomCall makes a call with any of its sections, and side records.
func randomCall(rng *rand.Rand) (store.Call, []source.SideRecord) {
	num := func() int64 { return rng.Int64() >> rng.IntN(64) * (1 - 2*rng.Int64N(2)) }
	text := func() string { return strings.Repeat(string(rune(rng.IntN(300))), rng.IntN(20)) }
	slice := func() store.SliceID { return store.SliceID{Width: num(), Start: num(), Gen: rng.IntN(4)} }
	maybe := func() []byte {
		if rng.IntN(3) == 0 {
			return nil
		}
		return []byte(text())
	}
	c := store.Call{
		Prev: store.Cursor{Seq: num(), Chunk: num()}, Next: store.Cursor{Seq: num(), Chunk: num()}, Registered: rng.IntN(3) * rng.IntN(1000),
	}
	for range rng.IntN(4) {
		w := store.Write{Slice: slice(), Bucket: rng.IntN(1024)}
		for range 2 * rng.IntN(4) {
			w.Fields = append(w.Fields, text())
		}
		c.Writes = append(c.Writes, w)
	}
	for range rng.IntN(3) {
		c.Drop = append(c.Drop, store.SliceDrop{SliceID: slice(), Deadline: num()})
		c.Buckets = 16
	}
	for range rng.IntN(3) {
		c.Purge = append(c.Purge, slice())
		c.Buckets = 1
	}
	if rng.IntN(2) == 0 {
		c.Meta = &store.MetaUpdate{
			TopicID: text(), Hint: text(), Whole: rng.IntN(2) == 0, Balance: store.Balance{Known: rng.IntN(2) == 0, Dropped: num()},
		}
		for _, n := range metaNumbers(c.Meta) {
			*n = num()
		}
		for _, n := range allCounters(&c.Meta.Counters) {
			*n = num()
		}
		c.Meta.Jumps, c.Meta.Begun = num(), num()
		for range rng.IntN(3) {
			c.Meta.Accepted = append(c.Meta.Accepted, num())
		}
		for range rng.IntN(3) {
			c.Meta.Seals = append(c.Meta.Seals, store.Seal{Offset: num(), Before: num()})
		}
		for range rng.IntN(3) {
			st := store.SliceStat{SliceID: slice(), FirstOffset: num(), LastOffset: num(), Folded: num()}
			if rng.IntN(2) == 0 {
				st.Basis = store.Basis{Known: true, Watermark: num(), Sealed: num()}
				for _, n := range allCounters(&st.Basis.Counters) {
					*n = num()
				}
			}
			c.Meta.Slices = append(c.Meta.Slices, st)
		}
	}
	var side []source.SideRecord
	for range rng.IntN(3) {
		r := source.SideRecord{Topic: text(), Key: maybe(), Value: maybe()}
		for range rng.IntN(3) {
			r.Headers = append(r.Headers, source.Header{Key: text(), Value: maybe()})
		}
		side = append(side, r)
	}
	return c, side
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var b batch
	var calls []store.Call
	var sides [][]source.SideRecord
	for range 3 {
		b.reset()
		calls, sides = calls[:0], sides[:0]
		for range 200 {
			c, side := randomCall(rng)
			data := appendCall(nil, "0123456789abcdef", &c, side)
			h, _, err := readHead(data)
			require.NoError(t, err)
			require.Equal(t, "0123456789abcdef", h.stateID)
			require.Equal(t, c.Prev, h.prev)
			require.Equal(t, c.Next, h.next)
			require.Equal(t, c.Meta != nil, h.flags&flagMeta != 0)
			_, gotSide, err := b.add(data)
			require.NoError(t, err)
			clear(data) // the batch has its own memory
			calls, sides = append(calls, c), append(sides, side)
			require.Equal(t, side, gotSide)
		}
		require.Equal(t, calls, b.calls)
	}
}

// A journal that the version before wrote is read. It says nothing of balances, so none is known.
func TestVersionOne(t *testing.T) {
	data, err := hex.DecodeString("010301103031323334353637383961626364656608020a002001c0a90780d30e020602016b05656e74727901c0a9070000a0fe0a008c01" +
		"e0a712ffffffffffffffffff01a0fe0a0100000000008c0100000000147800026964107632207265706c61795f66726f6d3d310112a0fe0a01c0a90780d30e02288a" +
		"015001c09a0cffffffffffffffffff01280000000000280001046c6174650261026200")
	require.NoError(t, err)
	var b batch
	call, side, err := b.add(data)
	require.NoError(t, err)
	sl := store.SliceID{Width: 60_000, Start: 120_000, Gen: 1}
	require.Equal(t, &store.Call{
		Prev: store.Cursor{Seq: 4, Chunk: 1}, Next: store.Cursor{Seq: 5}, Buckets: 16,
		Writes: []store.Write{{Slice: sl, Bucket: 3, Fields: []string{"k", "entry"}}},
		Drop:   []store.SliceDrop{{SliceID: store.SliceID{Width: 60_000}, Deadline: 90_000}},
		Meta: &store.MetaUpdate{
			Offset: 70, Watermark: 150_000, MaxTime: store.NoTime, Sealed: 90_000, IdleEnd: -1,
			Counters: store.Counters{Read: 70, Folded: 60, Late: 10}, TopicID: "id", Hint: "v2 replay_from=1",
			Seals: []store.Seal{{Offset: 9, Before: 90_000}},
			Slices: []store.SliceStat{{SliceID: sl, FirstOffset: 20, LastOffset: 69, Folded: 40, Basis: store.Basis{
				Known: true, Watermark: 100_000, Sealed: store.NoTime, Counters: store.Counters{Read: 20, Folded: 20},
			}}},
		},
	}, call)
	require.Equal(t, []source.SideRecord{{Topic: "late", Key: []byte("a"), Value: []byte("b")}}, side)
}

// A journal of version 2 says nothing of records too far in the past and of jumps: there were none.
func TestVersionTwo(t *testing.T) {
	data, err := hex.DecodeString("020301103031323334353637383961626364656608020a00200201c0a90780d30e020602016b05656e74727901" +
		"c0a9070000a0fe0a00" +
		"8c01e0a712ffffffffffffffffff01a0fe0a0100000000008c0100000000147800026964107632207265706c61795f66726f6d3d310112a0fe0a01c0a90780d30e02" +
		"288a015001c09a0cffffffffffffffffff012800000000002800012801046c6174650261026200")
	require.NoError(t, err)
	var b batch
	call, side, err := b.add(data)
	require.NoError(t, err)
	sl := store.SliceID{Width: 60_000, Start: 120_000, Gen: 1}
	require.Equal(t, &store.Call{
		Prev: store.Cursor{Seq: 4, Chunk: 1}, Next: store.Cursor{Seq: 5}, Buckets: 16, Registered: 2,
		Writes: []store.Write{{Slice: sl, Bucket: 3, Fields: []string{"k", "entry"}}},
		Drop:   []store.SliceDrop{{SliceID: store.SliceID{Width: 60_000}, Deadline: 90_000}},
		Meta: &store.MetaUpdate{
			Offset: 70, Watermark: 150_000, MaxTime: store.NoTime, Sealed: 90_000, IdleEnd: -1,
			Counters: store.Counters{Read: 70, Folded: 60, Late: 10}, TopicID: "id", Hint: "v2 replay_from=1",
			Seals: []store.Seal{{Offset: 9, Before: 90_000}},
			Slices: []store.SliceStat{{SliceID: sl, FirstOffset: 20, LastOffset: 69, Folded: 40, Basis: store.Basis{
				Known: true, Watermark: 100_000, Sealed: store.NoTime, Counters: store.Counters{Read: 20, Folded: 20},
			}}},
			Balance: store.Balance{Known: true, Dropped: 20},
		},
	}, call)
	require.Equal(t, []source.SideRecord{{Topic: "late", Key: []byte("a"), Value: []byte("b")}}, side)
}

// metaNumbers and counters must name every number of a meta: one that is forgotten would be lost on its way through the journal.
func TestMetaIsComplete(t *testing.T) {
	var m store.MetaUpdate
	meta := metaNumbers(&m)
	numbers := slices.Concat(meta[:], allCounters(&m.Counters), []*int64{&m.Jumps, &m.Begun})
	for i, n := range numbers {
		*n = int64(i) + 1
	}
	seen := map[int64]bool{}
	for _, v := range []reflect.Value{reflect.ValueOf(m), reflect.ValueOf(m.Counters)} {
		for i := range v.NumField() {
			if v.Field(i).Kind() == reflect.Int64 {
				require.NotZero(t, v.Field(i).Int(), v.Type().Field(i).Name)
				require.False(t, seen[v.Field(i).Int()], v.Type().Field(i).Name)
				seen[v.Field(i).Int()] = true
			}
		}
	}
	require.Len(t, seen, len(numbers))
	for typ, fields := range map[reflect.Type]int{
		reflect.TypeFor[store.Call](): 12, reflect.TypeFor[store.Write](): 3, reflect.TypeFor[store.MetaUpdate](): 20,
		reflect.TypeFor[store.Counters](): 10, reflect.TypeFor[store.SliceStat](): 7, reflect.TypeFor[store.Basis](): 4,
		reflect.TypeFor[store.Seal](): 2, reflect.TypeFor[store.Balance](): 2, reflect.TypeFor[source.SideRecord](): 4,
	} {
		require.Equal(t, fields, typ.NumField(), "%s has other fields than the record: raise version", typ)
	}
}

func TestNewerRecordIsItsOwnError(t *testing.T) {
	var b batch
	_, _, err := b.add([]byte{version + 1, 0, 1, 2, 3})
	require.ErrorIs(t, err, ErrVersion)
	require.NotErrorIs(t, err, ErrUnreadable)
	for _, data := range [][]byte{nil, {version}, {0, 0}, {version, 0xff, 0}, {version, 0}} {
		_, _, err := b.add(data)
		require.ErrorIs(t, err, ErrUnreadable, "%x", data)
	}
}

// Whatever the bytes are, decoding neither panics nor takes more memory than they justify; what it accepts it gives back
// unchanged after another trip.
func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 20 {
		c, side := randomCall(rng)
		f.Add(appendCall(nil, "0123456789abcdef", &c, side))
	}
	f.Add([]byte{version, flagAll})
	f.Add([]byte{version + 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again batch
		c, side, err := b.add(data)
		if err != nil {
			require.Empty(t, b.calls)
			return
		}
		h, _, err := readHead(data)
		require.NoError(t, err)
		c2, side2, err := again.add(appendCall(nil, h.stateID, c, side))
		require.NoError(t, err)
		require.Equal(t, c, c2)
		require.Equal(t, side, side2)
	})
}

func TestAppendingAllocatesNothingPerEntry(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	c, _ := randomCall(rng)
	w := store.Write{}
	for range 1000 {
		w.Fields = append(w.Fields, "key", "entry")
	}
	c.Writes = []store.Write{w}
	buf := make([]byte, 0, 1<<20)
	require.Zero(t, testing.AllocsPerRun(10, func() { buf = appendCall(buf[:0], "id", &c, nil) }))
}
