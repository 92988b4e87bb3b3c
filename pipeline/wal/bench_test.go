package wal_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
)

// window is how long each contender runs before the next has its turn: disks drift, so they take turns.
const window = 100 * time.Millisecond

// contender writes durably for one window.
type contender struct {
	name  string
	run   func(until time.Time)
	acks  []time.Duration // latency of each acknowledgement
	syncs uint64
	spent time.Duration
}

func (c *contender) turn(b *testing.B) {
	start := time.Now()
	c.run(start.Add(window))
	c.spent += time.Since(start)
	require.False(b, b.Failed())
}

func (c *contender) rate() float64 { return float64(len(c.acks)) / c.spent.Seconds() }

func (c *contender) at(q float64) time.Duration {
	if len(c.acks) == 0 {
		return 0
	}
	slices.Sort(c.acks)
	return c.acks[int(q*float64(len(c.acks)-1))]
}

// raw writes blocks of one size one after another into a file that is allocated and written, and syncs each.
func raw(b *testing.B, size func() int) *contender {
	f, err := wal.OS.Create(filepath.Join(b.TempDir(), "raw"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, f.Close()) })
	const file = 64 << 20
	require.NoError(b, f.Allocate(file))
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < file; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros, off)
		require.NoError(b, err)
		require.NoError(b, f.Sync())
	}
	c := &contender{name: "raw"}
	var off int64
	c.run = func(until time.Time) {
		block := make([]byte, size())
		for i := range block {
			block[i] = byte(i + 1)
		}
		for start := time.Now(); start.Before(until); {
			if off+int64(len(block)) > file {
				off = 0
			}
			_, err := f.WriteAt(block, off)
			if err == nil {
				err = f.Sync()
			}
			if err != nil {
				b.Error(err)
				return
			}
			off += int64(len(block))
			now := time.Now()
			c.acks = append(c.acks, now.Sub(start))
			c.syncs++
			start = now
		}
	}
	return c
}

// log appends 128-byte records from several appenders, each waiting for its acknowledgement before the next.
func log(b *testing.B, backend wal.Backend, appenders int) (*contender, *wal.Log) {
	l, _, err := wal.Open(wal.Config{Dir: b.TempDir(), Backend: backend, HardLimit: 8 << 30})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, l.Close()) })
	c := &contender{name: string(backend)}
	var mu sync.Mutex
	ctx := context.Background()
	c.run = func(until time.Time) {
		before := l.Stats().Syncs
		var wg sync.WaitGroup
		for w := range appenders {
			wg.Add(1)
			go func() {
				defer wg.Done()
				rec := record(fmt.Sprintf("lane/%d", w), 1, 128)
				var acks []time.Duration
				var last uint64
				for start := time.Now(); start.Before(until); {
					first, err := l.Append(ctx, rec)
					if err != nil {
						b.Error(err)
						return
					}
					rec.Place.Seq++
					last = first
					now := time.Now()
					acks = append(acks, now.Sub(start))
					start = now
				}
				l.Release(rec.Stream, last)
				mu.Lock()
				c.acks = append(c.acks, acks...)
				mu.Unlock()
			}()
		}
		wg.Wait()
		c.syncs += l.Stats().Syncs - before
	}
	return c, l
}

// BenchmarkAgainstRaw lets both backends and a bare write-and-sync loop take turns on the same disk. The bare loop writes blocks
// of the size the log's groups have: one record of 128 bytes for one appender, the mean group for several. Read the ratios.
func BenchmarkAgainstRaw(b *testing.B) {
	for _, appenders := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("appenders=%d", appenders), func(b *testing.B) {
			var all []*contender
			var logs []*wal.Log
			for _, backend := range []wal.Backend{wal.Write, wal.Mmap} {
				c, l := log(b, backend, appenders)
				all, logs = append(all, c), append(logs, l)
			}
			bare := raw(b, func() int {
				if s := logs[0].Stats(); appenders > 1 && s.Groups > 0 {
					return int(s.Bytes / s.Groups)
				}
				return 128
			})
			all = append(all, bare)
			for b.Loop() {
				for _, c := range all {
					c.turn(b)
				}
			}
			b.ReportMetric(bare.rate(), "raw-syncs/s")
			b.ReportMetric(float64(bare.at(0.5).Microseconds()), "raw-p50-µs")
			b.ReportMetric(float64(bare.at(0.99).Microseconds()), "raw-p99-µs")
			for _, c := range all[:2] {
				b.ReportMetric(c.rate()/bare.rate(), c.name+"-records-ratio")
				b.ReportMetric(float64(c.syncs)/c.spent.Seconds()/bare.rate(), c.name+"-syncs-ratio")
				b.ReportMetric(float64(c.at(0.5).Microseconds()), c.name+"-p50-µs")
				b.ReportMetric(float64(c.at(0.99).Microseconds()), c.name+"-p99-µs")
				b.ReportMetric(float64(c.at(1).Microseconds()), c.name+"-worst-µs")
			}
			s := logs[0].Stats()
			b.ReportMetric(float64(s.Bytes)/float64(s.Groups), "group-bytes")
		})
	}
}

// BenchmarkBackends writes commits of 32 KiB through many segments: cold through new ones, warm through recycled ones.
func BenchmarkBackends(b *testing.B) {
	for _, warm := range []bool{false, true} {
		for _, backend := range []wal.Backend{wal.Write, wal.Mmap} {
			name := fmt.Sprintf("cold/%s", backend)
			if warm {
				name = fmt.Sprintf("warm/%s", backend)
			}
			b.Run(name, func(b *testing.B) {
				l, _, err := wal.Open(wal.Config{Dir: b.TempDir(), Backend: backend, SegmentSize: 8 << 20, HardLimit: 8 << 30})
				require.NoError(b, err)
				defer l.Close()
				const appenders, size = 8, 32 << 10
				b.SetBytes(appenders * size)
				c := &contender{}
				records := make([]wal.Record, appenders)
				for w := range records {
					records[w] = record(fmt.Sprintf("lane/%d", w), 1, size)
				}
				ctx := context.Background()
				for b.Loop() {
					start := time.Now()
					var pending wal.Pending
					for _, rec := range records {
						if pending, err = l.Submit(ctx, rec); err != nil {
							break
						}
					}
					if err == nil {
						err = pending.Wait(ctx)
					}
					require.NoError(b, err)
					c.acks = append(c.acks, time.Since(start))
					if warm {
						l.Trim(pending.First())
					}
				}
				b.ReportMetric(float64(c.at(0.5).Microseconds()), "p50-µs")
				b.ReportMetric(float64(c.at(0.99).Microseconds()), "p99-µs")
				b.ReportMetric(float64(c.at(1).Microseconds()), "worst-µs")
				s := l.Stats()
				b.ReportMetric(float64(s.RollWaits), "roll-waits")
				b.ReportMetric(float64(s.Recycled), "recycled")
			})
		}
	}
}

// BenchmarkStore compares one store and sync into a file that was only made long (cold, sparse), one that is allocated, and
// one that is allocated and written: what preparing a segment is worth.
func BenchmarkStore(b *testing.B) {
	const size, block = 64 << 20, 4096
	for _, kind := range []string{"sparse", "allocated", "written"} {
		for _, backend := range []wal.Backend{wal.Write, wal.Mmap} {
			b.Run(kind+"/"+string(backend), func(b *testing.B) {
				name := filepath.Join(b.TempDir(), "f")
				f, err := wal.OS.Create(name)
				require.NoError(b, err)
				defer f.Close()
				require.NoError(b, os.Truncate(name, size))
				if kind != "sparse" {
					require.NoError(b, f.Allocate(size))
				}
				if kind == "written" {
					_, err = f.WriteAt(make([]byte, size), 0)
					require.NoError(b, err)
				}
				require.NoError(b, f.Sync())
				at, sync := f.WriteAt, func(int64) error { return f.Sync() }
				if backend == wal.Mmap {
					m, err := f.Map(size)
					require.NoError(b, err)
					defer m.Close()
					at, sync = m.WriteAt, func(off int64) error { return m.Sync(off, block) }
				}
				data := make([]byte, block)
				data[7] = 7
				c := &contender{}
				off := int64(0)
				for b.Loop() {
					start := time.Now()
					_, err := at(data, off)
					if err == nil {
						err = sync(off)
					}
					require.NoError(b, err)
					c.acks = append(c.acks, time.Since(start))
					off = (off + block) % size
				}
				b.ReportMetric(float64(c.at(0.99).Microseconds()), "p99-µs")
				b.ReportMetric(float64(c.at(1).Microseconds()), "worst-µs")
			})
		}
	}
}

// BenchmarkSubmit shows what a record costs besides the disk: 256 of them share one sync.
func BenchmarkSubmit(b *testing.B) {
	dir := b.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "wal"); err == nil {
		b.Cleanup(func() { require.NoError(b, os.RemoveAll(shm)) })
		dir = shm
	}
	l, _, err := wal.Open(wal.Config{Dir: dir})
	require.NoError(b, err)
	defer l.Close()
	rec := record("flights/flights/3", 1, 128)
	ctx := context.Background()
	b.ReportAllocs()
	b.SetBytes(128)
	n := 0
	for b.Loop() {
		p, err := l.Submit(ctx, rec)
		if n++; err == nil && n%256 == 0 {
			err = p.Wait(ctx)
			l.Release(rec.Stream, p.First())
		}
		if err != nil {
			b.Fatal(err)
		}
		rec.Place.Seq++
	}
}

// BenchmarkRead reads a log from its start.
func BenchmarkRead(b *testing.B) {
	l, _, err := wal.Open(wal.Config{Dir: b.TempDir()})
	require.NoError(b, err)
	defer l.Close()
	const count, size = 64, 64 << 10
	for i := range count {
		_, err := l.Append(context.Background(), record("a", i, size))
		require.NoError(b, err)
	}
	b.SetBytes(count * size)
	b.ReportAllocs()
	for b.Loop() {
		r := l.Reader(0)
		for range count {
			_, err := r.Next()
			require.NoError(b, err)
		}
		r.Close()
	}
}
