package wal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func TestAppendReadReopen(t *testing.T) {
	backends(t, func(t *testing.T, backend wal.Backend) {
		cfg := small(wal.OS, t.TempDir(), backend)
		l, rep := open(t, cfg)
		require.Zero(t, rep.Records)
		var want []wal.Record
		for i := 1; i <= 300; i++ {
			recs := []wal.Record{record("a", i, 700), record("b", i, 90)}
			first, err := l.Append(deadline(t), recs...)
			require.NoError(t, err)
			recs[0].Index, recs[1].Index = first, first+1
			want = append(want, recs...)
		}
		require.Greater(t, l.Stats().Rolls, uint64(3))
		got, corrupt := read(t, l.Reader(0))
		require.Empty(t, corrupt)
		require.Equal(t, want, got)
		require.NoError(t, l.Close())
		require.NoError(t, l.Close())
		_, err := l.Append(deadline(t), record("a", 1, 1))
		require.ErrorIs(t, err, wal.ErrClosed)

		l, rep = open(t, cfg)
		require.Equal(t, uint64(600), rep.Records)
		require.Nil(t, rep.Torn)
		require.Empty(t, rep.Corrupt)
		require.Empty(t, rep.Headers)
		got, _ = read(t, l.Reader(0))
		require.Equal(t, want, got)
		got, _ = read(t, l.Reader(want[417].Index))
		require.Equal(t, want[417:], got)
		first, err := l.Append(deadline(t), record("a", 301, 5))
		require.NoError(t, err)
		require.Greater(t, first, want[599].Index)
	})
}

func TestStreams(t *testing.T) {
	fs := faultfs.New(0)
	cfg := small(fs, "d", wal.Write)
	l, _ := open(t, cfg)
	for i := 1; i <= 2000; i++ {
		stream := "often"
		if i%100 == 0 {
			stream = "seldom"
		}
		_, err := l.Append(deadline(t), record(stream, i, 900))
		require.NoError(t, err)
	}
	last := record("often", 2001, 10)
	last.Chain, last.Place = []byte("2:other"), wal.Place{Seq: 1, Part: 3}
	_, err := l.Append(deadline(t), last)
	require.NoError(t, err)
	check := func(l *wal.Log) {
		infos := l.Streams()
		require.Len(t, infos, 2)
		require.Equal(t, "often", infos[0].Stream)
		require.Len(t, infos[0].Chains, 2)
		c := infos[0].Chains[0]
		require.Equal(t, "1:token", c.Chain)
		require.Equal(t, uint64(1980), c.Records)
		require.Equal(t, 19, c.Gaps)
		require.Equal(t, int64(19990), c.Pos)
		require.Equal(t, wal.Place{Seq: 1999}, c.Last)
		require.Equal(t, wal.Place{Seq: 1, Part: 3}, infos[0].Chains[1].First)
		require.Equal(t, "seldom", infos[1].Stream)
		got, corrupt := read(t, l.StreamReader([]byte("seldom"), 0))
		require.Empty(t, corrupt)
		require.Len(t, got, 20)
		for i, r := range got {
			require.Equal(t, record("seldom", 100*(i+1), 900).Data, r.Data)
		}
		got, _ = read(t, l.StreamReader([]byte("often"), 0))
		require.Len(t, got, 1981)
		got, _ = read(t, l.StreamReader([]byte("never"), 0))
		require.Empty(t, got)
	}
	check(l)
	require.NoError(t, l.Close())
	l, _ = open(t, cfg)
	check(l)
}

func TestStreamReaderFollows(t *testing.T) {
	l, _ := open(t, small(faultfs.New(0), "d", wal.Write))
	r := l.StreamReader([]byte("b"), 0)
	defer r.Close()
	_, err := r.Next()
	require.ErrorIs(t, err, io.EOF)
	for i := 1; i <= 400; i++ {
		_, err := l.Append(deadline(t), record("a", i, 3000))
		require.NoError(t, err)
		if i%7 > 0 {
			continue
		}
		_, err = r.Next()
		require.ErrorIs(t, err, io.EOF)
		waited := make(chan error, 1)
		go func() {
			err := r.Wait(deadline(t))
			for err == nil {
				if _, err = r.Next(); errors.Is(err, io.EOF) {
					err = r.Wait(deadline(t))
				} else {
					break
				}
			}
			waited <- err
		}()
		_, err = l.Append(deadline(t), record("b", i, 10))
		require.NoError(t, err)
		require.NoError(t, <-waited)
	}
}

func TestReleaseRecycles(t *testing.T) {
	backends(t, func(t *testing.T, backend wal.Backend) {
		cfg := small(faultfs.New(0), "d", backend)
		l, _ := open(t, cfg)
		for i := 1; i <= 1000; i++ {
			first, err := l.Append(deadline(t), record("a", i, 1000), record("b", i, 1000))
			require.NoError(t, err)
			if i > 20 {
				l.Release([]byte("a"), first-20)
				l.Release([]byte("b"), first-10)
			}
			if i%5 == 0 { // let the housekeeper finish, so that the next roll finds a recycled segment
				eventually(t, func() bool { return l.Stats().Segments <= 4 })
			}
		}
		s := l.Stats()
		require.Greater(t, s.Recycled, uint64(20))
		require.Less(t, s.Created, uint64(10))
		got, corrupt := read(t, l.StreamReader([]byte("a"), 0))
		require.Empty(t, corrupt)
		require.Equal(t, record("a", 1000, 1000).Data, got[len(got)-1].Data)
		require.Less(t, len(got), 30, "released records are not shown")
		require.NoError(t, l.Close())
		l, rep := open(t, cfg)
		require.Empty(t, rep.Corrupt)
		require.Nil(t, rep.Torn)
		got, _ = read(t, l.StreamReader([]byte("a"), 0))
		require.Less(t, len(got), 30, "releases survive")
		_, err := l.Append(deadline(t), record("a", 1001, 10))
		require.NoError(t, err)
	})
}

func TestOneStreamHoldsTheLog(t *testing.T) {
	l, _ := open(t, small(faultfs.New(0), "d", wal.Write))
	_, err := l.Append(deadline(t), record("held", 1, 10))
	require.NoError(t, err)
	var last uint64
	for i := range 300 {
		last, err = l.Append(deadline(t), record("a", i, 1000))
		require.NoError(t, err)
	}
	l.Release([]byte("a"), last+1)
	require.Greater(t, l.Stats().Segments, 5)
	l.Release([]byte("held"), last+1)
	eventually(t, func() bool { return l.Stats().Segments == 1 })
	require.Len(t, l.Streams(), 0)
}

func TestLimits(t *testing.T) {
	cfg := small(faultfs.New(0), "d", wal.Write)
	cfg.HardLimit, cfg.SoftLimit = 4*wal.MinSegmentSize, 2*wal.MinSegmentSize
	l, _ := open(t, cfg)
	var err error
	var last uint64
	seen := map[wal.Level]bool{}
	for i := 0; err == nil; i++ {
		seen[l.Level()] = true
		var first uint64
		if first, err = l.Append(deadline(t), record("a", i, 2000)); err == nil {
			last = first
		}
	}
	require.ErrorIs(t, err, wal.ErrFull)
	require.Len(t, seen, 3)
	require.Equal(t, wal.Hard, l.Level())
	got, _ := read(t, l.Reader(0))
	require.Equal(t, last, got[len(got)-1].Index)
	l.Release([]byte("a"), last+1)
	eventually(t, func() bool { return l.Level() == wal.Normal })
	_, err = l.Append(deadline(t), record("a", 0, 2000))
	require.NoError(t, err)
}

// A log that has no room for a batch is full for whoever has to append it, though a smaller one would still find room.
func TestNoRoomForALargeBatch(t *testing.T) {
	cfg := small(faultfs.New(0), "d", wal.Write)
	cfg.HardLimit, cfg.SoftLimit = 4*wal.MinSegmentSize, 4*wal.MinSegmentSize
	l, _ := open(t, cfg)
	large := int(wal.MinSegmentSize) * 3 / 8
	var err error
	for i := 0; err == nil; i++ {
		require.Equal(t, wal.Normal, l.Level())
		_, err = l.Append(deadline(t), record("a", i, large))
	}
	require.ErrorIs(t, err, wal.ErrFull)
	require.Less(t, l.Stats().Used, cfg.HardLimit-wal.MinSegmentSize/8, "near the limit it is full in any case")
	require.Equal(t, wal.Hard, l.Level())
	last, err := l.Append(deadline(t), record("a", 0, 100))
	require.NoError(t, err)
	require.Equal(t, wal.Hard, l.Level(), "that a small one finds room does not help the large one")
	l.Release([]byte("a"), last+1)
	eventually(t, func() bool { return l.Level() == wal.Normal })
	_, err = l.Append(deadline(t), record("a", 0, large))
	require.NoError(t, err)
}

func TestNothingButTheActiveSegmentFull(t *testing.T) {
	cfg := small(faultfs.New(0), "d", wal.Write)
	cfg.HardLimit, cfg.SoftLimit = 2*wal.MinSegmentSize, 1000
	l, _ := open(t, cfg)
	first, err := l.Append(deadline(t), record("a", 1, 2000))
	require.NoError(t, err)
	require.Equal(t, wal.Soft, l.Level())
	l.Trim(first + 1)
	eventually(t, func() bool { return l.Level() == wal.Normal })
}

func TestRejects(t *testing.T) {
	l, _ := open(t, small(faultfs.New(0), "d", wal.Write))
	long := make([]byte, wal.MaxStream+1)
	for name, r := range map[string]wal.Record{
		"no stream":   {Data: []byte("x")},
		"long stream": {Stream: long},
		"long chain":  {Stream: []byte("a"), Chain: long[:wal.MaxChain+1]},
		"large":       {Stream: []byte("a"), Data: make([]byte, wal.MinSegmentSize/2)},
	} {
		_, err := l.Append(deadline(t), r)
		require.ErrorIs(t, err, wal.ErrTooLarge, name)
	}
	_, err := l.Append(deadline(t))
	require.ErrorIs(t, err, wal.ErrTooLarge)
	_, err = l.StreamReader(nil, 0).Next()
	require.ErrorIs(t, err, wal.ErrTooLarge)
	require.ErrorContains(t, wal.Config{Dir: "d", SegmentSize: 5, Backend: "tape"}.Validate(), "SegmentSize is 5")
}

func TestAppendHonoursContext(t *testing.T) {
	l, _ := open(t, small(faultfs.New(0), "d", wal.Write))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, err := l.Submit(deadline(t), record("a", 1, 10))
	require.NoError(t, err)
	if err := p.Wait(ctx); err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, p.Wait(deadline(t)))
	<-p.Done()
}

func TestConcurrent(t *testing.T) {
	backends(t, func(t *testing.T, backend wal.Backend) {
		l, _ := open(t, small(faultfs.New(0), "d", backend))
		const writers, each = 8, 200
		var writing, reading sync.WaitGroup
		errs := make(chan error, 100)
		for w := range writers {
			writing.Add(1)
			reading.Add(1)
			stream := fmt.Sprintf("s%d", w)
			go func() {
				defer writing.Done()
				for i := 1; i <= each; i++ {
					if _, err := l.Append(deadline(t), record(stream, i, 50+i)); err != nil {
						errs <- err
					}
				}
			}()
			go func() { // drains its stream
				defer reading.Done()
				r := l.StreamReader([]byte(stream), 0)
				defer r.Close()
				for n := 1; n <= each; {
					rec, err := r.Next()
					switch {
					case err == nil:
						if string(rec.Data) != string(record(stream, n, 50+n).Data) {
							errs <- fmt.Errorf("%s: got %q as number %d", stream, rec.Data, n)
						}
						l.Release([]byte(stream), rec.Index+1)
						n++
					case errors.Is(err, io.EOF):
						err = r.Wait(deadline(t))
					}
					if err != nil && !errors.Is(err, io.EOF) {
						errs <- err
						return
					}
				}
			}()
		}
		writing.Wait()
		reading.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
		s := l.Stats()
		require.Equal(t, uint64(writers*each), s.Records)
		eventually(t, func() bool { return l.Stats().Segments == 1 })
	})
}

func TestReaderOfTrimmed(t *testing.T) {
	l, _ := open(t, small(faultfs.New(0), "d", wal.Write))
	slow := l.Reader(0)
	defer slow.Close()
	var last uint64
	for i := range 200 {
		var err error
		last, err = l.Append(deadline(t), record("a", i, 1000))
		require.NoError(t, err)
	}
	_, err := slow.Next()
	require.NoError(t, err)
	l.Trim(last)
	eventually(t, func() bool { return l.Stats().Segments == 1 })
	_, err = l.Reader(2).Next()
	require.ErrorIs(t, err, wal.ErrTrimmed)
	for err = nil; err == nil; {
		_, err = slow.Next() // its own segment is still there, the next one is not
	}
	require.ErrorIs(t, err, wal.ErrTrimmed)
	require.NoError(t, l.Close())
	_, err = l.Reader(0).Next()
	require.ErrorIs(t, err, wal.ErrClosed)
}

func TestLock(t *testing.T) {
	for name, fs := range map[string]wal.FS{"os": wal.OS, "memory": faultfs.New(0)} {
		t.Run(name, func(t *testing.T) {
			cfg := small(fs, t.TempDir(), wal.Write)
			cfg.Worker, cfg.Incarnation = "w7", "first"
			l, _ := open(t, cfg)
			require.Equal(t, "first", l.Identity().Owner.Incarnation)
			_, _, err := wal.Open(cfg)
			require.ErrorIs(t, err, wal.ErrLocked)
			require.ErrorContains(t, err, `worker "w7", incarnation first`)
			disk := l.Identity().Disk
			require.NotZero(t, disk)
			require.NoError(t, l.Close())
			cfg.Incarnation = ""
			l, _ = open(t, cfg)
			require.Equal(t, disk, l.Identity().Disk)
			require.NotEmpty(t, l.Identity().Owner.Incarnation)
			owner, err := wal.ReadOwner(fs, cfg.Dir)
			require.NoError(t, err)
			require.Equal(t, l.Identity().Owner.Incarnation, owner.Incarnation)
		})
	}
}

func TestIdleLogProvesItsTail(t *testing.T) {
	fs := faultfs.New(0)
	cfg := small(fs, "d", wal.Write)
	l, _ := open(t, cfg)
	_, err := l.Append(deadline(t), record("a", 1, 100))
	require.NoError(t, err)
	eventually(t, func() bool {
		v, rep, err := wal.Inspect(damagedTail(fs), "d")
		if err != nil {
			return false
		}
		defer v.Close()
		return len(rep.Corrupt) == 1 && rep.Torn == nil && rep.Lost() == 1
	})
	require.NoError(t, l.Close())
}

// damagedTail is a copy of fs with a bit of the first record flipped.
func damagedTail(fs *faultfs.FS) *faultfs.FS {
	c := fs.Clone()
	for _, name := range c.Files() {
		c.Mutate(name, func(b []byte) []byte {
			if len(b) == wal.MinSegmentSize && b[dataStart] != 0 {
				b[dataStart+60] ^= 4
			}
			return b
		})
	}
	return c
}

func TestIdleTimerOffTheClock(t *testing.T) {
	cfg := small(faultfs.New(0), "d", wal.Write)
	cfg.MarkAfter = time.Hour
	l, _ := open(t, cfg)
	first, err := l.Append(deadline(t), record("a", 1, 100))
	require.NoError(t, err)
	l.Release([]byte("a"), first+1) // nobody waits for the note; closing writes it
	require.NoError(t, l.Close())
	l, _ = open(t, cfg)
	require.Empty(t, l.Streams())
}
