package wal_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

const fuzzRecords = 90

// subject builds a log of two full segments and a part of a third.
func subject(t testing.TB, closed bool) *faultfs.FS {
	fs := faultfs.New(0)
	cfg := small(fs, "d", wal.Write)
	cfg.MarkAfter = time.Hour
	l, _, err := wal.Open(cfg)
	require.NoError(t, err)
	for i := 1; i <= fuzzRecords; i += 3 {
		_, err := l.Append(deadline(t), record("a", i, 1300), record("a", i+1, 1300), record("a", i+2, 1300))
		require.NoError(t, err)
	}
	eventually(t, func() bool { return settled(fs, 6) }) // the next segment is prepared
	if !closed {
		fs = fs.Kill()
	}
	_ = l.Close() // of a killed process it fails
	return fs
}

// examine opens a damaged log and states what holds whatever the damage: records that are read were written, in order, and
// what is missing is reported: as torn or corrupt, or, after several damages, at least as a header that cannot be trusted.
func examine(t *testing.T, fs *faultfs.FS, single bool) {
	cfg := small(fs, "d", wal.Write)
	cfg.MarkAfter = time.Hour
	l, rep, err := wal.Open(cfg)
	if err != nil {
		require.True(t, errors.Is(err, wal.ErrVersion) || errors.Is(err, wal.ErrForeign) || errors.Is(err, wal.ErrCorrupt), err)
		return
	}
	defer l.Close()
	r := l.Reader(0)
	defer r.Close()
	last, kept := int64(0), 0
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, wal.ErrCorrupt) {
			r.Skip()
			continue
		}
		require.NoError(t, err)
		require.Greater(t, rec.Pos, last)
		last = rec.Pos
		want := record("a", int(rec.Pos)/10, 1300)
		require.Equal(t, string(want.Data), string(rec.Data))
		require.Equal(t, want.Place, rec.Place)
		kept++
	}
	if kept < fuzzRecords {
		told := rep.Torn != nil || len(rep.Corrupt) > 0 || !single && len(rep.Headers) > 0
		require.True(t, told, "%d records are missing without a word: %+v", fuzzRecords-kept, rep)
	}
	_, err = l.Append(deadline(t), record("b", 1, 10))
	require.NoError(t, err)
}

// FuzzDamage flips one bit or cuts one file short.
func FuzzDamage(f *testing.F) {
	killed, closed := subject(f, false), subject(f, true)
	f.Add(true, false, uint8(1), uint32(20_000), uint8(3))
	f.Add(false, false, uint8(3), uint32(30_000), uint8(0))
	f.Add(true, true, uint8(2), uint32(40_000), uint8(0))
	f.Add(true, false, uint8(2), uint32(4_100), uint8(7))
	f.Add(true, false, uint8(0), uint32(12), uint8(1))
	f.Fuzz(func(t *testing.T, wasClosed, cut bool, file uint8, at uint32, bit uint8) {
		fs := killed
		if wasClosed {
			fs = closed
		}
		fs = fs.Clone()
		names := fs.Files()
		fs.Mutate(names[int(file)%len(names)], func(b []byte) []byte {
			switch {
			case len(b) == 0:
			case cut:
				return b[:int(at)%len(b)]
			default:
				b[int(at)%len(b)] ^= 1 << (bit % 8)
			}
			return b
		})
		examine(t, fs, true)
	})
}

// FuzzRuin does a whole list of damages: three bytes choose the file and the place, one what happens there.
func FuzzRuin(f *testing.F) {
	closed := subject(f, true)
	f.Add([]byte{1, 60, 1, 0, 2, 90, 2, 1, 3, 200, 3, 2})
	f.Add([]byte{1, 16, 0, 3, 2, 32, 0, 3, 3, 0, 0, 3})
	f.Fuzz(func(t *testing.T, plan []byte) {
		fs := closed.Clone()
		names := fs.Files()
		for ; len(plan) >= 4; plan = plan[4:] {
			fs.Mutate(names[int(plan[0])%len(names)], func(b []byte) []byte {
				if len(b) == 0 {
					return b
				}
				at := (int(plan[1])<<8 | int(plan[2])) % len(b)
				switch plan[3] % 5 {
				case 0:
					b[at] ^= plan[3] | 1
				case 1:
					clear(b[at:min(at+4096, len(b))])
				case 2:
					copy(b[at:], b[len(b)/2:])
				case 3:
					garbage(b[at:min(at+64, len(b))])
				case 4:
					return b[:at]
				}
				return b
			})
		}
		examine(t, fs, false)
	})
}

// TestFlips flips a bit of every two-hundredth byte of a log, in turn; FuzzDamage goes on from there.
func TestFlips(t *testing.T) {
	fs := subject(t, true)
	step := 211
	if testing.Short() {
		step = 501
	}
	for _, name := range fs.Files() {
		size := len(fs.Bytes(name))
		for at := 0; at < size; at += step {
			c := fs.Clone()
			c.Mutate(name, func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b })
			examine(t, c, true)
		}
	}
}
