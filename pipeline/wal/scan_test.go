package wal

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzScan feeds arbitrary bytes, and frames with arbitrary bytes among them, to the scanner: it never fails, never leaves
// the data, finds frames in rising order, and the holes it reports are exactly the bytes between them.
func FuzzScan(f *testing.F) {
	rec := Record{Stream: []byte("s"), Chain: []byte("c"), Place: Place{Seq: 1}, Data: []byte("hello")}
	at := framePlace{salt: 77, off: dataStart, group: dataStart, index: 1}
	one := appendRecord(nil, &rec, at)
	at.off, at.index = at.off+int64(len(one)), 2
	two := appendRelease(bytes.Clone(one), "s", 1, at)
	f.Add(two, uint32(77), uint64(1), []byte{})
	f.Add(one, uint32(77), uint64(0), []byte("rest"))
	f.Add(two, uint32(77), uint64(1), binary.LittleEndian.AppendUint64(nil, 1<<63|1))
	f.Fuzz(func(t *testing.T, body []byte, salt uint32, first uint64, more []byte) {
		data := append(append(make([]byte, dataStart), body...), more...)
		end, count := int64(dataStart), 0
		var holes int64
		last := uint64(0)
		s := scanFrames(data, salt, first, func(f *frame) {
			require.GreaterOrEqual(t, f.off, end)
			require.LessOrEqual(t, f.end, int64(len(data)))
			require.Greater(t, f.index, last)
			require.GreaterOrEqual(t, f.group, int64(dataStart))
			require.LessOrEqual(t, f.group, f.off)
			if f.kind == frameRecord {
				r, ok := decodeRecord(f)
				require.True(t, ok)
				require.Equal(t, data[f.off:f.end], appendRecord(nil, &r, framePlace{salt, f.off, f.group, f.index}), "what is read is what was written")
			}
			holes += f.off - end
			end, last = f.end, f.index
			count++
		})
		require.Equal(t, count, s.frames)
		require.Equal(t, end, s.end)
		var reported int64
		for _, h := range s.holes {
			reported += h.end - h.start
		}
		require.Equal(t, holes, reported)
		for _, durable := range []int64{dataStart, s.end, int64(len(data))} {
			v := s.judge(data, durable, 0)
			require.LessOrEqual(t, v.tail, max(s.end, durable))
			for _, h := range v.corrupt {
				require.Less(t, h.start, max(durable, s.proven))
			}
		}
	})
}

func TestRecordRoundTrip(t *testing.T) {
	for name, r := range map[string]Record{
		"small":   {Stream: []byte("a")},
		"aligned": {Stream: []byte("12345678"), Data: []byte("12345678")},
		"full": {
			Stream: bytes.Repeat([]byte("s"), MaxStream), Chain: bytes.Repeat([]byte("c"), MaxChain), Place: Place{1 << 63, 1 << 31},
			Pos: -5, Data: bytes.Repeat([]byte{0}, 100_000),
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := framePlace{salt: 5, off: dataStart + 4096, group: dataStart + 8, index: 9}
			b := appendRecord(nil, &r, at)
			require.Len(t, b, int(r.size()))
			f, ok := parseFrame(b, at.off, at.salt)
			require.True(t, ok)
			require.Equal(t, at.group, f.group)
			got, ok := decodeRecord(&f)
			require.True(t, ok)
			r.Index = 9
			require.Equal(t, len(r.Data), len(got.Data))
			require.True(t, bytes.Equal(r.Stream, got.Stream) && bytes.Equal(r.Chain, got.Chain) && bytes.Equal(r.Data, got.Data))
			require.Equal(t, r.Place, got.Place)
			require.Equal(t, r.Pos, got.Pos)
			_, ok = parseFrame(b, at.off+8, at.salt)
			require.False(t, ok, "a frame is valid in its place only")
			_, ok = parseFrame(b, at.off, at.salt+1)
			require.False(t, ok, "and in its segment's life only")
		})
	}
}

func TestPlaceFollows(t *testing.T) {
	require.True(t, Place{3, 1}.Follows(Place{3, 0}))
	require.True(t, Place{4, 0}.Follows(Place{3, 7}))
	require.False(t, Place{4, 1}.Follows(Place{3, 7}))
	require.False(t, Place{3, 0}.Follows(Place{3, 0}))
	require.True(t, Place{3, 9}.Less(Place{4, 0}))
}
