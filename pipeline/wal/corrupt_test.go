package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

const (
	frameHeader = 24
	beforeData  = frameHeader + 24 + len("a") + len("1:token")
)

// patient is a log of single-record groups 1..count of stream "a", closed (its tail is then proven) or killed in mid-run.
type patient struct {
	t     *testing.T
	fs    *faultfs.FS
	cfg   wal.Config
	count int
}

func newPatient(t *testing.T, count, size int, closed bool) *patient {
	p := &patient{t: t, fs: faultfs.New(0), count: count}
	p.cfg = small(p.fs, "d", wal.Write)
	p.cfg.MarkAfter = time.Hour
	l, _ := open(t, p.cfg)
	for i := 1; i <= count; i++ {
		_, err := l.Append(deadline(t), record("a", i, size))
		require.NoError(t, err)
	}
	if !closed {
		p.fs = p.fs.Kill()
	}
	_ = l.Close() // of a killed process it fails
	p.cfg.FS = p.fs
	return p
}

// at finds record i: its file and where its frame starts.
func (p *patient) at(i int) (name string, off int) {
	want := fmt.Appendf(nil, "a/%d/", i)
	for _, name := range p.segments() {
		if off := bytes.Index(p.fs.Bytes(name), want); off >= 0 {
			return name, off - beforeData
		}
	}
	require.FailNow(p.t, "record not found", "%d", i)
	return "", 0
}

// segments returns the files with records, oldest first.
func (p *patient) segments() (names []string) {
	for _, name := range p.fs.Files() {
		if strings.HasSuffix(name, ".seg") && bytes.Contains(p.fs.Bytes(name), []byte("1:token")) {
			names = append(names, name)
		}
	}
	return names
}

func (p *patient) edit(name string, change func(b []byte) []byte) {
	require.True(p.t, p.fs.Mutate(name, change), name)
}

// in edits the bytes from record i's frame on.
func (p *patient) in(i int, change func(b []byte)) {
	name, off := p.at(i)
	p.edit(name, func(b []byte) []byte { change(b[off:]); return b })
}

func flip(at int, bit byte) func(b []byte) { return func(b []byte) { b[at] ^= bit } }

func garbage(b []byte) []byte {
	for i := range b {
		b[i] = byte(i*7 + 3)
	}
	return b
}

// TestCorruptionTable is the table of docs/wal-format.md, row by row.
func TestCorruptionTable(t *testing.T) {
	const size = 1000 // about 50 records a segment
	type outcome struct {
		err     error
		torn    bool
		intact  int
		ranges  int
		lost    uint64
		headers int
		kept    int
		shown   int  // ranges a reader stops at; -1: as many as were found
		once    bool // what may be lost is told when the file is closed for good, not again
	}
	for _, row := range []struct {
		name   string
		closed bool
		damage func(p *patient)
		want   outcome
	}{
		{"clean close", true, func(*patient) {}, outcome{kept: 120}},
		{"killed", false, func(*patient) {}, outcome{kept: 120}},
		{"torn header", false, func(p *patient) { p.in(120, func(b []byte) { clear(b[4:frameHeader]) }) }, outcome{torn: true, kept: 119}},
		{"torn payload", false, func(p *patient) { p.in(120, func(b []byte) { clear(b[512:1056]) }) }, outcome{torn: true, kept: 119}},
		{"flip in the last group, not proven", false, func(p *patient) { p.in(120, flip(100, 1)) }, outcome{torn: true, kept: 119}},
		{"flip in the last group, proven", true, func(p *patient) { p.in(120, flip(100, 1)) }, outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"flip in an earlier group", false, func(p *patient) { p.in(118, flip(100, 1)) }, outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"flip in a sealed segment", true, func(p *patient) { p.in(3, flip(900, 128)) }, outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"flip in a checksum", true, func(p *patient) { p.in(3, flip(0, 128)) }, outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"flip in an index", true, func(p *patient) { p.in(3, flip(16, 1)) }, outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"endless length", true, func(p *patient) { p.in(3, func(b []byte) { binary.LittleEndian.PutUint32(b[8:], 1<<31) }) },
			outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"zeroed page", true, func(p *patient) { p.in(10, func(b []byte) { clear(b[:4096]) }) }, outcome{ranges: 1, lost: 4, kept: 116, shown: -1}},
		{"two ranges", true, func(p *patient) { p.in(10, flip(99, 1)); p.in(90, flip(99, 1)) }, outcome{ranges: 2, lost: 2, kept: 118, shown: -1}},
		{"frame in another place", true, func(p *patient) {
			name, from := p.at(7)
			_, to := p.at(9)
			p.edit(name, func(b []byte) []byte { copy(b[to:to+1056], b[from:from+1056]); return b })
		}, outcome{ranges: 1, lost: 1, kept: 119, shown: -1}},
		{"end of a sealed segment", true, func(p *patient) {
			name := p.segments()[0]
			p.edit(name, func(b []byte) []byte { clear(b[60<<10:]); return b })
		}, outcome{ranges: 1, lost: 4, kept: 116, shown: -1}},
		{"sealed file cut short", true, func(p *patient) {
			p.edit(p.segments()[0], func(b []byte) []byte { return b[:30<<10] })
		}, outcome{ranges: 1, lost: 33, kept: 87, headers: 1, shown: -1}},
		{"tail file cut short, proven", true, func(p *patient) {
			name, off := p.at(119)
			p.edit(name, func(b []byte) []byte { return b[:off+10] })
		}, outcome{ranges: 1, lost: 2, kept: 118, shown: -1}},
		{"tail file cut short, not proven", false, func(p *patient) {
			name, off := p.at(120)
			p.edit(name, func(b []byte) []byte { return b[:off+10] })
		}, outcome{ranges: 1, kept: 119, shown: -1, once: true}},
		{"tail file cut short behind its records", true, func(p *patient) {
			name, off := p.at(120)
			p.edit(name, func(b []byte) []byte { return b[:off+2000] })
		}, outcome{headers: 1, kept: 120}},
		{"segment missing", true, func(p *patient) { require.NoError(p.t, p.fs.Remove(p.segments()[1])) },
			outcome{ranges: 1, lost: 50, kept: 70, shown: -1}},
		{"segment emptied", true, func(p *patient) { p.edit(p.segments()[1], func([]byte) []byte { return nil }) },
			outcome{ranges: 2, lost: 50, kept: 70, headers: 1, shown: 1}},
		{"segment overwritten", true, func(p *patient) { p.edit(p.segments()[1], garbage) },
			outcome{ranges: 2, lost: 50, kept: 70, headers: 3, shown: 1}},
		{"header page", true, func(p *patient) {
			p.edit(p.segments()[1], func(b []byte) []byte { garbage(b[:4096]); return b })
		}, outcome{headers: 1, kept: 120}},
		{"header page of the tail", true, func(p *patient) {
			p.edit(p.segments()[2], func(b []byte) []byte { garbage(b[:4096]); return b })
		}, outcome{headers: 1, kept: 120}},
		{"newest slot", true, func(p *patient) { p.edit(p.segments()[2], func(b []byte) []byte { b[4096+40] ^= 1; return b }) },
			outcome{headers: 1, kept: 120}},
		{"both slots", true, func(p *patient) { p.edit(p.segments()[1], func(b []byte) []byte { garbage(b[4096:12288]); return b }) },
			outcome{headers: 2, kept: 120}},
		{"both slots of the tail", true, func(p *patient) { p.edit(p.segments()[2], func(b []byte) []byte { garbage(b[4096:12288]); return b }) },
			outcome{headers: 2, kept: 120}},
		{"unreadable sector", true, func(p *patient) { name, off := p.at(12); p.fs.Spoil(name, int64(off), 10) },
			outcome{ranges: 1, lost: 5, kept: 115, shown: -1}},
		{"unfinished file", true, func(p *patient) { _, err := p.fs.Create("d/0000000000000099.tmp"); require.NoError(p.t, err) }, outcome{kept: 120}},
		{"newer format", true, func(p *patient) {
			p.edit(p.segments()[1], func(b []byte) []byte {
				binary.LittleEndian.PutUint32(b[8:], 2)
				binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], crc32.MakeTable(crc32.Castagnoli)))
				return b
			})
		}, outcome{err: wal.ErrVersion}},
		{"flip in the version", true, func(p *patient) { p.edit(p.segments()[1], func(b []byte) []byte { b[8] ^= 2; return b }) },
			outcome{headers: 1, kept: 120}},
		{"segment of another log", true, func(p *patient) {
			other := newPatient(p.t, 10, size, true)
			foreign := other.fs.Bytes(other.segments()[0])
			p.edit(p.segments()[1], func([]byte) []byte { return foreign })
		}, outcome{err: wal.ErrForeign}},
		{"id file", true, func(p *patient) { p.edit("d/disk.json", garbage) }, outcome{headers: 1, kept: 120}},
		{"id file missing", true, func(p *patient) { require.NoError(p.t, p.fs.Remove("d/disk.json")) }, outcome{headers: 1, kept: 120}},
		{"owner file", true, func(p *patient) { p.edit("d/owner.json", garbage) }, outcome{kept: 120}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPatient(t, 120, size, row.closed)
			require.Len(t, p.segments(), 3)
			row.damage(p)
			before := p.fs.Clone()
			if row.want.err != nil {
				_, _, err := wal.Open(p.cfg)
				require.ErrorIs(t, err, row.want.err)
				for _, name := range p.segments() {
					require.Equal(t, before.Bytes(name), p.fs.Bytes(name), "nothing was changed")
				}
				return
			}
			l, rep := open(t, p.cfg)
			require.Equal(t, row.want.torn, rep.Torn != nil, "%+v", rep)
			require.Len(t, rep.Corrupt, row.want.ranges, "%+v", rep)
			require.Equal(t, row.want.lost, rep.Lost(), "%+v", rep)
			require.Len(t, rep.Headers, row.want.headers)
			if rep.Torn != nil {
				require.Equal(t, row.want.intact, rep.Torn.Intact)
				require.NotEmpty(t, p.fs.Bytes(filepath.Join("d", rep.Torn.Copy)))
			}
			for _, r := range rep.Corrupt {
				name := fmt.Sprintf("d/%016x.seg", r.Segment)
				if r.Length > 0 && row.name != "unreadable sector" {
					b := before.Bytes(name)
					want := b[min(int(r.Offset), len(b)):min(int(r.Offset+r.Length), len(b))]
					require.True(t, bytes.HasPrefix(p.fs.Bytes(filepath.Join("d", r.Copy)), want), "the copy holds the range")
				}
			}
			got, corrupt := read(t, l.Reader(0))
			require.Len(t, got, row.want.kept)
			shown := row.want.shown
			if shown < 0 {
				shown = row.want.ranges
			}
			require.Len(t, corrupt, shown)
			for _, r := range got {
				require.Equal(t, record("a", int(r.Pos)/10, size).Data, r.Data)
			}
			// The log goes on, and the next opening finds everything again, the damage included.
			for i := 1; i <= 60; i++ {
				_, err := l.Append(deadline(t), record("after", i, size))
				require.NoError(t, err)
			}
			require.NoError(t, l.Close())
			l, again := open(t, p.cfg)
			require.Nil(t, again.Torn)
			got, corrupt = read(t, l.Reader(0))
			require.Len(t, got, row.want.kept+60)
			if !row.want.once {
				require.Len(t, corrupt, shown)
			}
			got, _ = read(t, l.StreamReader([]byte("after"), 0))
			require.Len(t, got, 60)
		})
	}
}

func TestTornGroupOfSeveral(t *testing.T) {
	p := newPatient(t, 10, 1000, false)
	l, _ := open(t, p.cfg)
	batch := make([]wal.Record, 5)
	for i := range batch {
		batch[i] = record("a", 11+i, 1000)
	}
	_, err := l.Append(deadline(t), batch...)
	require.NoError(t, err)
	p.fs = p.fs.Kill()
	_ = l.Close()
	p.cfg.FS = p.fs
	p.in(12, func(b []byte) { clear(b[:1000]) })
	l, rep := open(t, p.cfg)
	require.NotNil(t, rep.Torn)
	require.Equal(t, 3, rep.Torn.Intact)
	require.Empty(t, rep.Corrupt)
	got, _ := read(t, l.Reader(0))
	require.Len(t, got, 11)
	// New records with the same indexes take the place of the torn ones, for good.
	for i := 0; i < 4; i++ {
		_, err := l.Append(deadline(t), record("b", i, 1000))
		require.NoError(t, err)
	}
	p.fs = p.fs.Kill()
	_ = l.Close()
	p.cfg.FS = p.fs
	l, rep = open(t, p.cfg)
	require.Nil(t, rep.Torn)
	require.Empty(t, rep.Corrupt)
	got, _ = read(t, l.Reader(0))
	require.Len(t, got, 15)
}

func TestDamageFoundWhileReading(t *testing.T) {
	fs := faultfs.New(0)
	l, _ := open(t, small(fs, "d", wal.Write))
	for i := 1; i <= 200; i++ {
		_, err := l.Append(deadline(t), record([]string{"a", "b"}[i%2], i, 1000))
		require.NoError(t, err)
	}
	p := &patient{t: t, fs: fs}
	p.in(40, func(b []byte) { b[300] ^= 8 })
	name, off := p.at(140)
	fs.Spoil(name, int64(off)+600, 1)
	for range 2 {
		got, corrupt := read(t, l.Reader(0))
		require.Len(t, corrupt, 2)
		require.Equal(t, uint64(1), corrupt[0].Lost)
		require.Contains(t, corrupt[1].Reason, "input/output error")
		require.Less(t, len(got), 199)
		require.NotEmpty(t, fs.Bytes(filepath.Join("d", corrupt[0].Copy)))
	}
	require.Equal(t, uint64(2), l.Stats().Corrupt)
	_, corrupt := read(t, l.StreamReader([]byte("b"), 0))
	require.Len(t, corrupt, 2, "what was lost may have been this stream's")
	r := l.Reader(0)
	defer r.Close()
	var err error
	for err == nil {
		_, err = r.Next()
	}
	require.ErrorIs(t, err, wal.ErrCorrupt)
	_, again := r.Next()
	require.Equal(t, err, again, "the range is not passed over by itself")
}

// TestDamageAtAnOldEnd lets the log grow between a reader's last look at its end and the moment it finds damage just before
// that end: only the record that cannot be read is lost, however much was appended since.
func TestDamageAtAnOldEnd(t *testing.T) {
	for _, stream := range []string{"", "a"} {
		fs := faultfs.New(0)
		cfg := small(fs, "d", wal.Write)
		cfg.SegmentSize, cfg.MarkAfter = 1<<20, time.Hour
		l, _ := open(t, cfg)
		write := func(from, to int) {
			for i := from; i <= to; i++ {
				_, err := l.Append(deadline(t), record("a", i, 30_000)) // a reader reads some two of these ahead
				require.NoError(t, err)
			}
		}
		write(1, 10)
		r := l.Reader(0)
		if stream != "" {
			r = l.StreamReader([]byte(stream), 0)
		}
		_, err := r.Next()
		require.NoError(t, err)
		(&patient{t: t, fs: fs}).in(10, flip(300, 8))
		write(11, 20)
		got, corrupt := read(t, r)
		require.Len(t, got, 18)
		require.Len(t, corrupt, 1)
		require.Equal(t, []uint64{10, 1}, []uint64{corrupt[0].First, corrupt[0].Lost})
	}
}

func TestFailedSyncIsFinal(t *testing.T) {
	backends(t, func(t *testing.T, backend wal.Backend) {
		for name, fault := range map[string]faultfs.Fault{"sync": {Sync: 1}, "write": {Write: 1}, "torn write": {Tear: 1}} {
			t.Run(name, func(t *testing.T) {
				fs := faultfs.New(0)
				cfg := small(fs, "d", backend)
				cfg.MarkAfter = time.Hour
				l, _ := open(t, cfg)
				eventually(t, func() bool { return settled(fs, 4) }) // id, owner, and two segments
				_, err := l.Append(deadline(t), record("a", 1, 3000))
				require.NoError(t, err)
				fs.Inject(fault)
				_, err = l.Append(deadline(t), record("a", 2, 3000))
				require.ErrorIs(t, err, wal.ErrFailed)
				require.ErrorIs(t, err, faultfs.ErrInjected)
				_, err = l.Append(deadline(t), record("a", 3, 3000))
				require.ErrorIs(t, err, wal.ErrFailed, "the disk would take it, the log does not try")
				require.Equal(t, wal.Hard, l.Level())
				require.ErrorIs(t, l.Err(), wal.ErrFailed)
				got, _ := read(t, l.Reader(0))
				require.Len(t, got, 1, "what was acknowledged is still read")
				require.ErrorIs(t, l.Close(), wal.ErrFailed)
				l, rep := open(t, cfg)
				require.Empty(t, rep.Corrupt)
				got, _ = read(t, l.Reader(0))
				require.LessOrEqual(t, len(got), 2)
				_, err = l.Append(deadline(t), record("a", 4, 10))
				require.NoError(t, err)
			})
		}
	})
}

// slowFS fails the sync it holds up, and only that one.
type slowFS struct {
	wal.FS
	armed   atomic.Bool
	reached chan struct{} // closed when the armed sync has begun
	proceed chan struct{} // lets it fail
}

type slowFile struct {
	wal.File
	fs *slowFS
}

func (s *slowFS) Open(name string, write bool) (wal.File, error) {
	f, err := s.FS.Open(name, write)
	return slowFile{f, s}, err
}

func (s *slowFS) Create(name string) (wal.File, error) {
	f, err := s.FS.Create(name)
	return slowFile{f, s}, err
}

func (f slowFile) Sync() error {
	if !f.fs.armed.CompareAndSwap(true, false) {
		return f.File.Sync()
	}
	close(f.fs.reached)
	<-f.fs.proceed
	return faultfs.ErrInjected
}

// A group that waits while the one before it fails must not be written: its place would prove that the failed one was
// acknowledged.
func TestNothingFollowsAFailedSync(t *testing.T) {
	disk := faultfs.New(0)
	fs := &slowFS{FS: disk, reached: make(chan struct{}), proceed: make(chan struct{})}
	cfg := small(fs, "d", wal.Write)
	cfg.MarkAfter = time.Hour
	l, _ := open(t, cfg)
	eventually(t, func() bool { return settled(disk, 4) })
	_, err := l.Append(deadline(t), record("a", 1, 3000))
	require.NoError(t, err)
	fs.armed.Store(true)
	var waiting sync.WaitGroup
	fail := func(i int) {
		_, err := l.Append(deadline(t), record("a", i, 3000))
		require.ErrorIs(t, err, wal.ErrFailed)
	}
	waiting.Go(func() { fail(2) })
	<-fs.reached
	waiting.Go(func() { fail(3) })
	eventually(t, func() bool { return l.Stats().Next >= 4 }) // the third record is staged
	close(fs.proceed)
	waiting.Wait()
	require.ErrorIs(t, l.Close(), wal.ErrFailed)
	cfg.FS = disk.PowerLoss(rand.New(rand.NewPCG(1, 1)))
	l, rep := open(t, cfg)
	require.Empty(t, rep.Corrupt)
	got, _ := read(t, l.Reader(0))
	require.NotEmpty(t, got)
	require.LessOrEqual(t, len(got), 2)
}

func TestPrepareFailsForAWhile(t *testing.T) {
	fs := faultfs.New(0)
	cfg := small(fs, "d", wal.Write)
	l, _ := open(t, cfg)
	fs.Resize(1) // a full disk
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = l.Append(deadline(t), record("a", n, 3000))
	}
	require.ErrorIs(t, err, wal.ErrNoSpace)
	require.False(t, errors.Is(err, wal.ErrFailed))
	require.Equal(t, wal.Hard, l.Level())
	require.ErrorIs(t, l.Err(), wal.ErrNoSpace)
	fs.Resize(0)
	eventually(t, func() bool { return l.Level() == wal.Normal })
	_, err = l.Append(deadline(t), record("a", n, 3000))
	require.NoError(t, err)
	got, _ := read(t, l.Reader(0))
	require.Len(t, got, n)
}

func TestOpenOnAFullDisk(t *testing.T) {
	p := newPatient(t, 120, 1000, true)
	p.in(5, flip(100, 1))
	p.fs.Resize(1)
	l, rep := open(t, p.cfg)
	require.Len(t, rep.Corrupt, 1)
	require.Empty(t, rep.Corrupt[0].Copy, "there is no room for it yet")
	got, _ := read(t, l.Reader(0))
	require.Len(t, got, 119)
	l.Trim(got[118].Index)
	eventually(t, func() bool { return l.Stats().Segments == 1 })
	name, _ := p.at(5)
	require.NotNil(t, p.fs.Bytes(name), "nor is the segment destroyed before it is copied")
	p.fs.Resize(0)
	eventually(t, func() bool {
		for _, f := range p.fs.Files() {
			if strings.HasSuffix(f, ".corrupt") {
				return true
			}
		}
		return false
	})
	_, err := l.Append(deadline(t), record("a", 1, 100))
	require.NoError(t, err)
}

func TestInspect(t *testing.T) {
	p := newPatient(t, 120, 1000, true)
	p.in(5, flip(100, 1))
	before := p.fs.Clone()
	v, rep, err := wal.Inspect(p.fs, "d")
	require.NoError(t, err)
	require.Len(t, rep.Corrupt, 1)
	got, corrupt := read(t, v.Reader(0))
	require.Len(t, got, 119)
	require.Len(t, corrupt, 1)
	require.Len(t, v.Segments(), 3)
	require.Len(t, v.Streams(), 1)
	require.NoError(t, v.Close())
	require.NoError(t, v.Close())
	require.Equal(t, before.Files(), p.fs.Files())
	for _, name := range before.Files() {
		require.Equal(t, before.Bytes(name), p.fs.Bytes(name), name)
	}
	_, _, err = wal.Inspect(p.fs, "elsewhere")
	require.ErrorIs(t, err, os.ErrNotExist)
}
