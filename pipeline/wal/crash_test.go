package wal_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

// world is a log, the disk below it, and what must be on it.
type world struct {
	t        *testing.T
	ctx      context.Context
	rnd      *rand.Rand
	fs       *faultfs.FS
	cfg      wal.Config
	sent     []sent            // in the order of the log; those a crash cut off are taken out
	released map[string]uint64 // by stream
	serial   int
}

// sent is a record that was submitted.
type sent struct {
	index  uint64
	stream string
	text   string
	acked  bool
}

func (w *world) open() (*wal.Log, *wal.Recovery) {
	w.cfg.FS = w.fs
	l, rep, err := wal.Open(w.cfg)
	require.NoError(w.t, err)
	return l, rep
}

// check reads the log: what was acknowledged and not released is there, in order, and of what was not acknowledged a
// prefix. The rest is forgotten.
func (w *world) check(l *wal.Log, rep *wal.Recovery) {
	require.Empty(w.t, rep.Corrupt, "a crash is no corruption")
	got, corrupt := read(w.t, l.Reader(1<<63-1)) // only the first reader may find the oldest segment trimmed
	require.Empty(w.t, got)
	require.Empty(w.t, corrupt)
	r := l.Reader(0)
	got, corrupt = read(w.t, r)
	require.Empty(w.t, corrupt)
	next, kept := 0, w.sent[:0:0]
	for _, rec := range got {
		for next < len(w.sent) && w.sent[next].index < rec.Index {
			w.missing(w.sent[next])
			next++
		}
		require.Less(w.t, next, len(w.sent), "record %d was never sent", rec.Index)
		s := w.sent[next]
		next++
		require.Equal(w.t, s.index, rec.Index)
		require.Equal(w.t, s.stream, string(rec.Stream))
		require.Equal(w.t, s.text, string(rec.Data))
		s.acked = true // durable now, whatever was said before
		kept = append(kept, s)
	}
	for _, s := range w.sent[next:] {
		w.missing(s)
	}
	w.sent = kept
}

// missing is fine for a released record and for one that was not acknowledged. What follows the latter is checked by the
// order of indexes: after a crash the log gives its index again, so a later survivor would not match.
func (w *world) missing(s sent) {
	if s.index >= w.released[s.stream] {
		require.False(w.t, s.acked, "record %d of %s was acknowledged and is gone", s.index, s.stream)
	}
}

// work submits and releases at random until something fails or it has done enough.
func (w *world) work(l *wal.Log) {
	type batch struct {
		p     wal.Pending
		first int // in w.sent
		n     int
	}
	var batches []batch
	for range w.rnd.IntN(60) {
		n := 1 + w.rnd.IntN(3)
		var recs []wal.Record
		var texts []sent
		for range n {
			w.serial++
			stream := fmt.Sprintf("s%d", w.rnd.IntN(4))
			rec := record(stream, w.serial, 20+w.rnd.IntN(1+w.rnd.IntN(6000)))
			recs = append(recs, rec)
			texts = append(texts, sent{stream: stream, text: string(rec.Data)})
		}
		p, err := l.Submit(w.ctx, recs...)
		if err != nil {
			break
		}
		for i := range texts {
			texts[i].index = p.First() + uint64(i)
		}
		batches = append(batches, batch{p, len(w.sent), n})
		w.sent = append(w.sent, texts...)
		if w.rnd.IntN(3) == 0 && p.Wait(w.ctx) != nil {
			break
		}
		if w.rnd.IntN(4) == 0 && l.Err() == nil {
			stream := fmt.Sprintf("s%d", w.rnd.IntN(4))
			before := p.First() - uint64(w.rnd.IntN(40))
			if s := l.Stats(); before < s.Next && before <= p.First() {
				l.Release([]byte(stream), before)
				w.released[stream] = max(w.released[stream], before)
			}
		}
	}
	if w.rnd.IntN(2) == 0 && len(batches) > 0 {
		_ = batches[len(batches)-1].p.Wait(w.ctx) // the outcome is looked at below
	}
	switch w.rnd.IntN(4) {
	case 0:
		w.fs = w.fs.Kill()
	case 1, 2:
		w.fs = w.fs.PowerLoss(w.rnd)
	case 3: // an orderly end, if nothing failed
	}
	_ = l.Close() // ends the goroutines; after a crash it cannot succeed
	refused := false
	for _, b := range batches {
		select {
		case <-b.p.Done():
		case <-w.ctx.Done():
			require.Fail(w.t, "a batch was neither acknowledged nor refused")
		}
		if b.p.Wait(w.ctx) != nil {
			refused = true
		} else {
			require.False(w.t, refused, "a batch was acknowledged behind one that was not")
			for i := range b.n {
				w.sent[b.first+i].acked = true
			}
		}
	}
}

func (w *world) fault() faultfs.Fault {
	n := func(odds, within int) int {
		if w.rnd.IntN(odds) > 0 {
			return 0
		}
		return 1 + w.rnd.IntN(within)
	}
	return faultfs.Fault{Write: n(8, 40), Tear: n(5, 40), Sync: n(5, 40), Dir: n(8, 4)}
}

// TestCrashes kills the process or the machine at random, with failing writes and syncs in between, and checks after each
// that no acknowledged record is lost, none is invented, and nothing is called corrupt.
func TestCrashes(t *testing.T) {
	seeds, lives := uint64(25), 12
	if testing.Short() {
		seeds = 6
	}
	backends(t, func(t *testing.T, backend wal.Backend) {
		torn := 0
		// What a crash meets depends on the scheduler, so a torn tail, which few lives leave, takes as many seeds as it takes.
		for seed := uint64(0); seed < seeds || torn == 0 && seed < 20*seeds; seed++ {
			w := &world{t: t, ctx: deadline(t), rnd: rand.New(rand.NewPCG(seed, 7)), fs: faultfs.New(0), released: map[string]uint64{}}
			w.cfg = small(nil, "d", backend)
			w.cfg.MarkAfter = []time.Duration{time.Microsecond, time.Millisecond, time.Hour}[w.rnd.IntN(3)]
			for life := range lives {
				l, rep := w.open()
				w.check(l, rep)
				if rep.Torn != nil {
					torn++
				}
				if w.rnd.IntN(2) == 0 {
					w.fs.Inject(w.fault())
				}
				w.work(l)
				w.fs.Inject(faultfs.Fault{})
				if t.Failed() {
					t.Fatalf("seed %d, life %d", seed, life)
				}
			}
		}
		require.Positive(t, torn, "no crash left a torn tail")
		t.Logf("%d torn tails", torn)
	})
}
